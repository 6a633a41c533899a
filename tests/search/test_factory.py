"""Which index `auto` chooses, how it is searched, and what FAISS is trained on."""

from collections.abc import Iterator

import numpy as np
import pytest

from smim.errors import UserError
from smim.search import factory as factories

GB = 10**9


@pytest.mark.parametrize(
    ("count", "dimension", "memory", "factory"),
    [
        (1, 512, GB, "Flat"),
        (100_000, 512, 1, "Flat"),
        (100_001, 512, GB, "HNSW32,SQfp16"),
        (1_000_000, 512, 2 * GB, "HNSW32,SQfp16"),
        (1_000_000, 512, GB, "IVF4096,PQ64x8"),
        (10_000_000, 512, 10 * GB, "IVF16384,PQ64x8"),
        (1_000_000, 100, 10**8, "IVF4096,PQ10x8"),  # 12 bytes do not divide 100
        (1_000_000, 5, 10**8, "IVF4096,PQ1x8"),
    ],
)
def test_auto_is_exact_then_a_graph_then_inverted_lists(count: int, dimension: int, memory: int, factory: str) -> None:
    assert factories.resolve("auto", count, dimension, memory) == factory
    factories.make_vectors(factory, "l2", dimension)


def test_a_factory_that_is_named_is_taken_whatever_the_memory() -> None:
    assert factories.resolve("Flat", 10**9, 512, 1) == "Flat"


def test_half_of_the_machines_memory_is_what_auto_takes_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory, factory in ((2 * GB, "HNSW32,SQfp16"), (GB, "IVF4096,PQ64x8")):
        monkeypatch.setattr(factories, "half_of_memory", lambda memory=memory: memory)
        assert factories.resolve("auto", 1_000_000, 512) == factory


@pytest.mark.parametrize("memory", [0, -(10**9)])
def test_no_memory_at_all_is_refused(memory: int) -> None:
    with pytest.raises(UserError, match=r"memory is .* bytes"):
        factories.resolve("Flat", 10, 8, memory)


@pytest.mark.parametrize(
    ("factory", "settings"),
    [
        ("Flat", {}),
        ("HNSW32,SQfp16", {"ef_search": 64, "refine": 2}),
        ("IVF4096,PQ64x8", {"nprobe": 256, "refine": 16}),
        ("IVF16,Flat", {"nprobe": 32}),
    ],
)
def test_codes_that_are_not_exact_are_put_in_order_by_those_that_are(factory: str, settings: dict[str, int]) -> None:
    assert factories.default_search(factory) == settings


@pytest.mark.parametrize(
    ("factory", "count", "size"),
    [
        ("Flat", 10**6, 0),
        ("HNSW32,Flat", 10**6, 0),
        ("IVF4096,Flat", 10**6, 262_144),
        ("IVF16,PQ4x4", 10**6, 65_536),
        ("PCA4,IVF16,Flat", 10**6, 65_536),
        ("IVF16,Flat", 1_000, 1_000),
    ],
)
def test_faiss_is_trained_on_a_sample(factory: str, count: int, size: int) -> None:
    assert factories.training_size(factories.make_vectors(factory, "l2", 8), count) == size


def test_the_sample_is_of_all_rows_each_once_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factories, "_TRAINING_ROWS", 300)
    codes = np.random.default_rng(0).standard_normal((5000, 8)).astype(np.float32)
    asked = []

    def codes_of(rows: np.ndarray) -> Iterator[np.ndarray]:
        asked.append(rows)
        yield codes[rows[:100]]
        yield codes[rows[100:]]

    vectors = factories.make_vectors("IVF4,Flat", "l2", 8)
    factories.train_on_sample(vectors, "IVF4,Flat", len(codes), codes_of)
    [rows] = asked
    assert vectors.is_trained and len(rows) == 300
    assert (np.diff(rows) > 0).all() and rows[0] < 100 and rows[-1] > 4900
