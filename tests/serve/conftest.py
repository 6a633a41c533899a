"""A service over an index of the tiny corpus."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smim.generation import SentenceModel
from smim.search import Index, build_index
from smim.serve.backend import LocalBackend
from smim.serve.service import Limits, Service
from smim.text.corpus import Corpus


@pytest.fixture(scope="module")
def unchanged(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Index:
    """The same index, for tests that only read."""
    return build_index(model, corpus, tmp_path_factory.mktemp("unchanged") / "index", model_dir=tiny_model)


@pytest.fixture
def serve(index: Index, model: SentenceModel) -> Callable[..., Service]:
    """Makes a service over the index, with the limits given."""

    def make(**limits: int) -> Service:
        return Service(model, LocalBackend(index.directory, model=model), Limits(**limits))

    return make
