"""The tiny corpus and model, opened, and an index of them to change."""

from pathlib import Path

import pytest

import smim
from smim.generation import SentenceModel
from smim.search import Index, build_index
from smim.text.corpus import Corpus


@pytest.fixture(scope="session")
def corpus(tiny_corpus: Path) -> Corpus:
    return Corpus.open(tiny_corpus)


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> SentenceModel:
    return smim.load(tiny_model, device="cpu")


@pytest.fixture
def index(model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path) -> Index:
    """Forty sentences with a label `topic`, ids 0 to 39."""
    return build_index(model, corpus, tmp_path / "index", model_dir=tiny_model)
