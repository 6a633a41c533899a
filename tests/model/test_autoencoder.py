import json
from dataclasses import replace

import pytest
import torch

from smim import config
from smim.errors import UserError
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model, save_model
from smim.model.registry import make_args
from smim.text.batch import collate
from smim.text.tokenizer import EOS_ID, SOS_ID
from smim.text.words import WordTokenizer
from tests.models import sentence_args

VOCABULARY = 30


@pytest.fixture(scope="module")
def model() -> SentenceAutoencoder:
    torch.manual_seed(0)
    args = sentence_args(latent_dim=6, hidden_dim=16, embedding_dim=8)
    return SentenceAutoencoder(args, vocabulary_size=VOCABULARY).eval()


@pytest.mark.parametrize(
    ("latent_dim", "hidden_dim", "embedding_dim", "vocabulary", "millions"),
    [
        (16, 512, 300, 9_877, 10.6),  # PTB
        (512, 512, 300, 9_877, 12.1),
        (32, 1024, 512, 19_730, 39.9),  # Yelp15
        (32, 1024, 512, 37_165, 66.7),  # Yahoo
        (1024, 1024, 512, 89_247, 152.9),  # WT103
        (1024, 1024, 512, 105_965, 178.6),  # all of them
    ],
)
def test_parameter_counts_are_the_published_ones(latent_dim, hidden_dim, embedding_dim, vocabulary, millions):
    args = sentence_args(latent_dim=latent_dim, hidden_dim=hidden_dim, embedding_dim=embedding_dim)
    with torch.device("meta"):
        count = SentenceAutoencoder(args, vocabulary_size=vocabulary).num_parameters
    # The published figures are rounded in some rows and cut in others: 39.97 stands as 39.9.
    assert millions in (round(count / 1e6, 1), int(count / 1e5) / 10)


@pytest.mark.parametrize(
    ("group", "vocabulary", "without_embedding", "millions"),
    [
        ("gru", 9_877, 9.14, 12.11),
        ("transformer", 9_877, 9.10, 11.63),
        ("transformer_large", 32_000, 48.68, 65.06),
        ("superposition", 9_877, 2.06, 3.32),
    ],
)
def test_parameter_counts_are_those_that_the_configurations_state(group, vocabulary, without_embedding, millions):
    args = make_args(config.compose("train", [f"model={group}"]).model)
    with torch.device("meta"):
        model = SentenceAutoencoder(args, vocabulary_size=vocabulary)
    assert model.num_parameters / 1e6 == pytest.approx(millions, abs=0.005)
    rest = model.num_parameters - model.embedding.weight.numel()
    assert rest / 1e6 == pytest.approx(without_embedding, abs=0.005)


def test_padding_changes_neither_posterior_nor_log_prob(model):
    short, long = [5, 6], [7, 8, 9, 10, 11]
    alone, together = collate([short], [0]), collate([short, long], [0, 1])
    z = torch.randn(2, 6)
    torch.testing.assert_close(model.posterior(alone).mean, model.posterior(together).mean[:1])
    torch.testing.assert_close(model.log_prob(alone, z[:1]).words, model.log_prob(together, z).words[:1])


def test_a_batch_of_fixed_shape_has_the_same_log_prob_and_gradients(model):
    batch, z = collate([[5, 6, 7], [8], [9, 10, 11, 12, 13]], range(3)), torch.randn(3, 6)
    found = []
    for each in (batch, replace(batch.padded_to(9), fixed_shape=True)):
        log_prob = model.log_prob(each, z)
        (torch.tensor([1.0, -2.0, 0.5]) * log_prob.with_eos).sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([log_prob.words, log_prob.eos, log_prob.with_eos, *gradients])
        model.zero_grad()
    torch.testing.assert_close(found[1], found[0])


def test_log_prob_is_the_sum_over_next_token_distributions(model):
    sentence, z = [5, 6, 7], torch.randn(1, 6)
    state = model.start(z)
    expected = []
    for token, target in zip([SOS_ID, *sentence], [*sentence, EOS_ID], strict=True):
        logits, state = model.next_token(torch.tensor([token]), state)
        expected.append(torch.log_softmax(logits, -1)[0, target])
    log_prob = model.log_prob(collate([sentence], [0]), z)
    torch.testing.assert_close(log_prob.tokens[0], torch.stack(expected))
    torch.testing.assert_close(log_prob.eos[0], expected[-1])
    torch.testing.assert_close(log_prob.words[0], sum(expected[:-1]))


def test_encoder_reads_the_sentence_reversed_with_sos_last(model):
    with torch.no_grad():
        state = model.encoder(model.embedding(torch.tensor([[7, 6, 5, SOS_ID]])), torch.tensor([4]))
        torch.testing.assert_close(model.to_mean(state), model.posterior(collate([[5, 6, 7]], [0])).mean)


def test_log_variance_never_falls_below_the_clamp():
    torch.manual_seed(0)
    model = SentenceAutoencoder(sentence_args(latent_dim=6, min_log_variance=0.05), vocabulary_size=VOCABULARY)
    log_variance = model.posterior(collate([[5, 6], [7, 8]], [0, 1])).log_variance.detach()
    assert log_variance.min() == pytest.approx(0.05) and log_variance.max() > 0.05


def test_several_mistakes_are_listed_together():
    with pytest.raises(UserError, match=r"latent_dim is 0.*embedding_dropout is 1"):
        sentence_args(latent_dim=0, embedding_dropout=1)


def _saved(model, directory):
    tokenizer = WordTokenizer.train([" ".join(f"w{i}" for i in range(VOCABULARY - 4))], splitter="whitespace")
    save_model(directory, model, tokenizer, training={"objective": "amim"})


def test_saved_and_loaded_model_has_the_same_weights(model, tmp_path):
    _saved(model, tmp_path / "model")
    loaded, _, config = load_model(tmp_path / "model")
    assert config["num_parameters"] == model.num_parameters
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


def test_truncated_weights_are_refused(model, tmp_path):
    _saved(model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="missing or damaged"):
        load_model(tmp_path / "model")


def test_a_model_of_an_older_format_is_refused(model, tmp_path):
    _saved(model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "format": 1, "model": {"name": "gru", "latent_dim": 6}}))
    with pytest.raises(UserError, match="has model format 1, but this version reads 2 and 3; train it again"):
        load_model(tmp_path / "model")


def test_a_run_directory_is_told_apart_from_its_model(model, tmp_path):
    _saved(model, tmp_path / "run" / "model")
    with pytest.raises(UserError, match=r"did you mean .*run/model"):
        load_model(tmp_path / "run")
