"""The Slurm scripts, with a stand-in for Slurm that runs a job's nodes as processes on this machine."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from eval import compare
from smim.search.latents import Latents
from smim.search.manifest import Manifest
from smim.text.corpus import Corpus
from tests.training.conftest import ROOT, SMALL, environment, launched, read_status, wait_for_steps

# At SIGTERM srun kills its tasks, and what a task leaves behind is killed when it ends.
_SRUN = """#!/bin/bash
set -m
while [[ $1 == --* ]]; do shift; done
trap 'kill -KILL -- "${pids[@]/#/-}"' TERM
for node in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$node "$@" & pids+=($!); done
echo "${pids[@]}" >"$TASKS"
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=1
    kill -KILL -- "-$pid" 2>/dev/null
done
exit $status
"""
_SCONTROL = """#!/bin/bash
if [[ $1 == requeue ]]; then echo "$2" >"$REQUEUED"; else echo 127.0.0.1; fi
"""
_SCANCEL = """#!/bin/bash
[[ $1 == --signal=TERM && $2 == "$SLURM_JOB_ID" ]] && for task in $(<"$TASKS"); do kill -TERM -- "-$task"; done
"""


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """An environment in which a script finds the commands and variables of a job on two nodes without GPUs."""
    for name, content in {"srun": _SRUN, "scontrol": _SCONTROL, "scancel": _SCANCEL}.items():
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(content)
        command.chmod(0o755)
    own = {
        "REQUEUED": str(tmp_path / "requeued"),
        "TASKS": str(tmp_path / "tasks"),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "here,here",
    }
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {**environment(), **own, "SLURM_JOB_ID": str(os.getpid()), "PATH": path}


def sbatch(script: str, arguments: list[str], slurm: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["bash", f"launch/slurm/{script}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=slurm, capture_output=True, text=True, timeout=200)


def arguments(model: Path, corpus: Path, output: Path) -> list[str]:
    quick = ["eval=language_modelling", "eval.num_runs=1", "eval.max_length=20"]
    return [f"model.dir={model}", f"corpus.dir={corpus}", f"output={output}", *quick]


has_venv = pytest.mark.skipif(
    not (ROOT / ".venv" / "bin" / "accelerate").exists(), reason="the scripts take the clone's .venv"
)


@pytest.mark.slow
@has_venv
def test_two_nodes_evaluate_together(slurm, long_model, odd_corpus, tmp_path):
    finished = sbatch("evaluate.sbatch", arguments(long_model, odd_corpus, tmp_path / "report"), slurm)
    assert finished.returncode == 0, finished.stderr
    assert compare.read_report(tmp_path / "report")["processes"] == 2


@pytest.mark.slow
@has_venv
def test_two_nodes_encode_together_and_one_builds_the_index(slurm, tiny_model, tiny_corpus, tmp_path):
    job = [f"model.dir={tiny_model}", f"corpus.dir={tiny_corpus}", f"output={tmp_path / 'latents'}"]
    encoded = sbatch("encode.sbatch", [*job, "encode.rows_per_shard=10"], slurm)
    assert encoded.returncode == 0 and "process 1 of 2: 20 sentences" in encoded.stderr, encoded.stderr
    assert len(Latents.open(tmp_path / "latents")) == 40
    latents = ["--latents", str(tmp_path / "latents"), "--segments", "2"]
    built = sbatch("index.sbatch", [str(tiny_model), str(tiny_corpus), "-o", str(tmp_path / "index"), *latents], slurm)
    assert built.returncode == 0, built.stderr
    assert [info.count for info in Manifest.read(tmp_path / "index").segments] == [20, 20]


@has_venv
@pytest.mark.parametrize("nodes", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_training_saves_before_the_time_limit_is_queued_again_and_goes_on(slurm, tiny_corpus, tmp_path, nodes):
    run_dir = tmp_path / "run"
    slurm["SLURM_NNODES"] = nodes
    overrides = [f"corpus.dir={tiny_corpus}", f"run.dir={run_dir}", *SMALL, "train.max_epochs=100000"]
    script = ["bash", "launch/slurm/train.sbatch", *overrides]
    with launched(script, env=slurm) as job:
        wait_for_steps(run_dir)
        job.send_signal(signal.SIGUSR1)
        _, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert (tmp_path / "requeued").read_text().strip() == slurm["SLURM_JOB_ID"]
    stopped = read_status(run_dir)
    assert stopped["status"] == "interrupted"
    again = sbatch("train.sbatch", [*overrides, f"train.max_steps={stopped['step'] + 2}"], slurm)
    assert again.returncode == 0 and "resumed from" in again.stderr, again.stderr
    assert read_status(run_dir)["status"] == "finished"


@pytest.mark.slow
@has_venv
def test_a_pipeline_ends_before_the_time_limit_is_queued_again_and_continues(slurm, tiny_corpus, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(Corpus.open(tiny_corpus).split("train").texts()))
    sections = {
        "prepare": {"corpus": {"path": str(tmp_path / "text.txt"), "valid": 0.2, "test": 0.2}},
        "train": {"model.latent_dim": 8, "model.hidden_dim": 16, "train": {"max_steps": 100_000, "log_every": 1}},
    }
    config = tmp_path / "pipeline.yaml"
    config.write_text(json.dumps({"output": str(tmp_path / "out"), **sections}))
    slurm |= {"SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "1"}
    with launched(["bash", "launch/slurm/pipeline.sbatch", str(config)], env=slurm) as job:
        while not (found := list((tmp_path / "out").glob("train-*"))):
            assert job.poll() is None
            time.sleep(0.1)
        wait_for_steps(found[0])
        job.send_signal(signal.SIGUSR1)
        _, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert (tmp_path / "requeued").read_text().strip() == slurm["SLURM_JOB_ID"]
    assert read_status(found[0])["status"] == "interrupted"


def test_a_job_array_without_its_runs_says_how_it_is_called(slurm):
    refused = sbatch("evaluate_many.sbatch", ["runs/a"], slurm)
    assert refused.returncode == 2 and "usage: sbatch" in refused.stderr


def test_an_array_task_beyond_the_runs_is_refused(slurm):
    refused = sbatch("evaluate_many.sbatch", ["a", "b", "--", "corpus.dir=c"], {**slurm, "SLURM_ARRAY_TASK_ID": "2"})
    assert refused.returncode != 0 and "there are 2 runs, and no number 2" in refused.stderr
