"""A shard: a process that searches some segments of an index.

It has no view of the index of its own. Each request brings the part of the manifest that it needs, so all shards answer
for the same version, whatever each has seen on disk.

Shapes: N queries, D latent dimensions.
"""

import threading
from pathlib import Path

import numpy as np

from smim.errors import SmimError, UserError
from smim.search.filters import Where
from smim.search.folding import Equals
from smim.search.gpu import check_gpu
from smim.search.manifest import Manifest
from smim.search.query import Hit, Options, Texts
from smim.search.snapshot import Snapshot
from smim.search.words import Statistics

# Requests that began with an older version may still need it.
_VERSIONS_KEPT = 2


class SegmentsGone(SmimError):
    """The segments of a request cannot be opened here: a newer version has replaced them, or they are damaged."""


class Shard:
    """Searches the segments that a request names. It opens them once, and drops them when newer versions lack them.

    `gpu`: search on the GPU that the process has. Raises `UserError` for a filter that does not fit, and `SegmentsGone`
    if it does not have the requested segments.
    """

    def __init__(self, directory: Path | str, gpu: bool = False) -> None:
        self.directory, self._gpu = Path(directory), check_gpu(gpu)
        self._snapshots: list[Snapshot] = []
        # Ray Serve calls from several threads, but one FAISS search uses all cores of the replica.
        self._lock = threading.Lock()

    def ping(self) -> None:
        """Return, to show that the shard answers."""

    def search(
        self,
        part: Manifest,
        codes_ND: np.ndarray,
        options: Options,
        texts: Texts = None,
        statistics: Statistics | None = None,
    ) -> list[list[Hit]]:
        with self._lock:
            return self._opened(part).hits(codes_ND, options, texts, statistics)

    def statistics(self, part: Manifest, texts: Texts) -> Statistics:
        """Statistics of the texts' words over the sentences of this shard."""
        with self._lock:
            return self._opened(part).statistics(texts or ())

    def equals(self, part: Manifest, texts: list[str], options: Options) -> list[Equals]:
        """For each text, the sentences here that equal it by the options' `fold` and pass the filter."""
        with self._lock:
            return self._opened(part).equals(texts, options)

    def get(self, part: Manifest, ids: np.ndarray) -> dict[int, Hit]:
        """The texts of the ids that are here."""
        with self._lock:
            snapshot = self._opened(part)
            places = zip(ids.tolist(), *map(np.ndarray.tolist, snapshot.places_of(ids)), strict=True)
            return {id: snapshot.text(number, position) for id, number, position in places if number >= 0}

    def codes(self, part: Manifest, ids: np.ndarray) -> dict[int, np.ndarray]:
        """The codes, fp32 [D], of the ids that are here."""
        with self._lock:
            snapshot = self._opened(part)
            numbers, positions = snapshot.places_of(ids)
            here = numbers >= 0
            return dict(zip(ids[here].tolist(), snapshot.codes_of_texts(numbers[here], positions[here]), strict=True))

    def count(self, part: Manifest, where: Where) -> int:
        """The number of texts here that pass a filter."""
        with self._lock:
            return self._opened(part).count(where)

    def _opened(self, part: Manifest) -> Snapshot:
        snapshot = next((each for each in self._snapshots if each.manifest == part), None)
        if snapshot is None:
            known = [segment for each in self._snapshots for segment in each.segments]
            try:
                snapshot = Snapshot.open(self.directory, part, known=known, gpu=self._gpu)
            except UserError as error:
                raise SegmentsGone(str(error)) from None
        others = [each for each in self._snapshots if each is not snapshot]
        self._snapshots = [snapshot, *others[: _VERSIONS_KEPT - 1]]
        return snapshot
