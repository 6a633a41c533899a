"""Several processes train as one would, and a launch that would silently be something else is refused."""
# ruff: noqa: F811, a fixture has the name of an argument

import textwrap
import time
from contextlib import ExitStack
from types import SimpleNamespace

import psutil
import pytest
from accelerate.utils import DistributedType

from smim.errors import UserError
from smim.objectives import objective_class
from smim.text.corpus import Corpus
from smim.training import checkpoint, checks
from smim.training.args import TrainArgs
from tests.models import sentence_args
from tests.objectives.checks import vector_model
from tests.scripts import free_port, run_script
from tests.training.conftest import (  # noqa: F401, the fixtures of trainings
    BIN,
    command,
    launched,
    read_metrics,
    read_status,
    start,
    train,
    wait_for_steps,
)

# Without dropout and latent noise nothing depends on which process a sentence is on.
NO_NOISE = ["objective=autoencoder", "model.embedding_dropout=0", "train.max_steps=12"]


def losses(run_dir) -> list[float]:
    return [line["loss"] for line in read_metrics(run_dir)]


def gradients(run_dir) -> list[float]:
    """The norm of each step's gradient before it is clipped: neither the clip nor Adam shows a factor that is wrong."""
    return [line["grad_norm"] for line in read_metrics(run_dir) if line["split"] == "train"]


def test_two_processes_of_torchrun_have_the_losses_of_one(train, tmp_path):
    # It leaves a last batch of one sentence, of which the second process has none.
    size = "train.batch_size=13"
    assert train(*NO_NOISE, size, f"run.dir={tmp_path / 'one'}").returncode == 0
    launcher = [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2", "smim/train.py"]
    finished = train(*NO_NOISE, size, f"run.dir={tmp_path / 'two'}", launcher=launcher)
    assert finished.returncode == 0 and "2 process(es) on cpu" in finished.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert gradients(tmp_path / "two") == pytest.approx(gradients(tmp_path / "one"), rel=1e-4)


def test_accumulated_parts_have_the_losses_of_whole_batches(train, tmp_path):
    assert train(*NO_NOISE, f"run.dir={tmp_path / 'whole'}").returncode == 0
    assert train(*NO_NOISE, "train.accumulation_steps=3", f"run.dir={tmp_path / 'parts'}").returncode == 0
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    assert len(gradients(tmp_path / "whole")) == 12
    assert gradients(tmp_path / "parts") == pytest.approx(gradients(tmp_path / "whole"), rel=1e-4)


def test_gradients_are_averaged_over_processes_once_a_step_however_many_parts_it_has(command, tmp_path):
    script = tmp_path / "counted.py"
    script.write_text(
        textwrap.dedent("""
        import atexit, os, runpy, sys
        from torch import nn
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        class Counted(nn.parallel.DistributedDataParallel):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.register_comm_hook(None, count)

        def count(state, bucket):
            if bucket.is_last():
                print("averaged", flush=True)
            return allreduce_hook(state, bucket)

        nn.parallel.DistributedDataParallel = Counted
        del sys.argv[0]
        sys.path[0] = "smim"
        runpy.run_path(sys.argv[0], run_name="__main__")
        """)
    )
    counted = run_script(
        str(script), command(*NO_NOISE, "train.accumulation_steps=3", launcher=["smim/train.py"]), processes=2
    )
    assert counted.returncode == 0 and counted.stdout.count("averaged") == 2 * 12


def test_a_run_goes_on_with_another_number_of_processes(train, tmp_path):
    assert train(*NO_NOISE, f"run.dir={tmp_path / 'one'}").returncode == 0
    stopped = [*NO_NOISE, "train.max_steps=9", f"run.dir={tmp_path / 'two'}"]
    assert train(*stopped, processes=2).returncode == 0
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
    assert "2 processes were requested, but the launcher started 1" in refused.stderr


@pytest.mark.slow
def test_two_launchers_train_as_two_nodes(command, train, tmp_path):
    assert train(*NO_NOISE, f"run.dir={tmp_path / 'one'}").returncode == 0
    port = free_port()
    with ExitStack() as started:
        nodes = []
        for rank in range(2):
            launcher = [
                *(str(BIN / "accelerate"), "launch", "--config_file", "launch/accelerate/cpu.yaml"),
                *("--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank)),
                *("--main_process_ip", "127.0.0.1", "--main_process_port", str(port), "smim/train.py"),
            ]
            arguments = command(*NO_NOISE, f"run.dir={tmp_path / 'two'}", launcher=launcher)
            nodes.append(started.enter_context(launched(arguments)))
        for node in nodes:
            _, errors = node.communicate(timeout=120)
            assert node.returncode == 0, errors
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


@pytest.mark.slow
def test_when_a_process_dies_the_others_end_within_a_minute_and_the_run_goes_on(command, train, tmp_path):
    launcher = [
        *(str(BIN / "accelerate"), "launch", "--config_file", "launch/accelerate/cpu.yaml"),
        *("--num_processes", "2", "--main_process_port", "0", "smim/train.py"),
    ]
    with launched(command("train.max_epochs=100000", launcher=launcher)) as process:
        wait_for_steps(tmp_path / "run")
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in children if "smim/train.py" in child.cmdline()]
        assert len(workers) == 2
        workers[1].kill()
        died = time.monotonic()
        _, errors = process.communicate(timeout=60)
    assert time.monotonic() - died < 60 and not any(worker.is_running() for worker in workers)
    assert "another process of this run ended or cannot be reached" in errors
    assert read_status(tmp_path / "run")["status"] == "failed"
    newest = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    checkpoint.verify(newest)
    step = int(newest.name.removeprefix("step-"))
    more = [f"train.max_steps={step + 2}", "train.max_epochs=100000", "train.resume=auto"]
    assert train(*more, processes=2).returncode == 0


def test_more_processes_than_a_batch_has_sentences_are_refused(train):
    refused = train("train.batch_size=1", "train.max_steps=2", processes=2)
    assert refused.returncode != 0 and "there are 2 processes, but train.batch_size=1" in refused.stderr


def test_a_sentence_that_is_too_long_is_refused_with_what_helps(tiny_corpus):
    corpus, args = Corpus.open(tiny_corpus), sentence_args(max_length=3)
    for name in ("train", "valid"):
        args.check_split(corpus.split(name), cut=3)
        with pytest.raises(
            UserError, match=rf"split '{name}' has a sentence of .* increase it, or .* train\.too_long=truncate"
        ):
            args.check_split(corpus.split(name), cut=None)


def test_more_processes_than_sentences_are_refused(tiny_corpus):
    split, args = Corpus.open(tiny_corpus).split("train"), TrainArgs(tokens_per_batch=100)
    objective = objective_class("amim")()
    launch = SimpleNamespace(
        distributed_type=DistributedType.MULTI_CPU, num_processes=40, state=SimpleNamespace(deepspeed_plugin=None)
    )
    checks.check_launch(split, args, vector_model(), objective, None, launch)
    launch.num_processes = 41
    with pytest.raises(
        UserError, match=r"^there are 41 processes, but split 'train' has only 40 sentences; start fewer$"
    ):
        checks.check_launch(split, args, vector_model(), objective, None, launch)
