"""A prior that is fitted to a trained model's codes: where it lies, and that nothing else of the model changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import smim
from smim.cli import app
from smim.errors import UserError
from smim.fitted_prior import fit_prior
from smim.model.directory import load_model, save_model
from smim.text.corpus import Corpus

TEXTS = ["a bank lost shares", "her brother sold the new law"]


def test_its_components_lie_around_codes_of_training_sentences(
    tiny_model: Path, corpus: Corpus, tmp_path: Path
) -> None:
    fit_prior(tiny_model, corpus, tmp_path / "fitted", components=7, spread=0.25)
    old, new = (smim.load(each, device="cpu") for each in (tiny_model, tmp_path / "fitted"))
    log_weights, gaussians = new.autoencoder.prior.components()
    codes = old.encode(corpus.split("train").texts())
    distances = np.abs(gaussians.mean.detach().numpy()[:, None] - codes).max(-1)
    assert distances.min(1).max() < 1e-5 and len(set(distances.argmin(1))) == 7
    np.testing.assert_allclose(log_weights.detach().exp(), [1 / 7] * 7, rtol=1e-5)
    deviations = gaussians.standard_deviation.detach().numpy()
    np.testing.assert_allclose(deviations, np.tile(0.25 * codes.std(0), (7, 1)), rtol=0.02)
    # What it does not concern stays.
    np.testing.assert_array_equal(old.encode(TEXTS), new.encode(TEXTS))
    assert old.reconstruct(TEXTS) == new.reconstruct(TEXTS) and old.hash != new.hash


@pytest.mark.parametrize("source", ["tiny_model", "meaning_model"])
def test_sample_draws_from_it_by_default_and_in_place_is_the_same(
    source: str, corpus: Corpus, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model_dir = request.getfixturevalue(source)
    old, tokenizer, config = load_model(model_dir)
    save_model(tmp_path / "model", old, tokenizer, training=config["training"], use=config["use"])
    fit_prior(model_dir, corpus, tmp_path / "fitted", components=9)
    ended = CliRunner().invoke(app, ["fit-prior", str(tmp_path / "model"), str(corpus.directory), "--components", "9"])
    assert ended.exit_code == 0 and "draws from its prior" in ended.output
    model = smim.load(tmp_path / "model", device="cpu")
    assert model.hash == smim.load(tmp_path / "fitted", device="cpu").hash
    assert model.sample(6, seed=2) == model.sample(6, prior=True, seed=2) != model.sample(6, seed=3)
    torch.manual_seed(0)
    drawn = model.draw_codes(400, None, seed=1)
    codes = torch.as_tensor(model.encode(corpus.split("train").texts()))
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.8 * float(codes.std(0).max()))
    assert torch.cdist(drawn, codes).min(1).values.median() < torch.pdist(codes).median()


def test_a_filter_says_which_sentences(tiny_model: Path, corpus: Corpus, tmp_path: Path) -> None:
    split = corpus.split("train")
    topics = split.labels("topic")
    count = topics.count(topics[0])
    fit_prior(tiny_model, corpus, tmp_path / "fitted", components=count, where={"topic": topics[0]})
    means = smim.load(tmp_path / "fitted", device="cpu").autoencoder.prior.means.detach().numpy()
    texts = [text for text, topic in zip(split.texts(), topics, strict=True) if topic == topics[0]]
    codes = smim.load(tiny_model, device="cpu").encode(texts)
    assert 1 < count < 40 and np.abs(means[:, None] - codes).max(-1).min(1).max() < 1e-5
    with pytest.raises(UserError, match=f"{count} sentences .* can be used, but {count + 1} are needed"):
        fit_prior(tiny_model, corpus, tmp_path / "more", components=count + 1, where={"topic": topics[0]})


def test_mistakes_are_named_and_change_nothing(tiny_model: Path, corpus: Corpus, tmp_path: Path) -> None:
    before = smim.load(tiny_model).hash
    for wrong, message in (
        ({"components": 0}, "components is 0"),
        ({"components": 10_000}, "40 sentences .* can be used, but 10,000 are needed"),
        ({"spread": 0.0}, "spread is 0"),
        ({"spread": float("nan")}, "spread is nan"),
        ({"where": {"kind": "b"}}, "kind"),
    ):
        with pytest.raises(UserError, match=message):
            fit_prior(tiny_model, corpus, **wrong)
    assert smim.load(tiny_model).hash == before
