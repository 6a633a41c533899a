"""Lists of hits that convert to tables."""

from typing import Any

import pyarrow as pa

from smim.search.query import Hit

# The labels follow under their own names, unless one of these has the same name.
_COLUMNS = {
    "query": pa.int64(),
    "rank": pa.int64(),
    "id": pa.int64(),
    "text": pa.string(),
    "distance": pa.float64(),
    "similarity": pa.float64(),
    "words": pa.list_(pa.string()),
    "count": pa.int64(),
    "ids": pa.list_(pa.int64()),
    "code_similarity": pa.float64(),
    "word_similarity": pa.float64(),
    "reconstruction": pa.string(),
    "score": pa.float64(),
}
_ALWAYS = ("query", "rank", "id", "text", "distance", "similarity")


class Hits(list[Hit]):
    """The hits of one query, nearest first: a list.

    index.search("the company said profit rose", k=3).to_pandas()
    """

    def to_arrow(self) -> pa.Table:
        """A table as that of `Results`, for one query."""
        return Results([self]).to_arrow()

    def to_pandas(self) -> Any:
        """The table of `to_arrow` as a pandas DataFrame; needs pandas."""
        return self.to_arrow().to_pandas()


class Results(list[list[Hit]]):
    """The hits of each query, nearest first: a list of lists.

    index.search(["the company said profit rose", "shares fell"], k=3).to_pandas()
    """

    def to_arrow(self) -> pa.Table:
        """A table with one row per hit: `query` (from 0), `rank` (from 1), the hit's fields, and one column per label.

        Fields that the search did not ask for are left out. A label with the name of a field is called `label_NAME`.
        """
        rows = [(query, rank, hit) for query, hits in enumerate(self) for rank, hit in enumerate(hits, start=1)]
        columns: dict[str, Any] = {}
        for name, kind in _COLUMNS.items():
            if name in ("query", "rank"):
                values = [row[name == "rank"] for row in rows]
            else:
                values = [getattr(hit, name) for *_, hit in rows]
            if name in _ALWAYS or any(value is not None for value in values):
                columns[name] = pa.array(values, kind)
        labels = dict.fromkeys(name for *_, hit in rows for name in hit.labels)
        for name in labels:
            called = f"label_{name}" if name in _COLUMNS else name
            columns[called] = pa.array([hit.labels.get(name) for *_, hit in rows])
        return pa.table(columns)

    def to_pandas(self) -> Any:
        """The table of `to_arrow` as a pandas DataFrame; needs pandas."""
        return self.to_arrow().to_pandas()
