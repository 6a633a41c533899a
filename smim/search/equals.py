"""Rows of equal sentences, which share one vector of an approximate segment.

A graph over equal codes falls apart, because equal codes are only linked to each other. So a segment has one vector for
each distinct sentence, in order of its first row. Three files map rows to vectors; they are missing if all sentences
differ.

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
    """Number `count` sentences, int64 [R]: equal ones share a number, in order of first appearance."""
    texts = (text.as_py() for batch in batches for text in batch.cast(pa.binary()))
    hashes = np.fromiter((blake2b(text, digest_size=_HASH_BYTES).digest() for text in texts), f"V{_HASH_BYTES}", count)
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def are_new(numbers: np.ndarray) -> np.ndarray:
    """Which numbers of `number_distinct` appear for the first time, bool [R]."""
    highest = np.maximum.accumulate(numbers)
    return np.diff(highest, prepend=-1) > 0


class RowMap:
    """The vector of each row, and the rows of each vector."""

    def __init__(self, paths: Mapping[str, Path], num_rows: int, num_vectors: int) -> None:
        """Memory-map the files; raises `UserError` if they do not have this many rows and vectors."""
        self.paths = paths
        self.vector_of, self.rows_of = (open_array(paths[name], np.int64, (num_rows,)) for name in (VECTOR_OF, ROWS_OF))
        self.starts = open_array(paths[STARTS], np.int64, (num_vectors + 1,))

    @staticmethod
    def write(folder: Path, vector_of: np.ndarray) -> None:
        np.save(folder / VECTOR_OF, vector_of)
        np.save(folder / ROWS_OF, np.argsort(vector_of, kind="stable"))
        np.save(folder / STARTS, np.cumsum(np.bincount(vector_of + 1)))

    def any_of(self, rows_R: np.ndarray) -> np.ndarray:
        """Which vectors belong to at least one row of a mask, bool [V]."""
        vectors = np.zeros(len(self.starts) - 1, bool)
        vectors[self.vectors(rows_R)] = True
        return vectors

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of rows, given by positions or a mask."""
        return self._within(VECTOR_OF, self.vector_of[rows], len(self.starts) - 1)

    def expand(
        self, distances_NC: np.ndarray, vectors_NC: np.ndarray, k: int, allowed_R: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first k rows of each query's candidate vectors, ties in order of row; padded with infinity and -1.

        `vectors_NC` are in order of `distances_NC`, -1 for none.
        """
        distinct, place = np.unique(vectors_NC, return_inverse=True)
        starts, counts, rows = self._rows(distinct, k, allowed_R)
        place = place.reshape(vectors_NC.shape)
        counts_NC = counts[place]
        before = np.cumsum(counts_NC, axis=1) - counts_NC
        # Vectors at the same distance as the last one needed may have lower rows.
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
        """For ascending vectors: where their rows begin in the third array, how many (at most k), and the rows."""
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
        """Return the numbers if all are from 0 to below `end`. A large file is only checked where it is read."""
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < end:
            raise Unreadable(f"{self.paths[name]} holds numbers out of range; build the index again")
        return numbers


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Concatenated ranges: from each start, as many numbers as its count."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
