"""Trainings that begin with the weights of a trained model."""

from pathlib import Path

import pytest
from accelerate import Accelerator
from omegaconf import OmegaConf
from safetensors.torch import load_file

from smim import config
from smim.errors import UserError
from smim.fitted_prior import fit_prior
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model, read_settings, save_model
from smim.model.registry import make_args
from smim.objectives import objective_class
from smim.objectives.second_view import SecondView
from smim.text.corpus import Corpus
from smim.train import expand, main
from smim.training.args import TrainArgs
from smim.training.initial import Initial
from smim.training.run import Run
from smim.training.validation import validate
from tests.models import sentence_args
from tests.scripts import run_script
from tests.training.conftest import read_metrics

ENGLISH = "english-small"


def begun(corpus: Corpus, initial: Initial, run_dir: Path, second_view=None, **settings) -> Run:
    args = TrainArgs(**{"batch_size": 8, "precision": "fp32", "trackers": [], **settings})
    objective = objective_class("amim")(second_view=second_view or SecondView())
    return Run(
        corpus, initial.args, objective, args, accelerator=Accelerator(cpu=True), run_dir=run_dir, initial=initial
    )


@pytest.mark.parametrize("name", ["meaning_model", "tiny_model"])
def test_a_training_begins_with_the_weights_and_the_loss_of_the_initial_model(name, request, corpus, tmp_path) -> None:
    directory = request.getfixturevalue(name)
    run = begun(corpus, Initial.open(str(directory)), tmp_path)
    model, _, _ = load_model(directory)
    for parameter, weight in model.state_dict().items():
        assert run.model.state_dict()[parameter].equal(weight)
    here = {"accelerator": run.accelerator, "seed": 0, "max_length": None, "critic": None}
    losses = [validate(each, run.objective, run.valid_split, **here)["loss"] for each in (run.model, model)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("prior", ["vamp", "gaussian_mixture"])
def test_a_learned_prior_of_the_initial_model_stays(prior, corpus, tmp_path) -> None:
    args = sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12, prior=prior, num_prior_components=3)
    model = SentenceAutoencoder(args, vocabulary_size=corpus.input_size)
    save_model(tmp_path / "model", model, corpus.tokenizer, training={"objective": "amim"})
    run = begun(corpus, Initial.open(str(tmp_path / "model")), tmp_path / "run")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert all(run.model.state_dict()[name].equal(weight) for name, weight in weights.items() if "prior" in name)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_is_trained_on_with_an_average_and_gone_on_with(processes, meaning_model, tiny_corpus, tmp_path) -> None:
    settings = [
        *(f"model.init={meaning_model}", f"corpus.dir={tiny_corpus}", f"run.dir={tmp_path / 'run'}"),
        *("objective.second_view.hold=true", "train.ema_decay=0.5", "train.batch_size=8", "train.precision=fp32"),
        *("train.learning_rate=0.01", "train.trackers=[]", "train.log_every=1"),
    ]
    assert run_script("smim/train.py", [*settings, "train.max_steps=3"], processes=processes).returncode == 0
    again = [*settings, "train.max_steps=6", "train.resume=auto"]
    assert run_script("smim/train.py", again, processes=processes).returncode == 0
    steps = [line["step"] for line in read_metrics(tmp_path / "run") if line["split"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]
    old, new = (load_file(each / "model.safetensors") for each in (meaning_model, tmp_path / "run" / "model"))
    same = {name for name, weight in old.items() if new[name].equal(weight)}
    assert {name for name in old if name.startswith("encoder.meaning.")} <= same < set(old)
    assert read_settings(tmp_path / "run" / "model") == read_settings(meaning_model)
    written = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert (written.model.init, written.model.latent_dim) == (str(meaning_model), 24)
    assert make_args(written.model) == read_settings(meaning_model)


def test_a_checkpoint_is_gone_on_from_with_the_same_initial_model_alone(meaning_model, corpus, tmp_path) -> None:
    begun(corpus, Initial.open(str(meaning_model)), tmp_path / "run").save()
    assert begun(corpus, Initial.open(str(meaning_model)), tmp_path / "run", resume="auto").step == 0
    model, tokenizer, _ = load_model(meaning_model)
    save_model(tmp_path / "other", model, tokenizer, training={"objective": "vae"})
    with pytest.raises(UserError, match=r"another run \(model\.init: "):
        begun(corpus, Initial.open(str(tmp_path / "other")), tmp_path / "run", resume="auto")


def test_the_model_is_used_as_the_initial_one_but_for_its_samples(meaning_model, tmp_path) -> None:
    model, tokenizer, _ = load_model(meaning_model)
    use = {"metric": "inner_product", "perturb_scale": 3.0, "sample": {"standard_deviation": 7.0}}
    save_model(tmp_path / "model", model, tokenizer, training={"objective": "amim"}, use=use)
    inherited = Initial.open(str(tmp_path / "model")).use
    assert (inherited["metric"], inherited["perturb_scale"]) == ("inner_product", 3.0) and "sample" not in inherited


def test_a_prior_that_was_fitted_after_the_training_is_left_out(meaning_model, corpus, tmp_path) -> None:
    fit_prior(meaning_model, corpus, tmp_path / "fitted", components=5)
    initial = Initial.open(str(tmp_path / "fitted"))
    assert initial.args == read_settings(meaning_model) != read_settings(tmp_path / "fitted")
    run = begun(corpus, initial, tmp_path / "run")
    assert run.model.embedding.weight.equal(load_model(meaning_model)[0].embedding.weight)


def test_a_corpus_of_another_tokenizer_is_refused_with_the_command(corpus, tmp_path) -> None:
    with pytest.raises(UserError, match=r"smim prepare \.\.\. corpus\.tokenizer\.dir=english-small"):
        begun(corpus, Initial.open(ENGLISH), tmp_path)


def test_a_trained_meaning_part_is_not_taught_from_its_beginning(meaning_model, corpus, tmp_path) -> None:
    with pytest.raises(UserError, match="epochs_alone=2 is for models with random initial"):
        begun(corpus, Initial.open(str(meaning_model)), tmp_path, second_view=SecondView(weight=1.0, epochs_alone=2))


def test_a_name_of_no_model_is_refused() -> None:
    with pytest.raises(UserError, match=r"come with the package: english-small"):
        main(config.compose("train", ["model.init=english-smal", "corpus.dir=nowhere"]))


@pytest.mark.parametrize("override", ["model.latent_dim=64", "model=transformer", "model.encoder.name=gru"])
def test_settings_of_the_model_beside_it_are_refused(override) -> None:
    with pytest.raises(UserError, match=f"^{override} has no effect, because model.init=english-small"):
        expand(["model.init=english-small", "objective=amim", override])
    assert expand(["model.init=null", override]) == ["model.init=null", override]
