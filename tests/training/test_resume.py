"""A run that was killed at any moment and resumed ends as one that was not, bit for bit."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest

import smim
from smim import storage
from smim.text.corpus import CARD, Corpus
from smim.training import checkpoint
from tests.scripts import run_script
from tests.training.conftest import (
    BIN,
    SMALL,
    launched,
    read_metrics,
    read_status,
    wait_for_steps,
)

STEPS = "train.max_steps=12"


def outcome(run_dir: Path) -> tuple[list[dict], str, str]:
    """What must be the same: every logged loss, the best model, the last checkpoint's weights."""
    last = checkpoint.list_checkpoints(run_dir / "checkpoints")[-1]
    return (
        read_metrics(run_dir),
        storage.sha256(run_dir / "model" / "model.safetensors"),
        storage.sha256(last / "model.safetensors") + storage.sha256(last / "optimizer.safetensors"),
    )


@pytest.fixture(scope="module")
def uninterrupted(tiny_corpus, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    arguments = [f"corpus.dir={tiny_corpus}", f"run.dir={run_dir}", *SMALL, STEPS]
    assert run_script("smim/train.py", arguments).returncode == 0
    return outcome(run_dir)


def kill_at_touch(command, run_dir: Path, number: int, *overrides: str) -> list[str]:
    """Runs a training that is killed at its `number`-th touch of a file; returns the touches until then."""
    run_script("tests/kill_at.py", command(STEPS, *overrides, launcher=[str(number), str(run_dir), "smim/train.py"]))
    return Path(f"{run_dir}.touches").read_text().splitlines()


@pytest.fixture(scope="module")
def sharded_corpus(tiny_corpus, tmp_path_factory) -> Path:
    """The tiny corpus with its training sentences in shards of eight."""
    directory = tmp_path_factory.mktemp("sharded") / "corpus"
    shutil.copytree(tiny_corpus, directory)
    table = Corpus.open(tiny_corpus).split("train").table.combine_chunks()
    shutil.rmtree(directory / "train")
    shards = []
    for start in range(0, table.num_rows, 8):
        path = directory / "train" / f"{len(shards):05d}.arrow"
        path.parent.mkdir(exist_ok=True)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table.slice(start, 8))
        size = {"sentences": len(table.slice(start, 8)), "bytes": path.stat().st_size}
        shards.append({"file": path.name, **size, "sha256": storage.sha256(path)})
    card = storage.read_json(directory / CARD)
    card["splits"]["train"]["shards"] = shards
    storage.write_json(directory / CARD, card)
    return directory


def kill_after(start, run_dir: Path, seconds: float) -> bool:
    """Kills a training `seconds` after it began, or sooner where it had ended by then; True inside a save."""
    training = start(STEPS)
    while not (run_dir / "status.json").exists() and training.running:
        time.sleep(0.001)
    time.sleep(seconds)
    training.signal(signal.SIGKILL)
    training.wait()
    if read_status(run_dir)["status"] != "running":
        shutil.rmtree(run_dir)
        return kill_after(start, run_dir, seconds / 2)
    return any(run_dir.rglob(".*.partial"))


def test_a_run_killed_inside_a_save_ends_as_one_that_was_not(command, train, tmp_path, uninterrupted):
    run_dir = tmp_path / "run"
    touches = kill_at_touch(command, run_dir, 40)
    assert ".partial" in touches[-1] and len(touches) == 40
    assert train(STEPS, "train.resume=auto").returncode == 0
    assert outcome(run_dir) == uninterrupted


def test_a_run_killed_after_its_last_step_still_validates(command, train, tmp_path, uninterrupted):
    touches = kill_at_touch(command, tmp_path / "run", 0)
    last_step = next(i for i, touch in enumerate(touches) if "step-00000012" in touch and "manifest" in touch)
    # The first save of step 12, before the validation that ends the run, is whole three touches later.
    shutil.rmtree(tmp_path / "run")
    kill_at_touch(command, tmp_path / "run", last_step + 4)
    assert (tmp_path / "run" / "checkpoints" / "step-00000012").is_dir()
    assert len(read_metrics(tmp_path / "run")) < len(uninterrupted[0])
    assert train(STEPS, "train.resume=auto").returncode == 0
    assert outcome(tmp_path / "run") == uninterrupted


def test_a_run_killed_at_a_random_time_ends_as_one_that_was_not(start, train, tmp_path, uninterrupted):
    kill_after(start, tmp_path / "run", random.Random(0).uniform(0, 0.5))
    assert read_status(tmp_path / "run")["status"] == "running"
    assert train(STEPS, "train.resume=auto").returncode == 0
    assert outcome(tmp_path / "run") == uninterrupted


def test_a_run_killed_in_the_second_group_of_its_corpus_ends_as_one_that_was_not(
    command, train, tmp_path, sharded_corpus
):
    run_dir = tmp_path / "run"
    # Groups of two shards: in batches of six, step 3 is the first one of the second group.
    groups = [f"corpus.dir={sharded_corpus}", "train.shuffle_window=16", "train.batch_size=6"]
    touches = kill_at_touch(command, run_dir, 0, *groups)
    expected = outcome(run_dir)
    saved = next(i for i, touch in enumerate(touches) if "step-00000003" in touch and "manifest" in touch)
    shutil.rmtree(run_dir)
    kill_at_touch(command, run_dir, saved + 5, *groups)
    assert [path.name for path in checkpoint.list_checkpoints(run_dir / "checkpoints")] == ["step-00000003"]
    assert train(STEPS, *groups, "train.resume=auto").returncode == 0
    assert outcome(run_dir) == expected


def test_a_run_goes_on_at_the_rate_it_had_fallen_to_and_keeps_its_best_model(train, tmp_path):
    """Stopped after a decay and the first of the two bad validations before the next one, none of which is the best."""
    settings = ["objective=autoencoder", "model.embedding_dropout=0", "model.hidden_dim=64", "train.max_epochs=100"]
    settings += ["train.learning_rate=0.03", "train.learning_rate_decay=0.5", "train.patience=1"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(*settings, "train.max_steps=50", f"run.dir={whole}").returncode == 0
    assert train(*settings, "train.max_steps=45", f"run.dir={stopped}").returncode == 0
    newest = checkpoint.list_checkpoints(stopped / "checkpoints")[-1]
    schedule = storage.read_json(newest / "state.json")["schedule"]
    validations = [line for line in read_metrics(whole) if line["split"] == "valid"]
    assert schedule["learning_rate"] == 0.015 and schedule["without_improvement"] == 1
    assert validations[-1]["learning_rate"] == 0.0075
    assert min(validations[-2:], key=lambda line: line["loss"])["loss"] > schedule["best"] + 0.1
    kept = storage.read_json(whole / "model" / "config.json")["training"]
    assert kept["sentences"] == 40
    assert kept["valid_loss"] == schedule["best"] == min(line["loss"] for line in validations)
    assert train(*settings, "train.max_steps=50", f"run.dir={stopped}", "train.resume=auto").returncode == 0
    assert outcome(stopped) == outcome(whole)


def test_a_line_of_metrics_is_of_all_steps_since_the_last_one_also_where_a_kill_came_between(command, train, tmp_path):
    run_dir = tmp_path / "run"
    rare = ["train.log_every=10", "train.checkpoint_every=4"]
    touches = kill_at_touch(command, run_dir, 0, *rare)
    expected = outcome(run_dir)
    saved = next(i for i, touch in enumerate(touches) if "step-00000008" in touch and "manifest" in touch)
    shutil.rmtree(run_dir)
    kill_at_touch(command, run_dir, saved + 5, *rare)
    assert checkpoint.list_checkpoints(run_dir / "checkpoints")[-1].name == "step-00000008"
    assert [line["step"] for line in expected[0] if line["split"] == "train"] == [10]
    assert train(STEPS, *rare, "train.resume=auto").returncode == 0
    assert outcome(run_dir) == expected


def test_two_processes_killed_together_end_as_two_that_were_not(start, train, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = "train.max_steps=20"
    assert train(steps, f"run.dir={whole}", processes=2).returncode == 0
    training = start(steps, f"run.dir={killed}", processes=2)
    wait_for_steps(killed)
    training.signal(signal.SIGKILL)
    training.wait()
    assert read_status(killed)["status"] == "running"
    assert train(steps, f"run.dir={killed}", "train.resume=auto", processes=2).returncode == 0
    assert outcome(killed) == outcome(whole)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kill_series(command, start, train, tmp_path, uninterrupted):
    """At every touch of a file during a whole run, and at 20 seeded random times; prints where each landed."""
    run_dir = tmp_path / "run"
    kills = [("touch", number) for number in range(1, len(kill_at_touch(command, run_dir, 0)) + 1)]
    kills += [("time", random.Random(seed).uniform(0, 0.5)) for seed in range(20)]
    inside = 0
    for kind, value in kills:
        shutil.rmtree(run_dir, ignore_errors=True)
        if kind == "touch":
            where = kill_at_touch(command, run_dir, value)[-1].replace(str(tmp_path), "")
            landed = any(run_dir.rglob(".*.partial"))
        else:
            landed = kill_after(start, run_dir, value)
            where = f"after {value:.3f} s"
        inside += landed
        assert train(STEPS, "train.resume=auto").returncode == 0
        same = outcome(run_dir) == uninterrupted
        print(f"{kind} {value}: {where}; {'inside a save' if landed else 'between saves'}; same end: {same}")
        assert same
    print(f"{len(kills)} kills, {inside} of them inside a save; all runs ended the same, bit for bit")


@pytest.mark.parametrize(("number", "exit_status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_with_its_status_and_the_run_goes_on(start, train, tmp_path, number, exit_status):
    run_dir = tmp_path / "run"
    training = start("train.max_epochs=100000")
    wait_for_steps(run_dir)
    training.signal(number)
    ended = training.wait(60)
    assert ended.returncode == exit_status and "Traceback" not in ended.stderr
    status = read_status(run_dir)
    assert status["status"] == "interrupted"
    assert checkpoint.list_checkpoints(run_dir / "checkpoints")[-1].name == f"step-{status['step']:08d}"
    kept = storage.read_json(run_dir / "model" / "config.json")["training"]
    validations = [line["loss"] for line in read_metrics(run_dir) if line["split"] == "valid"]
    assert kept["valid_loss"] == min(validations) and "unfinished" not in kept
    resumed = train(f"train.max_steps={status['step'] + 2}", "train.max_epochs=100000", "train.resume=auto")
    assert resumed.returncode == 0 and read_status(run_dir)["status"] == "finished"
    assert [line["step"] for line in read_metrics(run_dir) if line["split"] == "train"] == list(
        range(1, status["step"] + 3)
    )


def test_a_stop_before_the_first_validation_leaves_a_model_that_says_so(start, train, long_corpus, tmp_path):
    own = [f"corpus.dir={long_corpus}", "train.batch_size=2", "train.log_every=10", "train.max_steps=null"]
    training = start(*own)
    run_dir = tmp_path / "run"
    wait_for_steps(run_dir, lines=11)
    training.signal(signal.SIGTERM)
    ended = training.wait(60)
    assert ended.returncode == 143 and "was not validated" in ended.stdout + ended.stderr
    model = smim.load(run_dir / "model", device="cpu")
    assert model.config["training"]["unfinished"] and model.config["training"]["step"] >= 100
    assert model.encode(["a bank"]).shape == (1, model.latent_dim)
    step = model.config["training"]["step"]
    assert train(*own, f"train.max_steps={step + 2}", "train.resume=auto").returncode == 0
    assert "unfinished" not in smim.load(run_dir / "model", device="cpu").config["training"]


def test_sigterm_to_the_process_group_of_a_launch_saves(command, tmp_path):
    launcher = [str(BIN / "accelerate"), "launch", "--num_processes", "1", "smim/train.py"]
    endless = command("train.max_epochs=100000", launcher=launcher)
    with launched(endless, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_for_steps(tmp_path / "run")
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while read_status(tmp_path / "run")["status"] == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
    assert read_status(tmp_path / "run")["status"] == "interrupted"


def test_a_broken_newest_checkpoint_falls_back_to_the_one_before(train, tmp_path, uninterrupted):
    assert train("train.max_steps=9").returncode == 0
    newest = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    resumed = train(STEPS, "train.resume=auto")
    assert resumed.returncode == 0
    assert "is missing or truncated; falling back" in resumed.stderr
    assert outcome(tmp_path / "run") == uninterrupted


def test_a_run_is_not_overwritten_nor_continued_with_another_model(train, tmp_path):
    assert train("train.max_steps=3").returncode == 0
    again = train("train.max_steps=3")
    assert again.returncode == 2 and "train.resume=auto" in again.stderr
    other = train("train.max_steps=6", "train.resume=auto", "model.latent_dim=9", "train.seed=1")
    assert other.returncode == 2
    assert "(model.latent_dim: 8 there, 9 here; train.seed: 0 there, 1 here)" in other.stderr
    assert "Traceback" not in again.stderr + other.stderr


def test_a_full_disk_during_a_save_leaves_the_last_checkpoint(train, tmp_path):

    assert train("train.max_steps=5").returncode == 0
    before = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")
    limit = (before[-1] / "model.safetensors").stat().st_size // 2
    full = train(
        STEPS,
        "train.resume=auto",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert full.returncode == 1
    assert "exceed the size limit" in full.stderr and "Traceback" not in full.stderr
    assert checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints") == before
    for path in before:
        checkpoint.verify(path)
    assert not list((tmp_path / "run").rglob(".*.partial"))
    assert train(STEPS, "train.resume=auto").returncode == 0
