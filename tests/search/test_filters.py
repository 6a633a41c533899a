from contextlib import suppress
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smim.errors import UserError
from smim.search.filters import rows_that_pass

ROWS = pa.table(
    {
        "text": ["Good food", "bad food", "good service", "nothing"],
        "stars": pa.array([5, 1, 4, None], pa.int64()),
        "city": ["Bonn", "Ulm", None, "Bonn"],
    }
)


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
    assert np.flatnonzero(rows_that_pass(where, ROWS)).tolist() == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"star": 5}, "no column 'star' to filter by; did you mean 'stars'"),
        ({"stars": {"$ge": 5}}, r"unknown operator '\$ge' in a filter; did you mean '\$gte'"),
        ({"stars": {"$gte": "many"}}, "does not fit the labels, of which .*stars is int64"),
        ({"stars": {"$in": 5}}, r"\$in in a filter needs a list"),
        ({"stars": {}}, "the filter on 'stars' is empty"),
        ({"stars": {"$contains": 5}}, r"\$contains in a filter cannot compare with 5"),
        ({"stars": {"$contains": "5"}}, "does not fit the labels"),
        ({"stars": {"$eq": {"a": 1}}}, r"\$eq in a filter cannot compare"),
        ({"city": [["Bonn"]]}, "cannot compare|does not fit"),
        ({"$or": []}, r"\$or in a filter needs a list of filters"),
        ({"$or": {"stars": 5}}, r"\$or in a filter needs a list"),
        ({"$not": [1]}, "a filter is an object"),
        ([1], "a filter is an object"),
        ("stars=5", "a filter is an object"),
        ({"stars": 2**70}, "cannot compare|does not fit"),
        ({"city": "\ud800"}, "cannot compare|does not fit"),
        ({"city": {"$contains": "\ud800"}}, "cannot compare|does not fit"),
        ({"city": {"$in": ["\ud800"]}}, "cannot compare|does not fit"),
        ({"city": np.array(["Bonn"])}, "cannot compare|does not fit"),
        ({3: 1}, "no column 3"),
        (reduce(lambda inner, _: {"$not": inner}, range(101), {}), "nested more than 100 levels deep"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_filter_is_refused(where, message):
    with pytest.raises(UserError, match=message):
        rows_that_pass(where, ROWS)


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
        assert rows_that_pass(where, ROWS).shape == (4,)
