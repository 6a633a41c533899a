"""What of an index is shown to a newcomer: sentences spread over it, and what its label columns hold."""

from pathlib import Path

import numpy as np
import pytest

from smim.generation import SentenceModel
from smim.search import IndexWriter, index_texts, open_index
from smim.search.query import Column, Value
from smim.search.sample import columns, sentences, spread
from smim.search.snapshot import Snapshot


@pytest.fixture
def snapshot(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> Snapshot:
    """Three segments of 6, 3 and 1 sentences, of which two are deleted."""
    labels = {
        "stars": [1, 2, 2, None, 5, 5],
        "score": [0.5, None, float("nan"), -1.0, 2.5, 0.5],
        "open": [True, False, None, True, True, True],
        "city": ["a", "b", "a", "", None, "a"],
    }
    texts = [f"a bank sold {word}" for word in ("shares", "the law", "it", "a house", "her", "him")]
    index_texts(model, texts, tmp_path / "index", model_dir=tiny_model, labels=labels)
    with IndexWriter(tmp_path / "index", model=model) as writer:
        writer.add(["a bank", "her brother", "the law"], labels={"city": ["c", "c", "b"]})
        writer.add(["a company"])
        writer.delete([0, 7])
    return open_index(tmp_path / "index", model=model).snapshot


def test_sentences_are_spread_evenly_over_what_is_there(snapshot: Snapshot) -> None:
    for size, ids in ((100, [1, 2, 3, 4, 5, 6, 8, 9]), (3, [1, 4, 9]), (1, [1])):
        numbers, positions = spread(snapshot, size)
        found = sentences(snapshot, numbers, positions)
        assert [each.id for each in found] == ids
        assert [snapshot.hit(*place).text for place in zip(numbers, positions, strict=True)] == [e.text for e in found]
    assert found[0].labels == {"stars": 2, "score": None, "open": False, "city": "b"}


def test_columns_say_their_values_by_how_often_they_are_there(snapshot: Snapshot) -> None:
    known = {each.name: each for each in columns(snapshot)}
    assert known["city"] == Column("city", "text", [Value("a", 2), Value("b", 2), Value("", 1), Value("c", 1)], True)
    assert known["stars"] == Column("stars", "number", [Value(2, 2), Value(5, 2)], True, 2.0, 5.0)
    assert known["score"].values == [Value(-1.0, 1), Value(0.5, 1), Value(2.5, 1)]
    assert (known["score"].least, known["score"].greatest) == (-1.0, 2.5)
    assert known["open"] == Column("open", "boolean", [Value(True, 3), Value(False, 1)], True)


def test_of_many_values_the_most_frequent_are_told(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    numbers = [*np.arange(40), *[7] * 3]
    index = index_texts(
        model, ["a bank"] * len(numbers), tmp_path / "index", model_dir=tiny_model, labels={"number": numbers}
    )
    [column] = columns(index.snapshot)
    assert len(column.values) == 20 and column.values[0] == Value(7, 4) and not column.complete
    assert (column.least, column.greatest) == (0.0, 39.0)
    with IndexWriter(index.directory, model=model) as writer:
        writer.delete(range(len(numbers)))
    assert columns(index.snapshot) == [Column("number", "number", [], True)]
    assert [len(each) for each in spread(index.snapshot, 5)] == [0, 0]
