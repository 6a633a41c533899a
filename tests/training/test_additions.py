"""What is added to an objective, in the training loop: trained, validated, gone on with, and refused."""

from pathlib import Path

import pytest
from accelerate import Accelerator

from data_prep import build
from smim import config, storage
from smim.corpora import open_corpus
from smim.errors import UserError
from smim.objectives import Objective, objective_class
from smim.objectives.contrast import Contrast
from smim.objectives.pairs import Pairs
from smim.objectives.second_view import SecondView
from smim.text.corpus import Corpus
from smim.training import checkpoint
from smim.training.args import TrainArgs
from smim.training.run import Run
from smim.training.trainer import Trainer
from smim.vectors.corpus import VectorCorpus
from tests.models import sentence_args, vector_args
from tests.training.conftest import read_metrics
from tests.training.test_resume import outcome

ALL = {"contrast": Contrast(0.5), "second_view": SecondView(2.0), "pairs": Pairs(0.5, loss="both")}
NAMES = {"contrast", "second_view", "pair_contrast", "pair_reconstruction"}


@pytest.fixture
def viewed(viewed_corpus: list[str]) -> Corpus:
    directory, teacher = (setting.partition("=")[2] for setting in viewed_corpus)
    return open_corpus(directory, teacher=teacher)


def trainer(corpus: Corpus, run_dir: Path, objective: Objective, **settings) -> Trainer:
    set_up = {"batch_size": 8, "precision": "fp32", "log_every": 1, "learning_rate": 0.01, "trackers": []}
    return Trainer(
        corpus,
        sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12, embedding_dropout=0.0),
        objective,
        TrainArgs(**{**set_up, **settings}),
        accelerator=Accelerator(cpu=True),
        run_dir=run_dir,
    )


def fit(corpus: Corpus, run_dir: Path, objective: Objective, **settings) -> list[dict]:
    trainer(corpus, run_dir, objective, **settings).fit()
    return read_metrics(run_dir)


@pytest.mark.parametrize("loss", ["similarities", "vector", "head"])
def test_codes_learn_what_the_teacher_says_and_validation_shows_it(viewed, tmp_path, loss):
    objective = objective_class("autoencoder")(second_view=SecondView(weight=10.0, loss=loss))
    lines = fit(viewed, tmp_path, objective, max_steps=60)
    trained, validated = ([line for line in lines if line["split"] == split] for split in ("train", "valid"))
    first, last = (sum(line["second_view"] for line in lines) for lines in (trained[:5], trained[-5:]))
    assert last < 0.5 * first
    assert all(line["second_view"] > 0 for line in validated)


@pytest.mark.parametrize("added", [ALL, {"second_view": SecondView(2.0, loss="head")}], ids=["all", "head"])
def test_a_run_with_them_goes_on_as_if_it_had_not_stopped(viewed, tmp_path, added):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    objective = objective_class("amim")(**added)
    fit(viewed, whole, objective, max_steps=10)
    fit(viewed, stopped, objective, max_steps=5)
    fit(viewed, stopped, objective, max_steps=10, resume="auto")
    assert outcome(stopped) == outcome(whole)
    critics = [
        checkpoint.list_checkpoints(each / "checkpoints")[-1] / "critic.safetensors" for each in (whole, stopped)
    ]
    assert [path.exists() for path in critics] == [added is not ALL] * 2
    assert added is ALL or storage.sha256(critics[0]) == storage.sha256(critics[1])


def test_a_run_without_them_is_another_run(viewed, tmp_path):
    fit(viewed, tmp_path, objective_class("amim")(**ALL), max_steps=5)
    with pytest.raises(UserError, match=r"objective\.contrast\.weight: 0\.5 there, 0\.0 here"):
        trainer(viewed, tmp_path, objective_class("amim")(), max_steps=5, resume="auto")


def test_the_model_says_what_was_added(corpus, tmp_path):
    fit(corpus, tmp_path, objective_class("amim")(contrast=Contrast(0.5)), max_steps=5)
    assert storage.read_json(tmp_path / "model" / "config.json")["training"]["settings"] == {"contrast.weight": 0.5}


def test_a_code_is_told_from_those_that_are_seen_with_it_at_once(corpus, tmp_path):
    cmim = objective_class("amim")(contrast=Contrast(1.0))
    apart = fit(corpus, tmp_path / "apart", cmim, max_steps=3, accumulation_steps=8)
    together = fit(corpus, tmp_path / "together", cmim, max_steps=3)
    assert [line["contrast"] for line in apart[:3]] == [0, 0, 0] and all(line["contrast"] > 0 for line in together)


def test_they_are_trained_in_bf16(viewed, tmp_path):
    lines = fit(viewed, tmp_path, objective_class("amim")(**ALL), max_steps=3, precision="bf16")
    assert set(lines[0]) >= NAMES


def test_cmim_trains_on_two_processes(train, tmp_path):
    finished = train("objective=cmim", "train.max_steps=3", processes=2)
    assert finished.returncode == 0, finished.stderr
    assert all(line["contrast"] > 0 for line in read_metrics(tmp_path / "run"))


def test_what_the_corpus_lacks_is_said_before_training_in_one_message(train, tmp_path):
    finished = train("objective.second_view.weight=2", "objective.pairs.weight=1")
    assert finished.returncode == 2 and "Traceback" not in finished.stderr
    assert "objective.second_view.weight=2.0 needs a teacher's vectors" in finished.stderr
    assert "objective.pairs.weight=1.0 needs a second sentence of each row" in finished.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_vectors_have_no_second_view(tmp_path):
    build.main(config.compose("build", [f"output={tmp_path / 'gmm'}", "corpus=gmm", "corpus.train=320"]))
    with pytest.raises(UserError, match=r"objective\.second_view is for sentences, but .*gmm holds vectors"):
        Run(
            VectorCorpus.open(tmp_path / "gmm"),
            vector_args(latent_dim=2, hidden_dim=6),
            objective_class("amim")(second_view=SecondView(1.0)),
            TrainArgs(trackers=[]),
            accelerator=Accelerator(cpu=True),
            run_dir=tmp_path / "run",
        )
