from contextlib import suppress
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smim.errors import UserError
from smim.search.filters import condition, parse

ROWS = pa.table(
    {
        "text": ["Good food", "bad food", "good service", "nothing"],
        "stars": pa.array([5, 1, 4, None], pa.int64()),
        "city": ["Bonn", "Ulm", None, "Bonn"],
    }
)


def passing(where, rows=ROWS):
    [batch] = rows.combine_chunks().to_batches()
    return np.flatnonzero(condition(parse(where), rows.schema)(batch)).tolist()


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"stars": 5}, [0]),
        ({"stars": {"$gte": 4}}, [0, 2]),
        ({"stars": {"$gt": 1, "$lt": 5}}, [2]),
        ({"stars": {"$lte": 1}}, [1]),
        ({"stars": {"$ne": 5}}, [1, 2]),
        ({"city": ["Ulm", "Bonn"]}, [0, 1, 3]),
        ({"city": []}, []),
        ({"city": {"$nin": []}}, [0, 1, 3]),
        ({"city": {"$nin": ["Ulm"]}}, [0, 3]),
        ({"city": None}, [2]),
        ({"city": {"$ne": None}}, [0, 1, 3]),
        ({"stars": {"$gte": 4}, "city": "Bonn"}, [0]),
        ({"$or": [{"stars": 1}, {"city": None}]}, [1, 2]),
        ({"$and": [{"stars": {"$gte": 4}}, {"city": "Bonn"}]}, [0]),
        ({"$not": {"stars": {"$gte": 4}}}, [1, 3]),
        ({"text": {"$contains": "good"}}, [0, 2]),
    ],
)
def test_rows_that_pass(where, rows):
    assert passing(where) == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"star": 5}, "there is no column 'star'; did you mean 'stars'"),
        ({"stars": {"$ge": 5}}, r"unknown operator '\$ge' in a filter; did you mean '\$gte'"),
        ({"stars": {"$gte": "many"}}, "does not fit the labels: column 'stars' is int64, but 'many' is not"),
        ({"stars": {"$in": 5}}, r"\$in in a filter needs a list"),
        ({"stars": {}}, "the filter on 'stars' is empty"),
        ({"stars": {"$contains": 5}}, r"\$contains in a filter cannot compare with 5"),
        ({"stars": {"$contains": "5"}}, "does not fit the labels"),
        ({"stars": {"$eq": {"a": 1}}}, r"\$eq in a filter cannot compare"),
        ({"city": [["Bonn"]]}, "cannot compare|does not fit"),
        ({"$or": []}, r"\$or in a filter needs a list of filters"),
        ({"$or": {"stars": 5}}, r"\$or in a filter needs a list"),
        ({"$not": [1]}, "a filter must be an object"),
        ([1], "a filter must be an object"),
        ("stars=5", "a filter must be an object"),
        ({"stars": 2**70}, "cannot compare|does not fit"),
        ({"city": "\ud800"}, "cannot compare|does not fit"),
        ({"city": {"$contains": "\ud800"}}, "cannot compare|does not fit"),
        ({"city": {"$in": ["\ud800"]}}, "cannot compare|does not fit"),
        ({"city": np.array(["Bonn"])}, "cannot compare|does not fit"),
        ({3: 1}, "no column 3"),
        (reduce(lambda inner, _: {"$not": inner}, range(32), {}), "at most 32 nested levels"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_filter_is_refused(where, message):
    with pytest.raises(UserError, match=message):
        passing(where)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["stars", "city", "text", "$and", "$or", "$not", "$eq", "$in", "$gt", "$contains", "x"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=6,
    )
)
def test_anything_is_a_filter_or_refused(where):
    with suppress(UserError):
        assert set(passing(where)) <= {0, 1, 2, 3}


KINDS = pa.table(
    {
        "text": ["a", "b", "c", "d"],
        "n": pa.array([1, 2**53 + 1, 3, None], pa.int64()),
        "f": pa.array([0.0, -0.0, 1.5, None], pa.float64()),
        "b": pa.array([True, False, True, None], pa.bool_()),
        "s": pa.array(["a", None, "2", ""], pa.string()),
    }
)
VALUES = [0, 0.0, -0.0, 1, 1.0, 1.5, 2, 3, 2**53, 2.0**53, 2**53 + 1, True, False, "a", "2", "", None, np.nan, 10**18]


@pytest.mark.parametrize("column", ["n", "f", "b", "s"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_list_of_one_value_is_that_value_and_nin_its_complement_among_rows_with_a_value(column, value):
    def told(where):
        try:
            return passing(where, KINDS)
        except UserError as error:
            return str(error)

    one = told({column: value})
    assert one == told({column: [value]}) == told({column: {"$in": (value, value)}})
    others = told({column: {"$nin": [value]}})
    assert others == told({column: {"$ne": value}})
    if isinstance(one, str):
        assert one == others and "does not fit the labels" in one
    else:
        there = passing({column: {"$ne": None}}, KINDS)
        assert sorted(set(there) - set(one)) == others


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ({"f": [0]}, [0, 1]),
        ({"f": {"$nin": [0]}}, [2]),
        ({"f": [-0.0, 1.5]}, [0, 1, 2]),
        ({"s": [None]}, [1]),
        ({"s": [None, "a"]}, [0, 1]),
        ({"s": {"$nin": [None, "a"]}}, [2, 3]),
        ({"s": [np.nan, ""]}, [1, 3]),
        ({"n": 2**53}, []),
        ({"n": 2.0**53}, []),
        ({"n": {"$gt": 2.0**53}}, [1]),
        ({"n": {"$gte": 1.5}}, [1, 2]),
        ({"n": {"$lt": 1e300}}, [0, 1, 2]),
        ({"b": True}, [0, 2]),
        ({"b": {"$gt": False}}, [0, 2]),
        ({"s": {"$gte": "a"}}, [0]),
        ({"n": [np.int64(3), np.float32(1)]}, [0, 2]),
    ],
    ids=str,
)
def test_values_are_compared_exactly(where, rows):
    assert passing(where, KINDS) == rows


def test_a_column_without_a_type_has_no_value():
    rows = pa.table({"text": ["a", "b"], "x": pa.nulls(2)})
    for where in ({"x": 1}, {"x": {"$gt": "a"}}, {"x": {"$nin": [None]}}, {"x": {"$contains": "a"}}):
        assert passing(where, rows) == []
    assert passing({"x": [None, 3]}, rows) == passing({"$not": {"x": True}}, rows) == [0, 1]


def test_stored_nan_is_no_value():
    rows = pa.table({"text": ["a", "b", "c"], "f": [float("nan"), 1.0, None]})
    assert passing({"f": None}, rows) == passing({"f": float("nan")}, rows) == [0, 2]
    assert passing({"f": {"$ne": None}}, rows) == passing({"f": {"$ne": 2}}, rows) == [1]
    assert passing({"f": {"$lt": 5}}, rows) == passing({"$not": {"f": None}}, rows) == [1]


@pytest.mark.parametrize(
    ("needle", "rows"),
    [
        ("caf\u00e9", [0, 1, 2]),
        ("CAFE\u0301", [0, 1, 2]),
        ("strasse", [3, 4]),
        ("Straße", [3, 4]),
        ("İSTANBUL", [5]),
        ("istanbul", [6]),
        ("\u212a", [7]),
        ("K", [7]),
        ("", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_contains_compares_letters_however_they_are_coded_and_of_whatever_case(needle, rows):
    texts = [
        "the cafe\u0301",
        "the caf\u00e9",
        "THE CAFÉ",
        "Straße",
        "STRASSE",
        "İstanbul",
        "Istanbul",
        "1 \u212a",
        None,
    ]
    assert passing({"text": {"$contains": needle}}, pa.table({"text": texts})) == rows


LARGE = {
    "or": {"$or": [{"stars": {"$gt": 1}}] * 9000},
    "and": {"$and": [{"stars": 1}] * 9000},
    "empty": {"$or": [{}] * 9000},
    "lists": {"$or": [{"stars": list(range(9990))}, {"city": list(range(10_010))}]},
    "contains": {"$and": [{"text": {"$contains": "a"}}] * 33},
    "nin": {"stars": {"$nin": [1] * 20_000}},
    "not": reduce(lambda inner, _: {"$not": inner}, range(300), {"stars": 1}),
    "nested": reduce(lambda inner, _: {"$and": [inner, {"stars": 1}]}, range(150), {"stars": 1}),
    "values": {"stars": reduce(lambda inner, _: [inner], range(300), 1)},
}


@pytest.mark.parametrize("where", LARGE.values(), ids=LARGE)
def test_a_filter_of_too_many_parts_is_refused_with_the_limit(where):
    with pytest.raises(UserError, match=r"at most 256 and 32 are|at most 20,000 parts and at most 32 nested"):
        passing(where)


def test_equalities_of_one_column_are_one_list():
    many = [{"stars": value} for value in (5, None)] + [{"stars": {"$in": [i]}} for i in range(100, 5000)]
    where = {"$or": [{"$or": many}, {"stars": {"$eq": 7}}, {"city": "Ulm"}]}
    tree = parse(where)
    assert [(part.column, len(part.values)) for part in tree.parts] == [("stars", 4903), ("city", 1)]
    assert passing(where) == [0, 1, 3]


def test_a_filter_of_as_many_parts_as_are_allowed_is_applied():
    rows = pa.table({"text": ["the food was good"] * 4096, "stars": list(range(4096))})
    terms = [{"stars": {"$gt": i}, "text": {"$ne": str(i)}} for i in range(128)]
    assert passing({"$and": terms}, rows) == list(range(128, 4096))
    assert passing({"stars": list(range(10_000))}, rows) == list(range(4096))
    with pytest.raises(UserError, match=r"257 comparisons .*; at most 256 and 32 are allowed"):
        passing({"$and": [*terms, {"stars": 3}]}, rows)
