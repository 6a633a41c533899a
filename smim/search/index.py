"""An index of sentence codes on disk, and the sentences nearest to a query in it.

Shapes: N queries, K results, D latent dimensions.
"""

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from smim.arrays import as_matrix
from smim.errors import UserError
from smim.generation import SentenceModel, load
from smim.model.distributions import DiagonalGaussian
from smim.search.errors import NoSuchSentence, Unreadable
from smim.search.factory import check_settings, check_whole
from smim.search.filters import Where
from smim.search.ids import as_ids, listed
from smim.search.manifest import MANIFEST, Manifest
from smim.search.segment import Segment
from smim.search.snapshot import Snapshot, precompute_tables

_ATTEMPTS = 10


class Hit:
    """A sentence that was found. The smaller `distance`, the nearer, whatever the index's metric:

    `l2`: the Euclidean distance (not squared); `cosine`: 1 - cosine; `inner_product`: its negative.
    `text` and `labels` are read when they are asked for. `reconstruction`, the sentence as its code decodes, and
    `score`, log q(z|query) in nats at the sentence's code z, are None unless the search was asked for them.
    """

    __slots__ = ("_position", "_row", "_segment", "distance", "id", "reconstruction", "score")

    def __init__(self, id: int, distance: float, segment: Segment, position: int) -> None:
        self.id, self.distance = id, distance
        self._segment, self._position = segment, position
        self._row: dict[str, Any] | None = None
        self.reconstruction: str | None = None
        self.score: float | None = None

    @property
    def text(self) -> str:
        return self._read()["text"]

    @property
    def labels(self) -> dict[str, Any]:
        return {name: value for name, value in self._read().items() if name != "text"}

    def as_dict(self) -> dict[str, Any]:
        """What is known of it; without what the search was not asked for."""
        asked = {"reconstruction": self.reconstruction, "score": self.score}
        found = {"id": self.id, "text": self.text, "distance": self.distance, "labels": self.labels}
        return found | {name: value for name, value in asked.items() if value is not None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hit) and self.as_dict() == other.as_dict()

    def __repr__(self) -> str:
        return f"Hit(id={self.id}, distance={self.distance:.4f}, text={self.text!r}, labels={self.labels})"

    def _read(self) -> dict[str, Any]:
        if self._row is None:
            self._row = self._segment.row(self._position)
        return self._row


class Index:
    """An index that was opened with `open_index`. Each search is of the newest version on disk."""

    def __init__(self, directory: Path, model: SentenceModel, snapshot: Snapshot, stamp: tuple[int, int]) -> None:
        self.directory, self.model = directory, model
        self._snapshot, self._stamp = snapshot, stamp

    @property
    def snapshot(self) -> Snapshot:
        """The newest version; a changed index is opened anew, but for the segments that stayed."""
        stamp = stamp_of(self.directory)
        if stamp != self._stamp:
            snapshot, stamp = _open(self.directory, known=self._snapshot.segments)
            check_model(self.directory, snapshot.manifest, self.model)
            self._snapshot, self._stamp = snapshot, stamp
        return self._snapshot

    @property
    def manifest(self) -> Manifest:
        return self.snapshot.manifest

    def __len__(self) -> int:
        return self.manifest.count

    def search(
        self,
        queries: Sequence[str] | np.ndarray | Tensor,
        k: int = 5,
        *,
        where: Where | None = None,
        offset: int = 0,
        max_distance: float | None = None,
        reconstruct: bool = False,
        score: bool = False,
        **settings: int,
    ) -> list[list[Hit]]:
        """The `k` nearest sentences of each query, or all if they are fewer, nearest first, ties in order of their ids.

            index.search(["the company said profit rose"], k=3, where={"stars": {"$gte": 4}})

        Queries are sentences, or codes [N, D]. `where` is a filter on labels (`smim.search.filters`), applied inside of
        the search; `offset`: how many of the nearest to pass over; `max_distance`: none farther. `settings`, such as
        `nprobe=64`, take the place of the index's own. `reconstruct` and `score` fill in those fields of the hits; a
        score needs sentences as queries.

        Raises `UserError` for a `k` below 1, for sentences that the model cannot encode, and for codes of another
        dimension or that are not finite.
        """
        snapshot = self.snapshot
        if score and isinstance(queries, np.ndarray | Tensor):
            raise UserError("a score is log q(z|query): it needs sentences as queries, not codes")
        check_search(k, offset, settings)
        check_distance(max_distance)
        codes = self._codes(queries, snapshot.manifest)
        # FAISS takes no whole numbers but Python's own.
        settings = {name: int(value) for name, value in {**snapshot.manifest.search, **settings}.items()}
        nearest = snapshot.nearest(codes, int(k) + int(offset), where, settings)
        farthest = np.inf if max_distance is None else max_distance
        columns = (values[:, offset:].tolist() for values in nearest)
        found = [
            [
                Hit(id, distance, snapshot.segments[number], position)
                for distance, id, number, position in zip(*row, strict=True)
                if position >= 0 and distance <= farthest
            ]
            for row in zip(*columns, strict=True)
        ]
        if (reconstruct or score) and any(found):
            self._explain(found, queries, reconstruct=reconstruct, score=score)
        return found

    def more_like(
        self,
        ids: Sequence[int],
        k: int = 5,
        *,
        offset: int = 0,
        reconstruct: bool = False,
        score: bool = False,
        **options: Any,
    ) -> list[list[Hit]]:
        """The `k` sentences nearest to each of the given ones, which are left out; `options` as of `search`."""
        check_search(k, offset, {})
        found = self.search(self.codes(ids), k + offset + 1, **options)
        others = ([hit for hit in hits if hit.id != id] for id, hits in zip(ids, found, strict=True))
        found = [hits[offset : offset + k] for hits in others]
        if (reconstruct or score) and any(found):
            self._explain(found, [row["text"] for row in self.get(ids)], reconstruct=reconstruct, score=score)
        return found

    def codes(self, ids: Sequence[int]) -> np.ndarray:
        """The codes of the sentences of the given ids, fp32 [N, D] (of length one, where the metric is cosine)."""
        snapshot = self.snapshot
        return snapshot.codes(*self._places(snapshot, ids))

    def get(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """The id, text and labels of each of the given ids; raises `UserError` naming those that there are not."""
        snapshot = self.snapshot
        places = zip(ids, *map(np.ndarray.tolist, self._places(snapshot, ids)), strict=True)
        rows = [(id, snapshot.segments[number].row(position)) for id, number, position in places]
        return [{"id": int(id), "text": row.pop("text"), "labels": row} for id, row in rows]

    def count(self, where: Where | None = None) -> int:
        """How many sentences there are, or how many pass a filter."""
        snapshot = self.snapshot
        if where is None or where == {}:
            return snapshot.manifest.count
        return sum(allowed.count for allowed in snapshot.allowed(where) if allowed is not None)

    def _explain(
        self, found: list[list[Hit]], queries: Sequence[str] | np.ndarray | Tensor, *, reconstruct: bool, score: bool
    ) -> None:
        """Fills in the hits' reconstructions and scores, from their texts: the index may hold codes of length one."""
        hits = [hit for row in found for hit in row]
        codes = self.model.encode([hit.text for hit in hits])
        if reconstruct:
            for hit, sentence in zip(hits, self.model.decode(codes), strict=True):
                hit.reconstruction = sentence
        if score:
            assert not isinstance(queries, np.ndarray | Tensor)
            if self.model.deterministic:
                raise UserError("a score is log q(z|query), but this model's variance was never trained: no score")
            query_of = np.repeat(np.arange(len(found)), [len(row) for row in found])
            posterior = self.model.posterior(queries)
            for hit, value in zip(hits, log_posterior(posterior, query_of, codes), strict=True):
                hit.score = value

    def _places(self, snapshot: Snapshot, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        wanted = as_ids(ids)
        numbers, positions = snapshot.places_of(wanted)
        if (numbers < 0).any():
            raise NoSuchSentence(f"{self.directory} holds no sentence of id {listed(wanted[numbers < 0])}")
        return numbers, positions

    def _codes(self, queries: Sequence[str] | np.ndarray | Tensor, manifest: Manifest) -> np.ndarray:
        if not isinstance(queries, np.ndarray | Tensor):
            return comparable(self.model.encode(queries, allow_unknown=False), manifest.metric)
        return query_codes(queries, manifest)


def open_index(directory: Path | str, *, model: SentenceModel | None = None) -> Index:
    """Opens an index, with the model that its manifest names unless `model` is given.

    Nothing is read but what tells whether the files are the right ones: an index of any size opens at once.

    Raises `UserError` where the index is missing, damaged or of another format, where the model is no
    longer where it was, and for another model than the one that the index was built with.
    """
    directory = Path(directory)
    snapshot, stamp = _open(directory)
    model = model or model_of(directory, snapshot.manifest)
    check_model(directory, snapshot.manifest, model)
    return Index(directory, model, snapshot, stamp)


def check_model(directory: Path, manifest: Manifest, model: SentenceModel) -> None:
    """Raises `Unreadable` for another model than the one that the index was built with."""
    if model.hash != manifest.model_hash:
        raise Unreadable(
            f"{directory} was built with another model, the one that was at {manifest.model}; codes of two models "
            "cannot be compared: give that model, or build the index again with this one"
        )
    if model.latent_dim != manifest.dimension:
        raise Unreadable(
            f"{directory} is of codes of {manifest.dimension} dimensions, its model's have {model.latent_dim}; "
            "it was edited: build it again"
        )


def check_search(k: int, offset: int, settings: Mapping[str, int]) -> None:
    """Raises `UserError` for what no search can be asked."""
    check_whole({"k": k, "offset": offset})
    if k < 1 or offset < 0:
        raise UserError(f"k is {k} and offset {offset}; k must be at least 1, offset not negative")
    check_settings(settings)


def check_distance(max_distance: float | None) -> None:
    """Raises `UserError` for what no distance can be compared with."""
    if max_distance is not None and not (isinstance(max_distance, Real) and max_distance == max_distance):
        raise UserError(f"max_distance is {max_distance!r}, a number is needed")


def query_codes(queries: np.ndarray | Tensor, manifest: Manifest) -> np.ndarray:
    """Codes [N, D] as this index compares them; raises `UserError` for another shape, and what is not finite."""
    codes = as_matrix(queries, manifest.dimension, "the query codes", of="this index's are")
    return comparable(codes, manifest.metric)


def log_posterior(posterior: DiagonalGaussian, query_of: np.ndarray, codes_ND: np.ndarray) -> list[float]:
    """log q(z|x) in nats of each code z [N, D], where x is the query of the number that `query_of` [N] gives."""
    of_each = DiagonalGaussian(posterior.mean[query_of], posterior.log_variance[query_of])
    return of_each.log_prob(torch.from_numpy(codes_ND)).tolist()


def comparable(codes_ND: np.ndarray, metric: str) -> np.ndarray:
    """Codes as the index compares them: of length one, in place, where the metric is cosine."""
    if metric == "cosine":
        faiss.normalize_L2(codes_ND)
    return codes_ND


def stamp_of(directory: Path) -> tuple[int, int]:
    """What is another after each change: the manifest's file is another one."""
    try:
        status = (directory / MANIFEST).stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_ino, status.st_mtime_ns


def _open(directory: Path, known: Sequence[Segment] = ()) -> tuple[Snapshot, tuple[int, int]]:
    """The version on disk, with those of `known` segments that are still in it."""
    opened = {json.dumps(segment.info, default=vars): segment for segment in known}
    for attempt in range(_ATTEMPTS):
        stamp = stamp_of(directory)
        manifest = Manifest.read(directory)
        try:
            segments = [
                opened.get(json.dumps(info, default=vars)) or Segment(directory, info, manifest)
                for info in manifest.segments
            ]
            precompute_tables(segments, [segment for segment in segments if segment not in known])
            return Snapshot(manifest, segments), stamp
        except Unreadable:
            # Between the two reads a change may have removed what the older manifest names.
            if stamp_of(directory) == stamp or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def model_of(directory: Path, manifest: Manifest) -> SentenceModel:
    try:
        return load(manifest.model)
    except UserError as error:
        raise UserError(
            f"the model that {directory} was built with cannot be loaded: {error}; say where it is now "
            "with `--model DIR` (in Python `model=smim.load(DIR)`)"
        ) from None
