"""Rows of equal sentences, which share one vector of an approximate segment.

A graph over equal codes falls apart: each of them has only the others as its neighbours. So a segment has a vector for
each distinct sentence, numbered by its first row, and three files that say which rows are whose. They are missing
where no two sentences are equal.

    vector_of.npy  the vector of each row, int64 [R]
    rows_of.npy    the rows of the first vector in ascending order, those of the second, ..., int64 [R]
    starts.npy     where in `rows_of` each vector's rows begin, and the end of the last, int64 [V + 1]

Shapes: N queries, R rows, V vectors, C candidates, K results.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from smim.search.errors import Unreadable
from smim.shards import open_array

VECTOR_OF, ROWS_OF, STARTS = "vector_of.npy", "rows_of.npy", "starts.npy"
_HASH_BYTES = 16


def number_distinct(batches: Iterable[pa.Array | pa.ChunkedArray], count: int) -> np.ndarray:
    """The number of each of `count` sentences, int64 [R]: equal ones have the same, in order of their first."""
    texts = (text.as_py() for batch in batches for text in batch.cast(pa.binary()))
    hashes = np.fromiter((blake2b(text, digest_size=_HASH_BYTES).digest() for text in texts), f"V{_HASH_BYTES}", count)
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def are_new(numbers: np.ndarray) -> np.ndarray:
    """Which of `number_distinct`'s numbers appear for the first time, bool [R]."""
    highest = np.maximum.accumulate(numbers)
    return np.diff(highest, prepend=-1) > 0


class RowMap:
    """The vector of each row, and the rows of each vector."""

    def __init__(self, paths: Mapping[str, Path], num_rows: int, num_vectors: int) -> None:
        """Memory-maps the files; raises `UserError` where they are not of so many rows and vectors."""
        self.paths = paths
        self.vector_of, self.rows_of = (open_array(paths[name], np.int64, (num_rows,)) for name in (VECTOR_OF, ROWS_OF))
        self.starts = open_array(paths[STARTS], np.int64, (num_vectors + 1,))

    @staticmethod
    def write(folder: Path, vector_of: np.ndarray) -> None:
        np.save(folder / VECTOR_OF, vector_of)
        np.save(folder / ROWS_OF, np.argsort(vector_of, kind="stable"))
        np.save(folder / STARTS, np.cumsum(np.bincount(vector_of + 1)))

    def any_of(self, rows_R: np.ndarray) -> np.ndarray:
        """Which vectors have one of the rows of a mask, bool [V]."""
        vectors = np.zeros(len(self.starts) - 1, bool)
        vectors[self.vectors(rows_R)] = True
        return vectors

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of rows, by their positions or a mask."""
        return self._within(VECTOR_OF, self.vector_of[rows], len(self.starts) - 1)

    def expand(
        self, distances_NC: np.ndarray, vectors_NC: np.ndarray, k: int, allowed_R: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first k rows of each query's candidates by distance, ties in order of the rows; infinity and -1 behind.

        `vectors_NC` are in order of `distances_NC`, -1 where there is none.
        """
        distinct, place = np.unique(vectors_NC, return_inverse=True)
        starts, counts, rows = self._rows(distinct, k, allowed_R)
        place = place.reshape(vectors_NC.shape)
        counts_NC = counts[place]
        before = np.cumsum(counts_NC, axis=1) - counts_NC
        # What is as near as the last that is needed may have rows of lower numbers.
        last = np.count_nonzero(before < k, axis=1) - 1
        needed = distances_NC <= np.take_along_axis(distances_NC, last[:, None], axis=1)
        query, candidate = np.nonzero(needed)
        vector, distance = place[query, candidate], distances_NC[query, candidate]
        row = rows[_ranges(starts[vector], counts[vector])]
        query, distance = np.repeat(query, counts[vector]), np.repeat(distance, counts[vector])
        order = np.lexsort((row, distance, query))
        row, distance, query = row[order], distance[order], query[order]
        rank = np.arange(len(row)) - np.searchsorted(query, query)
        found = rank < k
        distances = np.full((len(vectors_NC), k), np.inf, np.float32)
        positions = np.full((len(vectors_NC), k), -1, np.int64)
        distances[query[found], rank[found]] = distance[found]
        positions[query[found], rank[found]] = row[found]
        return distances, positions

    def _rows(
        self, vectors: np.ndarray, k: int, allowed_R: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of ascending vectors: where their rows begin in the third array, how many (at most k), and the rows."""
        num_rows = len(self.rows_of)
        starts, ends = (self._within(STARTS, self.starts[vectors + i], num_rows + 1) for i in (0, 1))
        counts = self._within(STARTS, np.where(vectors < 0, 0, ends - starts), num_rows + 1)
        if allowed_R is None:
            counts = np.minimum(counts, k)
        rows = self._within(ROWS_OF, self.rows_of[_ranges(starts, counts)], num_rows)
        if allowed_R is not None:
            passing = allowed_R[rows]
            ends = np.cumsum(counts)
            before = np.concatenate([[0], np.cumsum(passing)])
            counts = before[ends] - before[ends - counts]
            rows = rows[passing]
        return np.cumsum(counts) - counts, np.minimum(counts, k), rows

    def _within(self, name: str, numbers: np.ndarray, end: int) -> np.ndarray:
        """The numbers, if all are from 0 to below `end`; a file of millions is only checked where it is read."""
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < end:
            raise Unreadable(f"{self.paths[name]} holds numbers that cannot be; build the index again")
        return numbers


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers from each start on, as many as its count, one after another."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
