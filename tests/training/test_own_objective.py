"""An objective of two terms that this file alone knows: it is trained, validated, kept, and gone on with."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from accelerate import Accelerator

import smim
from smim.objectives import OBJECTIVES, Draw, Objective, Terms, objective_class
from smim.text.corpus import Corpus
from smim.training.args import TrainArgs
from smim.training.trainer import Trainer
from tests.models import sentence_args
from tests.training.conftest import read_metrics
from tests.training.test_resume import outcome


@dataclass(frozen=True)
class TwoTerms(Objective):
    """-log p(x|z), but for a factor, and the squared distance of z from 0."""

    name: str = "two_terms"

    def loss(self, draw: Draw) -> Terms:
        loss = 0.5 * draw.reconstruction + draw.z.square().sum(-1)
        return {"loss": loss, "reconstruction": draw.reconstruction}


@dataclass(frozen=True)
class OfMeans(TwoTerms):
    """The same at the means."""

    deterministic: ClassVar[bool] = True
    name: str = "of_means"


@pytest.fixture(params=[TwoTerms, OfMeans])
def name(request, monkeypatch) -> str:
    monkeypatch.setitem(OBJECTIVES, request.param.name, request.param)
    return request.param.name


def fit(corpus: Corpus, run_dir: Path, name: str, **settings) -> None:
    Trainer(
        corpus,
        sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12),
        objective_class(name)(),
        TrainArgs(batch_size=8, precision="fp32", log_every=1, checkpoint_every=3, trackers=[], **settings),
        accelerator=Accelerator(cpu=True),
        run_dir=run_dir,
    ).fit()


def test_two_terms_are_enough_to_train_and_validate(corpus, tmp_path, name):
    fit(corpus, tmp_path, name, max_epochs=4)
    lines = read_metrics(tmp_path)
    validated = [line for line in lines if line["split"] == "valid"]
    assert validated[-1]["loss"] < validated[0]["loss"]
    assert all({"loss", "reconstruction", "kl", "clamped"} <= line.keys() and line["kl"] > 0 for line in lines)
    assert all({"active_units", "active_units_relative"} <= line.keys() for line in validated)


def test_its_model_knows_whether_codes_are_means(corpus, tmp_path, name):
    fit(corpus, tmp_path, name, max_epochs=1)
    model = smim.load(tmp_path / "model", device="cpu")
    assert model.config["training"]["objective"] == name
    assert model.deterministic is objective_class(name).deterministic


def test_its_run_goes_on_as_if_it_had_not_stopped(corpus, tmp_path, name):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(corpus, whole, name, max_steps=10)
    fit(corpus, stopped, name, max_steps=5)
    fit(corpus, stopped, name, max_steps=10, resume="auto")
    assert outcome(stopped) == outcome(whole)
