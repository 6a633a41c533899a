"""Several processes train as one would, and a launch that would silently be something else is refused."""

import pytest

from tests.training.conftest import BIN, TWO_PROCESSES, read_metrics

# Without dropout and latent noise nothing depends on which process a sentence is on.
NO_NOISE = ["objective=autoencoder", "model.embedding_dropout=0", "train.max_steps=12"]


def losses(run_dir) -> list[float]:
    return [line["loss"] for line in read_metrics(run_dir)]


# 13 leaves a last batch of one sentence, of which the second process has none.
@pytest.mark.parametrize("batch_size", [13])
def test_two_processes_have_the_losses_of_one(train, tmp_path, batch_size):
    size = f"train.batch_size={batch_size}"
    assert train(*NO_NOISE, size, f"run.dir={tmp_path / 'one'}").returncode == 0
    assert train(*NO_NOISE, size, f"run.dir={tmp_path / 'two'}", launcher=TWO_PROCESSES).returncode == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_accumulated_parts_have_the_losses_of_whole_batches(train, tmp_path):
    assert train(*NO_NOISE, f"run.dir={tmp_path / 'whole'}").returncode == 0
    assert train(*NO_NOISE, "train.accumulation_steps=3", f"run.dir={tmp_path / 'parts'}").returncode == 0
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_a_run_goes_on_with_another_number_of_processes(train, tmp_path):
    assert train(*NO_NOISE, f"run.dir={tmp_path / 'one'}").returncode == 0
    stopped = [*NO_NOISE, "train.max_steps=9", f"run.dir={tmp_path / 'two'}"]
    assert train(*stopped, launcher=TWO_PROCESSES).returncode == 0
    resumed = train(*NO_NOISE, f"run.dir={tmp_path / 'two'}", "train.resume=auto")
    assert resumed.returncode == 0 and "number of processes changed" in resumed.stderr
    train_losses = [
        [line["loss"] for line in read_metrics(tmp_path / name) if line["split"] == "train"] for name in ("one", "two")
    ]
    assert train_losses[1] == pytest.approx(train_losses[0], rel=1e-5)


def test_a_cpu_launch_that_would_start_one_process_of_two_is_refused(train):
    launcher = [str(BIN / "accelerate"), "launch", "--cpu", "--num_processes", "2", "smim/train.py"]
    refused = train("train.max_steps=1", launcher=launcher)
    assert refused.returncode != 0
    assert "2 processes were asked for, but the launcher started 1" in refused.stderr


def test_torchrun_processes_train_together(train, tmp_path):
    launcher = [str(BIN / "torchrun"), "--nproc_per_node", "2", "smim/train.py"]
    finished = train(*NO_NOISE, launcher=launcher)
    assert finished.returncode == 0 and "2 process(es) on cpu" in finished.stderr


def test_deepspeed_is_refused(train):
    launcher = [
        *(str(BIN / "accelerate"), "launch", "--use_deepspeed", "--zero_stage", "2"),
        *("--num_processes", "2", "smim/train.py"),
    ]
    refused = train("train.max_steps=1", launcher=launcher)
    assert refused.returncode != 0 and "DeepSpeed is not supported" in refused.stderr
