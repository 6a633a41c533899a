"""How long a run is: a budget of time, a stop before its end, and another length at a resume."""

import signal
import time
from pathlib import Path

import pytest
from accelerate import Accelerator

import smim
from smim.objectives import objective_class
from smim.text.corpus import Corpus
from smim.training import checkpoint
from smim.training.args import TrainArgs
from smim.training.run import Interrupted
from smim.training.schedule import make_schedule
from smim.training.trainer import Trainer
from tests.models import sentence_args
from tests.training.conftest import read_metrics, read_status

COSINE = {"schedule": "cosine", "learning_rate": 1e-2, "min_learning_rate": 1e-5}


def args_of(**settings) -> TrainArgs:
    return TrainArgs(**{"batch_size": 8, "precision": "fp32", "log_every": 1, "trackers": [], **settings})


def fit(
    corpus: Corpus | Path, run_dir: Path, kind: type[Trainer] = Trainer, started: float | None = None, **settings
) -> None:
    kind(
        corpus if isinstance(corpus, Corpus) else Corpus.open(corpus),
        sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12),
        objective_class("amim")(),
        args_of(**settings),
        accelerator=Accelerator(cpu=True),
        run_dir=run_dir,
        started=started,
    ).fit()


def lines(run_dir: Path, split: str) -> list[dict]:
    return [line for line in read_metrics(run_dir) if line["split"] == split]


def training_of(run_dir: Path) -> dict:
    """What the run's model says of how it came about."""
    return smim.load(run_dir / "model", device="cpu").config["training"]


class Stopped(Trainer):
    """A run that gets a signal after each line of log."""

    def report(self) -> None:
        super().report()
        self.on_signal(signal.SIGTERM, None)


def test_a_budget_within_the_first_epoch_ends_the_cosine_the_training_and_a_validation(long_corpus, tmp_path, capsys):
    started = time.monotonic()
    fit(long_corpus, tmp_path, **COSINE, warmup_steps=10**6, batch_size=2, max_minutes=0.05)
    assert 2.5 < time.monotonic() - started < 60
    trained, [validated] = lines(tmp_path, "train"), lines(tmp_path, "valid")
    assert validated["step"] == trained[-1]["step"] and validated["epoch"] == 1
    assert validated["learning_rate"] == pytest.approx(1e-5)
    rates = [line["learning_rate"] for line in trained]
    # The warm-up that was asked for would not have come this far.
    assert max(rates) > 5e-3 and rates.index(max(rates)) < len(rates) / 2
    assert "unfinished" not in training_of(tmp_path)
    assert "epochs, fit into 0.05 min" in capsys.readouterr().err


def test_all_processes_end_a_run_together_when_its_time_is_over(train, tmp_path):
    run_dir = tmp_path / "run"
    budget = ["train.schedule=constant", "train.max_minutes=0.05", "train.max_epochs=100000"]
    ended = train(*budget, processes=2)
    assert ended.returncode == 0, ended.stderr
    assert read_status(run_dir)["status"] == "finished"
    assert lines(run_dir, "valid")[-1]["step"] == lines(run_dir, "train")[-1]["step"] == read_status(run_dir)["step"]
    assert "unfinished" not in training_of(run_dir)


class SlowToValidate(Trainer):
    """A run whose every validation takes an hour of its time."""

    def write_metrics(self, split: str, values: dict) -> None:
        super().write_metrics(split, values)
        self.budget.started -= 3600 * (split == "valid")


def test_a_run_whose_time_a_validation_took_makes_no_further_step(corpus, tmp_path):
    fit(corpus, tmp_path, SlowToValidate, max_minutes=30.0)
    assert [(line["step"], line["split"]) for line in read_metrics(tmp_path)][4:] == [(5, "train"), (5, "valid")]


def test_a_budget_that_is_over_before_the_first_step_takes_one_and_warns(corpus, tmp_path, capsys):
    fit(corpus, tmp_path, max_minutes=1.0, started=time.monotonic() - 60)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 1]
    assert training_of(tmp_path)["step"] == 1
    assert "warning: only about 1 step, 0.2 epochs, fit into 1 min" in capsys.readouterr().err


def test_a_budget_that_is_not_used_up_changes_no_loss(corpus, tmp_path):
    for name, budget in (("without", None), ("with", 1000.0)):
        fit(corpus, tmp_path / name, **COSINE, max_steps=12, max_minutes=budget)
    assert read_metrics(tmp_path / "with") == read_metrics(tmp_path / "without")


@pytest.mark.parametrize("schedule", [COSINE, {}], ids=["cosine", "plateau"])
def test_a_run_that_is_over_goes_on_with_another_length(corpus, tmp_path, capsys, schedule):
    fit(corpus, tmp_path, **schedule, max_steps=7)
    capsys.readouterr()
    fit(corpus, tmp_path, **schedule, max_steps=14, resume="auto")
    said = capsys.readouterr().err
    assert "another length: train.max_steps: 7 there, 14 here" in said and "warning" not in said
    assert ("the cosine continues as one of the new length" in said) == bool(schedule)
    short, long = (make_schedule(args_of(**schedule), total_steps=total) for total in (7, 14))
    rates = [line["learning_rate"] for line in lines(tmp_path, "train")]
    # A line has the rate of the step after it.
    expected = [short.rate(step) for step in range(1, 8)] + [long.rate(step) for step in range(8, 15)]
    assert rates == pytest.approx(expected)


def test_a_resumed_run_has_its_own_time(corpus, tmp_path, capsys):
    fit(corpus, tmp_path, **COSINE, max_steps=7)
    fit(corpus, tmp_path, **COSINE, max_minutes=1e-6, resume="auto")
    assert lines(tmp_path, "train")[-1]["step"] == 8
    assert "train.max_minutes: None there, 1e-06 here; the cosine continues" in capsys.readouterr().err


def test_each_stop_before_the_first_validation_leaves_what_was_learned_until_then(long_corpus, tmp_path):
    how = {"batch_size": 2, "log_every": 110}
    for stop in (1, 2):
        with pytest.raises(Interrupted):
            fit(long_corpus, tmp_path, Stopped, **how, resume="auto")
        training = training_of(tmp_path)
        assert training["unfinished"] and training["step"] == 110 * stop + 1
    fit(long_corpus, tmp_path, **how, max_steps=223, resume="auto")
    assert "unfinished" not in training_of(tmp_path)


def test_a_run_from_another_ones_checkpoint_has_a_model_though_it_is_not_better(corpus, tmp_path):
    fit(corpus, tmp_path / "one", max_steps=6)
    [*_, saved] = checkpoint.list_checkpoints(tmp_path / "one" / "checkpoints")
    still = {"learning_rate": 1e-30, "min_learning_rate": 0.0}
    fit(corpus, tmp_path / "two", **still, max_steps=7, resume=str(saved))
    assert training_of(tmp_path / "two")["step"] == 7
