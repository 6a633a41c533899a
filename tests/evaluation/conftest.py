"""Evaluation jobs as `eval/run.py` makes them, on one process."""

from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from smim import generation
from smim.evaluation.job import Job
from smim.evaluation.judge import Judge, make
from smim.text.corpus import Corpus


def make_job(model_dir: Path, corpus_dir: Path, tmp_path: Path, split: str = "test", **overrides: Any) -> Job:
    """A job on the CPU with what it works on in `tmp_path/work`; `overrides` are fields of `Job`."""
    corpus = Corpus.open(corpus_dir)
    fields: dict[str, Any] = {
        "model": generation.load(model_dir, device="cpu"),
        "corpus": corpus,
        "split": corpus.split(split),
        "accelerator": Accelerator(cpu=True),
        "work": tmp_path / "work",
        "seed": 0,
        "num_runs": 2,
        "max_length": 20,
        "tokens_per_batch": 256,
    }
    return Job(**fields | overrides)


@pytest.fixture
def plots(tmp_path: Path) -> Path:
    """The directory that families draw into."""
    directory = tmp_path / "plots"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def text(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus's forty training sentences, one a line."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(Corpus.open(tiny_corpus).split("train").texts()))
    return path


@pytest.fixture(scope="session")
def judge(text: Path) -> Judge:
    """Made of these, in `judge` beside them."""
    return make([text], text.parent / "judge", vocabulary_size=290)
