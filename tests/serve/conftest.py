"""A service over an index of the tiny corpus, of a model that answers questions."""

from collections.abc import Callable
from pathlib import Path

import pytest

import smim
from smim.generation import SentenceModel
from smim.search import Index, build_index
from smim.serve.backend import LocalBackend
from smim.serve.limits import Limits
from smim.serve.service import Service
from smim.text.corpus import Corpus
from tests.corpora import write_corpus


@pytest.fixture(scope="session")
def model(asking_model: Path) -> SentenceModel:
    return smim.load(asking_model, device="cpu")


@pytest.fixture(scope="session")
def corpus(model: SentenceModel, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The forty training sentences of the tiny corpus, for the model's tokenizer."""
    train = Corpus.open(tiny_corpus).split("train")
    rows = [{"text": text, "topic": topic} for text, topic in zip(train.texts(), train.labels("topic"), strict=True)]
    directory = tmp_path_factory.mktemp("data") / "served"
    write_corpus(directory, {"train": rows}, model.tokenizer, name="tiny")
    return Corpus.open(directory)


@pytest.fixture
def index(model: SentenceModel, corpus: Corpus, asking_model: Path, tmp_path: Path) -> Index:
    """Of forty sentences with a label `topic`, ids 0 to 39."""
    return build_index(model, corpus, tmp_path / "index", model_dir=asking_model)


@pytest.fixture(scope="module")
def unchanged(
    model: SentenceModel, corpus: Corpus, asking_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Index:
    """The same index, for tests that only read."""
    return build_index(model, corpus, tmp_path_factory.mktemp("unchanged") / "index", model_dir=asking_model)


@pytest.fixture
def serve(index: Index, model: SentenceModel) -> Callable[..., Service]:
    """Makes a service over the index, with the limits given."""

    def make(**limits: int) -> Service:
        return Service(model, LocalBackend(index.directory, model=model), Limits(**limits))

    return make
