"""A shard: the process that answers for some segments of an index.

It keeps no opinion of its own about what the index is: each request brings the part of the manifest that it is about,
so that all shards answer for the same version, whatever each of them has seen of the directory.

Shapes: N queries, K results, D latent dimensions.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smim.errors import SmimError, UserError
from smim.search.filters import Where
from smim.search.manifest import Manifest
from smim.search.segment import Segment
from smim.search.snapshot import Snapshot, precompute_tables

# A version is still asked for while requests that began with it are under way.
_VERSIONS_KEPT = 2


class SegmentsGone(SmimError):
    """Segments that a request names cannot be opened here: a newer version has replaced them, or they are damaged."""


@dataclass(frozen=True)
class Nearest:
    """The nearest in a shard: `distances` fp32, `ids` int64 [N, K], and in `rows` [N * K] texts and labels, by column.

    Where a query has fewer, infinity, any id, and None.
    """

    distances: np.ndarray
    ids: np.ndarray
    rows: list[dict[str, Any] | None]


class Shard:
    """Answers for the segments that a request names, which it opens once, and drops when newer versions lack them.

    Raises `UserError` for a filter that does not fit, `SegmentsGone` where it has not what is asked for.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._snapshots: list[Snapshot] = []
        # Serve calls from several threads; FAISS uses all cores of the replica for one search.
        self._lock = threading.Lock()

    def ping(self) -> None:
        """Returns."""

    def search(
        self, part: Manifest, codes_ND: np.ndarray, k: int, where: Where | None, settings: Mapping[str, int]
    ) -> Nearest:
        with self._lock:
            snapshot = self._opened(part)
            distances, ids, numbers, positions = snapshot.nearest(codes_ND, k, where, dict(settings))
            places = zip(numbers.ravel().tolist(), positions.ravel().tolist(), strict=True)
            rows = [snapshot.segments[number].row(position) if position >= 0 else None for number, position in places]
        return Nearest(distances, ids, rows)

    def get(self, part: Manifest, ids: np.ndarray) -> dict[int, dict[str, Any]]:
        """The text and labels, by column, of those of the ids that are here."""
        with self._lock:
            snapshot = self._opened(part)
            places = zip(ids.tolist(), *map(np.ndarray.tolist, snapshot.places_of(ids)), strict=True)
            return {id: snapshot.segments[number].row(position) for id, number, position in places if number >= 0}

    def codes(self, part: Manifest, ids: np.ndarray) -> dict[int, np.ndarray]:
        """The codes, fp32 [D], of those of the ids that are here."""
        with self._lock:
            snapshot = self._opened(part)
            found: dict[int, np.ndarray] = {}
            for segment in snapshot.segments:
                which, positions = segment.positions_of(ids)
                found.update(zip(ids[which].tolist(), segment.codes(positions), strict=True))
            return found

    def count(self, part: Manifest, where: Where) -> int:
        """How many sentences pass a filter."""
        with self._lock:
            allowed = self._opened(part).allowed(where)
            return sum(rows.count for rows in allowed if rows is not None)

    def _opened(self, part: Manifest) -> Snapshot:
        snapshot = next((each for each in self._snapshots if each.manifest == part), None)
        if snapshot is None:
            known = [segment for each in self._snapshots for segment in each.segments]
            try:
                # A segment's info holds its files' checksums: where it is equal, so is the content.
                segments = [
                    next((segment for segment in known if segment.info == info), None)
                    or Segment(self.directory, info, part)
                    for info in part.segments
                ]
            except UserError as error:
                raise SegmentsGone(str(error)) from None
            precompute_tables(segments, [segment for segment in segments if segment not in known])
            snapshot = Snapshot(part, segments)
        others = [each for each in self._snapshots if each is not snapshot]
        self._snapshots = [snapshot, *others[: _VERSIONS_KEPT - 1]]
        return snapshot
