"""A run directory has one training at a time; who comes second changes nothing there."""

import os
import signal
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.training.conftest import read_metrics, read_status, wait_for_steps

ENDLESS = "train.max_epochs=100000"


def steps_logged(run_dir: Path) -> list[int]:
    return [line["step"] for line in read_metrics(run_dir) if line["split"] == "train"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_training_is_refused_and_leaves_the_first_as_it_was(start, train, tmp_path, processes):
    run_dir = tmp_path / "run"
    first = start(ENDLESS)
    wait_for_steps(run_dir)
    for resume in ("never", "auto"):
        second = train("train.seed=1", f"train.resume={resume}", "train.max_steps=12", processes=processes)
        assert second.returncode == 2 and "Traceback" not in second.stderr
        told = f"is being changed by another process (process {first.processes[0].pid} on {os.uname().nodename})"
        assert second.stderr.count(told) == processes
    assert read_status(run_dir) == {"status": "running", "step": 0}
    assert OmegaConf.load(run_dir / "config.yaml").train.seed == 0
    first.signal(signal.SIGKILL)
    first.wait()
    done = steps_logged(run_dir)
    assert done == list(range(1, len(done) + 1))
    # It can go on at once.
    assert train(f"train.max_steps={len(done) + 2}", ENDLESS, "train.resume=auto").returncode == 0
    assert steps_logged(run_dir) == list(range(1, len(done) + 3))


def test_of_two_that_go_on_at_the_same_time_one_does(start, train, tmp_path):
    assert train("train.max_steps=3").returncode == 0
    both = [start(ENDLESS, "train.resume=auto") for _ in range(2)]
    deadline = time.monotonic() + 90
    while all(training.running for training in both) and time.monotonic() < deadline:
        time.sleep(0.02)
    refused, going_on = sorted(both, key=lambda training: training.running)
    assert refused.wait().returncode == 2
    wait_for_steps(tmp_path / "run")
    going_on.signal(signal.SIGTERM)
    assert going_on.wait().returncode == 143
    steps = steps_logged(tmp_path / "run")
    assert steps == list(range(1, len(steps) + 1))


def test_the_run_of_a_signal_and_of_a_mistake_leaves_no_lock(start, train, tmp_path):
    training = start(ENDLESS)
    wait_for_steps(tmp_path / "run")
    assert (tmp_path / "run" / ".lock").exists()
    training.signal(signal.SIGTERM)
    assert training.wait().returncode == 143
    assert train().returncode == 2  # it holds a run already
    assert not (tmp_path / "run" / ".lock").exists()
