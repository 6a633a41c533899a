"""A model with a meaning part, adapted to texts of one's own."""

import csv
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import smim
from smim.adapting import _Rate, adapt
from smim.cli import app
from smim.errors import UserError
from smim.search import index_texts
from smim.text.batch import collate

THINGS = ["shares", "a small house", "the new law"]
PARTS = ["a bank sold", "the company bought", "her brother lost", "the old minister wrote about"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Texts of three sentences of which each is about two of three things, the same in all of a text."""
    chance = Random(0)

    def sentence(thing: str) -> str:
        return f"{chance.choice(PARTS)} {thing}"

    found = []
    for i in range(320):
        thing = THINGS[i % 3]
        found.append("\n\n".join(sentence(thing) for _ in range(4)))
    return found


@pytest.fixture(scope="module")
def adapted(texts: list[str], meaning_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("adapted") / "model"
    result = adapt(meaning_model, texts, output, minutes=1, seed=1)
    assert len(result.held_out) == 32 and set(result.held_out) <= set(texts)
    assert len(result.hit_1) == 6
    return output


def together(model: smim.SentenceModel, texts: list[str]) -> float:
    """How much nearer the meanings of two sentences of one thing are than those of two things, as cosines."""
    codes = model.encode([f"{part} {thing}" for thing in THINGS for part in PARTS])[:, :6]
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    cosines, thing = codes @ codes.T, np.repeat(np.arange(3), 4)
    same = thing[:, None] == thing
    return float(cosines[same & ~np.eye(12, dtype=bool)].mean() - cosines[~same].mean())


@torch.no_grad()
def nats(model: smim.SentenceModel, sentences: list[str]) -> float:
    """-log p(x|z) of sentences from the means of their codes, on average."""
    batch = collate(model.token_ids(sentences), range(len(sentences)))
    return -float(model.autoencoder.log_likelihood(batch, model.posterior(sentences).mean).mean())


def test_sentences_that_go_together_in_texts_come_near_each_other_and_come_back(
    texts: list[str], meaning_model: Path, adapted: Path, tmp_path: Path
) -> None:
    before, after = smim.load(meaning_model, device="cpu"), smim.load(adapted, device="cpu")
    assert together(after, texts) > together(before, texts) + 0.1
    assert nats(after, texts[0].split("\n\n")) < 0.9 * nats(before, texts[0].split("\n\n"))
    assert after.tokenizer.hash == before.tokenizer.hash and after.hash != before.hash
    about = after.config["training"]
    assert about["adapted"]["from"] == before.hash and about["adapted"]["texts"] == 320 - 32 - 16
    assert about["adapted"]["decoder_steps"] > 0
    assert after.config["model"]["prior"] == "gaussian_mixture" and len(after.sample(3)) == 3
    assert len(index_texts(after, texts, tmp_path / "index", split="sentences")) == 320


def test_what_cannot_be_adapted_is_refused(tiny_model: Path, meaning_model: Path, texts: list[str], tmp_path) -> None:
    with pytest.raises(UserError, match="no meaning part"):
        adapt(tiny_model, texts, tmp_path / "model")
    with pytest.raises(UserError, match="199 texts have more than one sentence, but at least 200 are needed"):
        adapt(meaning_model, [*texts[:199], *["a bank"] * 50], tmp_path / "model")
    with pytest.raises(UserError, match="minutes is 0"):
        adapt(meaning_model, texts, tmp_path / "model", minutes=0)
    assert not (tmp_path / "model").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not a model"):
        adapt(meaning_model, texts, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_rate_warms_up_and_ends_with_the_steps_or_the_time() -> None:
    class Optimizer:
        param_groups = [{}]  # noqa: RUF012

    clock = [100.0]
    rate = _Rate(Optimizer(), [2.0], 100, 200.0, now=lambda: clock[0])
    rates = []
    while not rate.is_over:
        rates.append(Optimizer.param_groups[0]["lr"])
        rate.step()
    assert rates[0] == pytest.approx(0.2) and max(rates) == rates[9] > 1.9 and rates[-1] < 0.01 and len(rates) == 100
    rate = _Rate(Optimizer(), [2.0], 10**9, 200.0, now=lambda: clock[0])
    clock[0] = 150.0
    rate.step()
    assert rate.progress == 0.5 and not rate.is_over
    clock[0] = 201.0
    assert rate.is_over


def test_the_command_line_adapts_and_says_which_search_finds_most(
    texts: list[str], meaning_model: Path, tmp_path: Path
) -> None:
    with open(tmp_path / "texts.csv", "w", newline="") as file:
        csv.writer(file).writerows([["body"], *([text] for text in texts)])
    output = tmp_path / "model"
    given = ["adapt", str(meaning_model), str(tmp_path / "texts.csv"), "--text-column", "body", "-o", str(output)]
    result = CliRunner().invoke(app, [*given, "--minutes", "0.1"])
    lines = result.stdout.splitlines()
    assert lines[0] == f"{output}: {meaning_model}, adapted to 288 texts", result.output
    assert re.fullmatch(r"Of held-out sentences, .*% come back word for word .* before it was .*%", lines[1])
    assert [line.strip().split("  ")[0] for line in lines[3:8]] == [
        "keywords (TF-IDF)", str(output), str(meaning_model), f"{output} and keywords (hybrid)",
        f"{meaning_model} and keywords (hybrid)",
    ]  # fmt: skip
    assert lines[8].startswith("Recommended: ")
    assert lines[9] == f"Next: smim index build {output} {tmp_path / 'texts.csv'} --text-column body -o indexes/model"
    refused = CliRunner().invoke(app, given)
    assert "exists; replace it with --force" in str(refused.exception)
