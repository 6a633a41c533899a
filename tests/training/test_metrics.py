"""Means over sentences, whatever the batches, and a log that goes on from where a checkpoint stands."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from smim.errors import UserError
from smim.text.batch import Batch, collate
from smim.training.metrics import Meter, MetricsLog

BATCHES = [collate([[5, 6, 7], [8]], [0, 1]), collate([[5] * 6], [2]), collate([[5], [6, 7], [8, 9]], [3, 4, 5])]
LOSSES = [[1.0, 2.0], [30.0], [4.0, 5.0, 6.0]]


def add(meter: Meter, batches: list[Batch], losses: list[list[float]]) -> None:
    for batch, loss in zip(batches, losses, strict=True):
        meter.add({"loss": torch.tensor(loss), "kl": torch.tensor(loss) / 2}, batch)


def test_means_are_of_sentences_and_positions_count_ends_and_padding() -> None:
    meter = Meter()
    add(meter, BATCHES, LOSSES)
    # Tokens and one end each, in rectangles: 2 x 4, 1 x 7 and 3 x 3.
    expected = {"loss": 8.0, "kl": 4.0, "sentences": 6.0, "tokens": 15.0, "positions": 24.0}
    assert meter.read(Accelerator(cpu=True)) == expected


def test_reading_starts_anew() -> None:
    meter, fresh = Meter(), Meter()
    add(meter, BATCHES[:2], LOSSES[:2])
    meter.seconds = 3.0
    meter.read(Accelerator(cpu=True))
    assert meter.seconds == 0
    for each in (meter, fresh):
        add(each, BATCHES[2:], LOSSES[2:])
    assert meter.read(Accelerator(cpu=True)) == fresh.read(Accelerator(cpu=True))


@pytest.mark.parametrize("num", [0, 1, 2])
def test_a_meter_goes_on_from_what_was_saved_as_if_it_had_not_stopped(num: int) -> None:
    whole, resumed = Meter(), Meter()
    add(whole, BATCHES[:num], LOSSES[:num])
    whole.seconds = 1.5
    resumed.load(json.loads(json.dumps(whole.state())), torch.device("cpu"))
    for meter in (whole, resumed):
        add(meter, BATCHES[num:], LOSSES[num:])
    assert resumed.seconds == 1.5
    assert resumed.read(Accelerator(cpu=True)) == whole.read(Accelerator(cpu=True))


def test_sums_of_a_checkpoint_go_on_by_name_also_by_the_name_of_before() -> None:
    meter, [batch, *_] = Meter(), BATCHES
    saved = {"names": ["log_anchor", "loss"], "sums": [6.0, 1.0, 1.0, 1.0, 2.0]}
    meter.load(saved, torch.device("cpu"))
    meter.add({"loss": torch.tensor([2.0, 3.0]), "log_prior": torch.tensor([4.0, 5.0])}, batch)
    found = meter.read(Accelerator(cpu=True))
    assert (found["loss"], found["log_prior"], found["sentences"]) == (2.0, 5.0, 3.0)
    add(meter, [batch], [[1.0, 3.0]])
    assert meter.read(Accelerator(cpu=True))["kl"] == 1.0


def test_sums_of_other_terms_than_the_objectives_are_refused() -> None:
    meter = Meter()
    meter.load({"names": ["lost"], "sums": [1.0, 1.0, 1.0, 2.0]}, torch.device("cpu"))
    with pytest.raises(UserError, match="sums of other terms"):
        add(meter, BATCHES, LOSSES)


def test_sums_are_kept_in_fp64() -> None:
    meter, one = Meter(), collate([[5]], [0])
    for loss in (1e8, 1.0, -1e8):
        meter.add({"loss": torch.tensor([loss])}, one)
    assert meter.read(Accelerator(cpu=True))["loss"] == 1 / 3


def test_a_log_keeps_the_lines_that_it_is_rewound_to(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, enabled=True)
    log.rewind(0)
    for step in range(4):
        log.write({"step": step})
    path.write_text(path.read_text() + '{"step": 4, "lo')  # of a process that was killed
    again = MetricsLog(path, enabled=True)
    again.rewind(2)
    again.write({"step": 7})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 7]
    assert again.num_lines == 3


def test_a_log_of_another_run_has_only_its_own_lines(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", enabled=True)
    log.rewind(5)
    log.write({"step": 1})
    assert log.num_lines == 1 and len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_other_processes_count_lines_and_write_none(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", enabled=False)
    log.rewind(0)
    log.write({"step": 1})
    assert log.num_lines == 1 and not list(tmp_path.iterdir())
