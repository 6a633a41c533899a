"""What a run's directory says of the training of its model."""

import json
from pathlib import Path
from typing import Any

import pytest

from smim.evaluation.history import history_of, train_sentences
from smim.text.corpus import Corpus

UNKNOWN = {"unfinished": None, "fall": None, "train_to_valid": None}


def run_with(directory: Path, lines: list[tuple[str, float]], status: str = "finished") -> Path:
    """The model directory of a run whose log has a line for each split and -log p(x|z)."""
    (directory / "status.json").write_text(json.dumps({"status": status, "step": 9}))
    logged = [json.dumps({"split": split, "reconstruction": value}) + "\n" for split, value in lines]
    (directory / "metrics.jsonl").write_text("".join(logged))
    return directory / "model"


def test_a_fall_is_measured_from_the_best_validation_before_the_last(tmp_path):
    losses = [("train", 60.0), ("valid", 50.0), ("valid", 40.0), ("valid", 44.0), ("train", 19.0), ("valid", 38.0)]
    assert history_of(run_with(tmp_path, losses), {}) == {"unfinished": False, "fall": 0.05, "train_to_valid": 0.5}
    rising = history_of(run_with(tmp_path, losses[:4]), {})
    assert rising["fall"] == pytest.approx(-0.1) and rising["train_to_valid"] == pytest.approx(60 / 44)


@pytest.mark.parametrize(("status", "unfinished"), [("interrupted", True), ("running", True), ("finished", False)])
def test_a_training_that_did_not_end_is_unfinished(tmp_path, status, unfinished):
    model = run_with(tmp_path, [("valid", 50.0)], status)
    assert history_of(model, {}) == UNKNOWN | {"unfinished": unfinished}
    assert history_of(model, {"unfinished": True})["unfinished"] is True


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    model = run_with(tmp_path, [("train", 10.0), ("valid", 20.0)])
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"split": "valid", "reconstr')
    assert history_of(model, {})["train_to_valid"] == 0.5


def test_a_model_outside_of_its_run_says_only_what_it_knows_itself(tmp_path):
    run_with(tmp_path, [("valid", 50.0), ("valid", 40.0)])
    assert history_of(tmp_path / "copied", {}) == UNKNOWN
    assert history_of(Path("english-small"), {"unfinished": True}) == UNKNOWN | {"unfinished": True}


def test_the_training_sentences_are_the_models_or_those_of_the_corpus_of_its_name(tiny_corpus):
    def count(**training: Any) -> int | None:
        return train_sentences(training, Corpus.open(tiny_corpus))

    assert count(sentences=7, corpus="tiny") == 7 and count(corpus="tiny") == 40
    assert count(corpus="other") is None and count() is None
