"""Labels keep what they are, on every way into an index: Python, files, corpora, additions."""

import datetime
import json
import pickle
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index, index_texts
from smim.search.labels import jsonable, label_column, plain, with_types
from smim.text.corpus import Corpus
from tests.corpora import write_corpus
from tests.search.codes import index_of_codes

TEXTS = ["a bank sold shares", "a bank lost shares", "her brother lost shares"]
NONE = [None, float("nan"), np.float32("nan"), np.datetime64("NaT"), Decimal("nan")]


@pytest.mark.parametrize("value", NONE, ids=lambda value: f"{type(value).__name__} {value}")
def test_what_stands_for_no_value_is_none(value: Any) -> None:
    assert plain(value) is None
    assert label_column("stars", [1, value, 3], 3).to_pylist() == [1, None, 3]
    assert label_column("stars", [value, value, 3], 3, pa.float64()).to_pylist() == [None, None, 3.0]
    assert label_column("city", ["Bonn", value, ""], 3).to_pylist() == ["Bonn", None, ""]


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([1, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([2.0, 3], pa.float64()),
        ([True, None], pa.bool_()),
        (["1", "2"], pa.string()),
        (np.array([1, 2], np.int8), pa.int64()),
        (np.array([True, False]), pa.bool_()),
        (np.array([0.1, 2], np.float32), pa.float64()),
    ],
    ids=str,
)
def test_a_column_has_the_type_that_holds_its_values(values: Any, type: pa.DataType) -> None:
    column = label_column("stars", values, 2)
    assert column.type == type
    assert column.to_pylist() == [plain(value) for value in values]


def test_columns_of_pandas_are_taken() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"stars": [1, None, 3], "city": ["Bonn", None, "Ulm"]})
    table["whole"] = table["stars"].astype("Int64")
    table["kind"] = table["city"].astype("category")
    columns = {name: label_column(name, table[name], 3) for name in table}
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "stars": [1.0, None, 3.0],
        "city": ["Bonn", None, "Ulm"],
        "whole": [1, None, 3],
        "kind": ["Bonn", None, "Ulm"],
    }
    assert columns["whole"].type == pa.int64()
    assert label_column("stars", [pandas.NA, pandas.NaT, 3], 3).to_pylist() == [None, None, 3]
    with pytest.raises(UserError, match="sentence 1: "):
        label_column("stars", [pandas.Timestamp("2020-01-01")], 1, pa.int64())


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (1.5, pa.int64()),
        (2**63, pa.int64()),
        (1e300, pa.int64()),
        (True, pa.int64()),
        ("1", pa.int64()),
        (2**60 + 1, pa.float64()),
        (True, pa.float64()),
        ("1.5", pa.float64()),
        (0.1, pa.float32()),
        (1, pa.bool_()),
        (0.0, pa.bool_()),
        ("true", pa.bool_()),
        (1, pa.string()),
        (False, pa.string()),
        (b"x", pa.string()),
        ("\ud800", pa.string()),
        (float("inf"), pa.float64()),
        (np.float64("-inf"), pa.float64()),
        (300, pa.int8()),
        *(
            (date, type)
            for date in (
                datetime.date(2020, 1, 1),
                datetime.datetime(2020, 1, 1),
                np.datetime64("2020-01-01", "ns"),
                np.timedelta64(5, "ns"),
            )
            for type in (pa.int64(), pa.string())
        ),
        (Decimal("1.5"), pa.float64()),
        (1 + 0j, pa.float64()),
        ([1], pa.int64()),
        ({"a": 1}, pa.string()),
        (NotImplemented, pa.string()),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_value_that_a_column_does_not_hold_as_it_is_is_refused_with_its_row(value: Any, type: pa.DataType) -> None:
    told = r"^sentence 3: the labels 'stars' (do not fit the index's: |must be text, finite)"
    with pytest.raises(UserError, match=told) as error:
        label_column("stars", [None, None, value], 3, type)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # as processes send it


@pytest.mark.parametrize(
    "values",
    [[1, "1"], ["1", 1], [True, 1], [1, True], [1.5, False], [2**60 + 1, 0.5], [2**63, 1], [1, float("inf")]],
    ids=str,
)
def test_values_of_two_kinds_in_a_column_are_refused_with_the_row(values: list[Any]) -> None:
    with pytest.raises(UserError, match=r"^sentence [12]: the labels 'stars' "):
        label_column("stars", values, 2)


def test_json_has_no_nan_and_no_infinity() -> None:
    values = {"a": [float("nan"), float("inf"), 1.5], "b": {3: datetime.date(2020, 1, 2)}, "c": True, "d": None}
    assert jsonable(values) == {"a": [None, None, 1.5], "b": {"3": "2020-01-02"}, "c": True, "d": None}


def _by_texts(model: SentenceModel, model_dir: Path, output: Path, values: Sequence[Any]) -> Index:
    return index_texts(model, TEXTS, output, model_dir=model_dir, labels={"stars": values})


def _by_corpus(model: SentenceModel, model_dir: Path, output: Path, values: Sequence[Any]) -> Index:
    """As a corpus is prepared of JSON: labels are text, or nothing."""
    written = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    rows = [{"text": text, "stars": value} for text, value in zip(TEXTS, written, strict=True)]
    write_corpus(output.parent / "corpus", {"train": rows}, model.tokenizer, name="labels")
    return build_index(model, Corpus.open(output.parent / "corpus"), output, model_dir=model_dir)


def _by_additions(model: SentenceModel, model_dir: Path, output: Path, values: Sequence[Any]) -> Index:
    index = _by_texts(model, model_dir, output, values)
    with IndexWriter(output, model=model) as writer:
        writer.upsert(TEXTS, ids=[0, 1, 2], labels={"stars": values})
        writer.compact()
    return index


@pytest.mark.parametrize("build", [_by_texts, _by_corpus, _by_additions])
@pytest.mark.parametrize(
    ("values", "filters"),
    [
        ([5, None, 10], {"n": [5, 10], "gte 7": [10], "ne": [10], "first": [5]}),
        ([1.5, None, 10.0], {"n": [1.5, 10.0], "gte 7": [10.0], "ne": [10.0], "first": [1.5]}),
        ([1.5, None, 10], {"n": [1.5, 10], "gte 7": [10], "ne": [10], "first": [1.5]}),
        ([True, None, False], {"n": [True, False], "ne": [False], "first": [True]}),
        (["a", None, ""], {"n": ["a", ""], "ne": [""], "first": ["a"]}),
    ],
    ids=str,
)
def test_no_value_stays_none_and_what_stands_beside_it_keeps_its_type(
    build: Callable[..., Index],
    values: list[Any],
    filters: dict[str, list[Any]],
    model: SentenceModel,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    index = build(model, tiny_model, tmp_path / "index", values)
    stored = [row.labels["stars"] for row in index.get([0, 1, 2])]
    assert stored == values and [type(value) for value in stored if isinstance(value, bool)] == [
        type(value) for value in values if isinstance(value, bool)
    ]

    def found(where: dict[str, Any]) -> list[Any]:
        [hits] = index.search([TEXTS[0]], k=3, where=where)
        assert len(hits) == index.count(where)
        return [hit.labels["stars"] for hit in sorted(hits, key=lambda hit: hit.id)]

    assert found({"stars": None}) == found({"stars": [None]}) == [None]
    assert found({"stars": {"$ne": None}}) == filters["n"]
    assert found({"stars": {"$ne": values[0]}}) == filters["ne"]
    assert found({"stars": values[0]}) == found({"stars": [values[0]]}) == filters["first"]
    if "gte 7" in filters:
        assert found({"stars": {"$gte": 7}}) == filters["gte 7"]


@pytest.mark.parametrize(
    "labels", [["007", "10", None], ["1.50", "2", None], ["nan", "1", None], ["inf", "1", None], ["true", "1", None]]
)
def test_labels_of_a_corpus_that_would_not_read_the_same_again_stay_text(labels: list[Any]) -> None:
    assert with_types(pa.table({"text": TEXTS, "stars": labels})).field("stars").type == pa.string()


def test_a_corpus_column_without_values_stays_text() -> None:
    assert with_types(pa.table({"text": TEXTS, "stars": pa.array([None] * 3, pa.string())})).field("stars").type == (
        pa.string()
    )


def test_nan_that_an_older_index_holds_is_no_value(model: SentenceModel, tmp_path: Path) -> None:
    codes = np.eye(3, 8, dtype=np.float32)
    labels = {"score": pa.array([float("nan"), 1.5, None])}
    index = index_of_codes(tmp_path / "index", model, codes, labels=labels)
    assert index.count({"score": None}) == 2
    assert index.count({"score": {"$ne": 2}}) == index.count({"score": {"$ne": None}}) == 1
    [hits] = index.search(codes[:1], k=3)
    assert [hit.labels["score"] for hit in hits] == [None, 1.5, None]


@pytest.mark.parametrize("value", [1.5, "x", True, float("inf"), 2**63])
def test_a_label_that_does_not_fit_the_index_is_refused_and_nothing_changes(
    value: Any, model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    index = _by_texts(model, tiny_model, tmp_path / "index", [1, 2, None])
    with IndexWriter(index.directory, model=model) as writer:
        for put in (writer.add, lambda *texts, **labels: writer.upsert(*texts, ids=[7, 8], **labels)):
            with pytest.raises(UserError, match=r"^sentence 2: the labels 'stars'"):
                put(TEXTS[:2], labels={"stars": [5, value]})
        assert writer.add(TEXTS[:2], labels={"stars": [5.0, float("nan")]}) == [3, 4]
    assert [row.labels["stars"] for row in index.get([3, 4])] == [5, None]
    assert len(index) == 5
