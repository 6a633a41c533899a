"""The file that keeps what a training came to."""

import json
import shutil

import pytest

from eval.record import record
from smim.errors import UserError
from tests.evaluation.reports import content, metrics, write

CONFIG = "model: {latent_dim: 8}\nobjective: {name: amim}\ntrain: {seed: 3}\nrun: {dir: x}\n"
LINES = [
    {"step": 5, "epoch": 1, "split": "train", "loss": 3.0, "seconds": 1.25},
    {"step": 9, "epoch": 2, "split": "train", "loss": 2.0, "seconds": 2.5},
    {"step": 9, "epoch": 2, "split": "valid", "loss": 2.5},
]


@pytest.fixture
def run(long_model, tmp_path):
    shutil.copytree(long_model, tmp_path / "run" / "model")
    (tmp_path / "run" / "config.yaml").write_text(CONFIG)
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    return tmp_path / "run"


def test_a_record_holds_what_was_run_and_every_metric(run, tmp_path):
    (tmp_path / "plots").mkdir()
    write(run / "report", metrics(nll=8.3), content())
    (run / "codes.json").write_text('{"run/model": {"stars": {"value": 0.4, "error": 0.01}}}')
    kept = record(run, "train it", "abc123", "ended early")
    assert (kept["command"], kept["commit"], kept["note"], kept["seed"]) == ("train it", "abc123", "ended early", 3)
    assert (kept["epochs"], kept["steps"], kept["seconds_of_training"]) == (2, 9, 3.8)
    assert kept["validations"] == LINES[2:] and "run" not in kept["settings"]
    assert kept["reports"]["report"]["metrics"]["nll"]["value"] == 8.3
    assert kept["codes"]["stars"]["value"] == 0.4


def test_what_is_no_training_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no metrics\.jsonl"):
        record(tmp_path, "x", "y")
