"""A language model: the decoder at z = 0, whatever the encoder is, with its exact likelihood in the report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy.special import logsumexp

import smim
from smim.errors import UserError
from smim.evaluation import information, likelihood
from smim.evaluation.information import InformationArgs
from smim.evaluation.likelihood import LikelihoodArgs
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model
from smim.objectives.language_model import LanguageModel
from smim.text.corpus import Corpus
from smim.text.tokenizer import EOS_ID, SOS_ID
from smim.training.args import TrainArgs
from smim.training.initial import Initial
from smim.training.trainer import Trainer
from tests.evaluation.conftest import make_job
from tests.models import sentence_args
from tests.objectives.checks import vector_model
from tests.training.conftest import read_metrics
from tests.training.test_resume import outcome


def fit(corpus: Corpus, run_dir: Path, **settings) -> Path:
    Trainer(
        corpus,
        sentence_args(latent_dim=2, hidden_dim=16, embedding_dim=12),
        LanguageModel(),
        TrainArgs(batch_size=8, precision="fp32", log_every=1, trackers=[], **settings),
        accelerator=Accelerator(cpu=True),
        run_dir=run_dir,
    ).fit()
    return run_dir / "model"


@pytest.fixture(scope="module")
def trained(tiny_corpus, tmp_path_factory) -> Path:
    return fit(Corpus.open(tiny_corpus), tmp_path_factory.mktemp("lm"), max_steps=30, learning_rate=0.01)


@pytest.fixture
def plots(tmp_path) -> Path:
    (tmp_path / "plots").mkdir()
    return tmp_path / "plots"


@torch.no_grad()
def by_hand(model: SentenceAutoencoder, ids: list[int]) -> tuple[float, float]:
    """-log p of a sentence without and with `<eos>`, one word after the other from the state of z = 0."""
    state, token, costs = model.start(torch.zeros(1, model.args.latent_dim)), SOS_ID, []
    for following in [*ids, EOS_ID]:
        logits, state = model.next_token(torch.tensor([token]), state)
        values = logits[0].double().numpy()
        costs.append(logsumexp(values) - values[following])
        token = following
    return sum(costs[:-1]), sum(costs)


def test_its_report_has_the_exact_likelihood_of_the_decoder_at_0(trained, tiny_corpus, tmp_path, plots):
    job = make_job(trained, tiny_corpus, tmp_path)
    section = likelihood.evaluate(job, LikelihoodArgs(), plots)
    sentences = [ids.tolist() for ids in job.split.ids(range(len(job.split)))]
    words, with_eos = np.array([by_hand(job.model.autoencoder, ids) for ids in sentences]).T
    num_tokens = sum(map(len, sentences))
    for bound in ("_elbo", "_iw"):
        value = {name: section.metrics[f"{name}{bound}"].value for name in ("nll", "nll_with_eos", "ppl_with_eos")}
        assert value["nll"] == pytest.approx(words.mean(), rel=1e-5)
        assert value["nll_with_eos"] == pytest.approx(with_eos.mean(), rel=1e-5)
        perplexity = np.exp(with_eos.sum() / (num_tokens + len(sentences)))
        assert value["ppl_with_eos"] == pytest.approx(perplexity, rel=1e-5)
    assert section.metrics.keys().isdisjoint({"nll", "nll_train_prior"}) and "exact" in json.dumps(
        section.tables[0].rows
    )
    assert {path.name for path in plots.iterdir()} == set(section.plots) == {"nll_histograms.png"}


@torch.no_grad()
def test_it_does_not_depend_on_the_encoder(trained, tiny_corpus, tmp_path, plots):
    job = make_job(trained, tiny_corpus, tmp_path)
    before = likelihood.sentence_reconstruction(job, num_samples=1)[0].with_eos
    for parameter in job.model.autoencoder.encoder.parameters():
        parameter.normal_()
    job = make_job(trained, tiny_corpus, tmp_path, work=tmp_path / "other", model=job.model)
    assert np.array_equal(likelihood.sentence_reconstruction(job, num_samples=1)[0].with_eos, before)
    section = information.evaluate(job, InformationArgs(), plots)
    assert section.metrics.keys().isdisjoint({"kl", "mutual_information", "active_units"})


def test_training_leaves_the_encoder_as_it_is_and_validates_the_same_loss(trained, tiny_corpus, tmp_path):
    model, *_ = load_model(trained)
    assert not model.to_mean.weight.any() and not model.to_mean.bias.any()
    trained_again = load_model(fit(Corpus.open(tiny_corpus), tmp_path, max_steps=100, learning_rate=0.01))[0]
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, trained_again.encoder.state_dict()[name])
    losses = [line["loss"] for line in read_metrics(trained.parent) if line["split"] == "valid"]
    split = Corpus.open(tiny_corpus).split("valid")
    values = [by_hand(model.eval(), ids.tolist())[1] for ids in split.ids(range(len(split)))]
    assert min(losses) == pytest.approx(np.mean(values), rel=1e-5)


def test_it_continues_bit_for_bit(corpus, tmp_path):
    fit(corpus, tmp_path / "whole", max_epochs=4)
    fit(corpus, tmp_path / "stopped", max_epochs=2)
    fit(corpus, tmp_path / "stopped", max_epochs=4, resume="auto")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "stopped")


def test_from_a_trained_model_it_keeps_the_decoder_but_no_code(corpus, tmp_path, model, tiny_model):
    """With so small a step, the decoder is still the initial one."""
    initial = Initial.open(str(tiny_model))
    args = {"batch_size": 8, "precision": "fp32", "trackers": [], "learning_rate": 1e-7, "max_steps": 1}
    where = {"accelerator": Accelerator(cpu=True), "run_dir": tmp_path}
    Trainer(corpus, initial.args, LanguageModel(), TrainArgs(**args), initial=initial, **where).fit()
    language_model, *_ = load_model(tmp_path / "model")
    ids = corpus.split("test").ids([0])[0].tolist()
    assert by_hand(language_model, ids) == pytest.approx(by_hand(model.autoencoder, ids), rel=1e-5)
    with torch.no_grad():
        assert not language_model.posterior(corpus.split("test").batch([0, 1])).mean.any()


def test_it_samples_at_0(trained):
    model = smim.load(trained, device="cpu")
    assert model.use.sample.standard_deviation == 0
    assert not model.draw_codes(3, model.use.sample.spread(), seed=0).any()


def test_what_has_no_code_is_refused():
    superposition = sentence_args(encoder="superposition", decoder="gru", latent_dim=16, hidden_dim=16)
    with pytest.raises(UserError, match=r"another encoder than model.encoder=superposition"):
        LanguageModel().prepare(SentenceAutoencoder(superposition, vocabulary_size=20))
    model = vector_model()
    LanguageModel().prepare(model)
    assert {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        "decoder",
        "to_vector",
        "to_vector_log_variance",
    }
