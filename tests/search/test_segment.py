"""Segments of more rows than one batch holds, and distances at their bounds."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from smim.generation import SentenceModel
from smim.search import Index, IndexWriter
from smim.search.query import Sentence
from smim.search.segment import ROWS_PER_BATCH
from tests.search.codes import index_of_codes

NUM_ROWS = 2 * ROWS_PER_BATCH + 100


def random_codes(num: int, model: SentenceModel) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, model.latent_dim)).astype(np.float32)


@pytest.fixture
def many(model: SentenceModel, tmp_path: Path) -> Index:
    """Rows of which text and label say the number."""
    labels = {"number": np.arange(NUM_ROWS)}
    return index_of_codes(tmp_path / "index", model, random_codes(NUM_ROWS, model), labels=labels)


def test_a_row_has_its_own_text_and_labels_in_whatever_batch_it_is(many: Index) -> None:
    ids = [0, NUM_ROWS - 1, *(border + i for border in (ROWS_PER_BATCH, 2 * ROWS_PER_BATCH) for i in (-1, 0, 1))]
    expected = [(id, str(id), {"number": id}) for id in ids]
    assert [(row.id, row.text, row.labels) for row in many.get(ids)] == expected
    found = many.search(many.codes(ids), k=1)
    assert [(hit.id, hit.text, hit.labels) for [hit] in found] == expected
    for id in ids:
        assert [hit.id for hit in many.search(many.codes([7]), k=1, where={"number": id})[0]] == [id]


def test_deletes_and_a_compaction_leave_each_row_its_id_text_labels_and_code(many: Index) -> None:
    codes = many.codes(range(NUM_ROWS))
    with IndexWriter(many.directory, model=many.model) as writer:
        assert writer.delete(where={"number": {"$lt": 3000}}) == 3000
        assert writer.delete([ROWS_PER_BATCH, NUM_ROWS - 1, 5]) == 2
        rest = [id for id in range(3000, NUM_ROWS - 1) if id != ROWS_PER_BATCH]
        assert many.count() == len(rest)
        writer.compact()
    assert [info.count for info in many.manifest.segments] == [len(rest)]
    assert many.get(rest) == [Sentence(id, str(id), {"number": id}) for id in rest]
    assert (many.codes(rest) == codes[rest]).all()


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
def test_no_cosine_distance_is_below_zero(factory: str, model: SentenceModel, tmp_path: Path) -> None:
    codes = random_codes(2000, model)
    index = index_of_codes(tmp_path / "index", model, codes, labels={}, factory=factory, metric="cosine")
    stored = index.codes(range(2000))
    assert (stored * stored).sum(1).max() > 1  # by rounding
    found = index.search(codes, k=1)
    assert [hit.id for [hit] in found] == list(range(2000))
    assert all(0 <= hit.distance < 1e-6 for [hit] in found)


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "IVF4,SQfp16"])
def test_equal_codes_come_in_order_of_their_ids(factory: str, model: SentenceModel, tmp_path: Path) -> None:
    places, order = random_codes(200, model), np.random.default_rng(1).permutation(1600)
    index = index_of_codes(tmp_path / "index", model, np.repeat(places, 8, axis=0)[order], labels={}, factory=factory)
    for number, hits in enumerate(index.search(places, k=8, nprobe=4)):
        assert [hit.id for hit in hits] == np.flatnonzero(order // 8 == number).tolist()


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
def test_codes_at_one_distance_come_in_order_of_their_ids(factory: str, model: SentenceModel, tmp_path: Path) -> None:
    corners = np.array(list(product([-1, 1], repeat=model.latent_dim)), np.float32)
    codes = np.random.default_rng(0).permutation(corners)
    index = index_of_codes(tmp_path / "index", model, codes, labels={}, factory=factory)
    centre = np.zeros((1, model.latent_dim), np.float32)
    assert [hit.id for hit in index.search(centre, k=len(codes), nprobe=4)[0]] == list(range(len(codes)))
