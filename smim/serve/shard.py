"""A shard: the process that answers for some segments of an index.

It keeps no opinion of its own about what the index is: each request brings the part of the manifest that it is about,
so that all shards answer for the same version, whatever each of them has seen of the directory.

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

# A version is still asked for while requests that began with it are under way.
_VERSIONS_KEPT = 2


class SegmentsGone(SmimError):
    """Segments that a request names cannot be opened here: a newer version has replaced them, or they are damaged."""


class Shard:
    """Answers for the segments that a request names, which it opens once, and drops when newer versions lack them.

    `gpu`: it searches on the GPU that it is given. Raises `UserError` for a filter that does not fit, `SegmentsGone`
    where it has not what is asked for.
    """

    def __init__(self, directory: Path | str, gpu: bool = False) -> None:
        self.directory, self._gpu = Path(directory), check_gpu(gpu)
        self._snapshots: list[Snapshot] = []
        # Serve calls from several threads; FAISS uses all cores of the replica for one search.
        self._lock = threading.Lock()

    def ping(self) -> None:
        """Returns."""

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
        """Of the words of texts, in the sentences that are here."""
        with self._lock:
            return self._opened(part).statistics(texts or ())

    def equals(self, part: Manifest, texts: list[str], options: Options) -> list[Equals]:
        """Of each text the sentences here that are equal to it by the options' `fold`, and pass its filter."""
        with self._lock:
            return self._opened(part).equals(texts, options)

    def get(self, part: Manifest, ids: np.ndarray) -> dict[int, Hit]:
        """Those of the ids that are here."""
        with self._lock:
            snapshot = self._opened(part)
            places = zip(ids.tolist(), *map(np.ndarray.tolist, snapshot.places_of(ids)), strict=True)
            return {id: snapshot.text(number, position) for id, number, position in places if number >= 0}

    def codes(self, part: Manifest, ids: np.ndarray) -> dict[int, np.ndarray]:
        """The codes, fp32 [D], of those of the ids that are here."""
        with self._lock:
            snapshot = self._opened(part)
            numbers, positions = snapshot.places_of(ids)
            here = numbers >= 0
            return dict(zip(ids[here].tolist(), snapshot.codes_of_texts(numbers[here], positions[here]), strict=True))

    def count(self, part: Manifest, where: Where) -> int:
        """How many sentences pass a filter."""
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
