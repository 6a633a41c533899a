"""Trainings as a user starts them: in processes of their own, on the tiny corpus."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from smim.text.corpus import Corpus
from tests.corpora import write_corpus
from tests.scripts import ROOT, Script

BIN = Path(sys.executable).parent
TRAIN = [sys.executable, "smim/train.py"]
# Forty sentences in batches of eight: five steps an epoch.
SMALL = [
    *("model.latent_dim=8", "model.hidden_dim=32", "model.embedding_dim=12"),
    *("train.batch_size=8", "train.precision=fp32", "train.log_every=1", "train.checkpoint_every=3"),
    "train.trackers=[]",
]
_TIMING = ("tokens_per_second", "sentences_per_second", "model_flops_utilisation", "seconds")

Train = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    # One thread a process: two of them, or a busy machine, would else wait for each other.
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def long_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus's training sentences 400 times, and four of them to validate."""
    corpus, directory = Corpus.open(tiny_corpus), tmp_path_factory.mktemp("long") / "corpus"
    rows = [{"text": text} for text in corpus.split("train").texts()]
    write_corpus(directory, {"train": rows * 400, "valid": rows[:4]}, corpus.tokenizer, name="long")
    return directory


@pytest.fixture
def command(tiny_corpus: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a small training into `tmp_path/run`; later overrides win."""

    def build(*overrides: str, launcher: list[str] = TRAIN) -> list[str]:
        own = [f"corpus.dir={tiny_corpus}", f"run.dir={tmp_path / 'run'}"]
        return [*launcher, *{override.split("=")[0]: override for override in [*own, *SMALL, *overrides]}.values()]

    return build


@pytest.fixture
def start(command: Callable[..., list[str]]) -> Iterator[Callable[..., Script]]:
    """Starts a small training in processes that are forked; none of them is left after the test."""
    started = []

    def begin(*overrides: str, processes: int = 1) -> Script:
        started.append(Script(TRAIN[1], command(*overrides)[len(TRAIN) :], processes=processes))
        return started[-1]

    yield begin
    for script in started:
        script.kill()


@contextmanager
def launched(command: list[str], **options) -> Iterator[subprocess.Popen[str]]:
    """What a command starts, with `options` of subprocess; nothing of it is left at the end."""
    options = {"env": environment(), "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(command, cwd=ROOT, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                for each in [parent, *parent.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        each.kill()


@pytest.fixture
def train(command: Callable[..., list[str]], start: Callable[..., Script]) -> Train:
    """Runs a small training to its end and returns the finished process.

    As `start` does, unless a `launcher` or `options` of subprocess are given.
    """

    def run(
        *overrides: str, launcher: list[str] = TRAIN, processes: int = 1, **options
    ) -> subprocess.CompletedProcess[str]:
        if launcher is TRAIN and not options:
            return start(*overrides, processes=processes).wait()
        with launched(command(*overrides, launcher=launcher), stdout=subprocess.PIPE, **options) as process:
            stdout, stderr = process.communicate(timeout=280)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


def read_metrics(run_dir: Path) -> list[dict]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in _TIMING} for line in lines]


def read_status(run_dir: Path) -> dict:
    return json.loads((run_dir / "status.json").read_text())


def wait_for_steps(run_dir: Path, lines: int = 9) -> None:
    """Until so many lines of metrics are there."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if (run_dir / "metrics.jsonl").exists() and len((run_dir / "metrics.jsonl").read_text().splitlines()) >= lines:
            return
        time.sleep(0.02)
    raise AssertionError("the training did not begin")
