"""Change an index: add, upsert, delete, compact.

A change is written to new files and becomes visible as a whole when the manifest is replaced. Only one writer works at
a time. Readers keep the version that they opened and see the new one at their next search.

Shapes: R rows, D latent dimensions.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa

from smim import lock, storage
from smim.errors import UserError, nearest
from smim.generation import SentenceModel, check_sentences
from smim.progress import track
from smim.search import factory as factories
from smim.search.equals import are_new, number_distinct
from smim.search.errors import OfIndex
from smim.search.filters import Where, parse
from smim.search.gpu import check_gpu
from smim.search.ids import as_ids, new_ids
from smim.search.index import comparable, model_of
from smim.search.labels import label_column
from smim.search.manifest import LOCK, FileInfo, Manifest, SegmentInfo, segment_name
from smim.search.query import check_settings
from smim.search.report import tuned
from smim.search.segment import ROWS_PER_BATCH, Chunk, Segment, write_segment
from smim.search.snapshot import Snapshot

_OURS = re.compile(r"\d{8}(\.deleted-\d{8}\.npy)?|\..*\.partial")
# A search visits every segment, so small segments are merged when there are more than these.
_MOST_SEGMENTS = 8
_EXACT_BELOW = 10_000  # sentences; a merged segment with fewer is exact


@dataclass(frozen=True)
class Put:
    """The result of a change: the `ids` of the stored texts, and which given texts were cut or left out."""

    ids: list[int]
    truncated: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)


class IndexWriter:
    """A writer that changes an index; each method makes one atomic change.

        with IndexWriter("indexes/ptb") as writer:
            writer.add(["the company said profit rose"], labels={"topic": ["money"]})

    `gpu`: FAISS trains and adds on a GPU. Raises `UserError` if another writer or build is changing the index, and
    if `gpu` is set without a GPU.
    """

    def __init__(self, directory: Path | str, *, model: SentenceModel | None = None, gpu: bool = False) -> None:
        self.directory, self._gpu = Path(directory), check_gpu(gpu)
        self.manifest = Manifest.read(self.directory)
        self._model = model
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self._lock = lock.take(self.directory / LOCK, self.directory)
        self.manifest = Manifest.read(self.directory)
        self._remove_leftovers()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._lock is not None
        self._lock.close()
        self._lock = None

    @property
    def model(self) -> SentenceModel:
        """The model that the index was built with, loaded on first use."""
        self._model = model_of(self.directory, self.manifest, self._model)
        return self._model

    def add(
        self,
        texts: Sequence[str],
        *,
        ids: Sequence[int] | None = None,
        labels: Mapping[str, Sequence[Any]] | None = None,
        too_long: str = "truncate",
        empty: str = "error",
    ) -> list[int]:
        """Add texts and return their ids. New ids follow the existing ones unless `ids` are given.

        Long texts are split into sentences if the index was built so; each text has one id. `labels`: a list of
        values for each column, one value per text; omitted columns are null. `too_long` and `empty` say what happens
        to texts that do not fit (`smim.text.fitting`); texts that are left out get no id.
        Raises `UserError` for an id that exists already, and for texts or labels that do not fit.
        """
        return self.put(texts, ids, labels, replace=False, too_long=too_long, empty=empty).ids

    def upsert(
        self,
        texts: Sequence[str],
        *,
        ids: Sequence[int] | None,
        labels: Mapping[str, Sequence[Any]] | None = None,
        too_long: str = "truncate",
        empty: str = "error",
    ) -> list[int]:
        """Add texts and replace those that have the same ids; otherwise as `add`."""
        return self.put(texts, ids, labels, replace=True, too_long=too_long, empty=empty).ids

    def delete(self, ids: Sequence[int] | None = None, *, where: Where | None = None) -> int:
        """Delete the texts of the given ids, or those that pass a filter, and return their number."""
        if (ids is None) == (not where):
            raise UserError("give either the ids of the sentences to delete, or a filter")
        segments = self._open()
        if ids is not None:
            doomed = self._doomed(segments, np.unique(as_ids(ids)))
        else:
            part = parse(where or {})
            doomed = [segment.live_positions(part) for segment in segments]
        if any(map(len, doomed)):
            kept = self._without(segments, doomed)
            types = {field.name: str(field.type) for field in segments[0].rows.schema}
            left = self.manifest.count
            self._commit(kept, **({} if kept else {"column_types": types}))
            return left - self.manifest.count
        return 0

    def set_search(self, settings: Mapping[str, int]) -> None:
        """Set the default settings of searches."""
        check_settings(settings)
        self._commit(self.manifest.segments, search=dict(settings))

    def compact(self) -> None:
        """Write the index anew as one segment, trained on its present content, without deleted rows.

        Segments of older versions get the files that they lack.
        """
        segments = self._open()
        if len(segments) > 1 or any(segment.live is not None or not segment.has_words for segment in segments):
            merged = self._merged(segments)
            least = {} if self._is_new(merged) else self.manifest.search
            self._commit([merged], num_segments=1, **self._tuned(merged, least))

    def put(
        self,
        texts: Sequence[str | None],
        ids: Sequence[int] | None,
        labels: Mapping[str, Sequence[Any]] | None,
        *,
        replace: bool,
        too_long: str = "truncate",
        empty: str = "error",
        tell: bool = True,
    ) -> Put:
        """Upsert, or add unless `replace`, and report what happened to each text. Warns unless `tell` is false."""
        if replace and ids is None:
            raise UserError("upsert needs an id for each sentence")
        check_sentences(texts, missing=True)
        if not len(texts):
            return Put([])
        manifest, segments = self.manifest, self._open()
        new_ids(ids, len(texts), first=manifest.next_id)
        rows = self._rows(texts, labels or {}, segments)
        how: dict[str, Any] = {"too_long": too_long, "empty": empty, "tell": tell, "split": manifest.split or "none"}
        fitted = self.model.fitted(texts, allow_unknown=False, **how)
        if not fitted.rows:
            return Put([], skipped=fitted.skipped)
        whole, text_of = np.unique(fitted.rows, return_inverse=True)
        given = None if ids is None else [ids[row] for row in whole.tolist()]
        of_texts = new_ids(given, len(whole), first=manifest.next_id)
        numbers = of_texts[text_of]
        rows = rows.take(pa.array(fitted.rows)).set_column(0, rows.schema.field(0), [fitted.texts])
        doomed = self._doomed(segments, numbers)
        if not replace and any(map(len, doomed)):
            there = sorted(int(segment.ids[i]) for segment, where in zip(segments, doomed, strict=True) for i in where)
            raise OfIndex(self.directory, f"holds a sentence with id {there[0]} already; upsert replaces it")
        means = self.model.posterior_of_ids(fitted.ids).mean.numpy()
        codes = comparable(means, manifest.metric, manifest.dimension)
        order = np.argsort(numbers, kind="stable")
        chunk = numbers[order], codes[order], rows.take(pa.array(order))
        added = self._written(factories.EXACT, self._empty(factories.EXACT), np.arange(len(rows)), iter([chunk]))
        kept, fields = self._without(segments, doomed), {}
        if len(kept) >= _MOST_SEGMENTS - 1 + manifest.num_segments:
            # Keep the largest, as many as the index was built with, and merge the others.
            largest = sorted(kept, key=lambda info: -info.num_live)[: manifest.num_segments]
            small = [info for info in (*kept, added) if info not in largest]
            added = self._merged([Segment(self.directory, info, manifest) for info in small], exact_below=_EXACT_BELOW)
            kept = [info for info in kept if info in largest]
            if added.factory != factories.EXACT:
                least = factories.default_search(added.factory) if self._is_new(added) else {}
                fields = self._tuned(added, least | manifest.search)
        self._commit([*kept, added], next_id=max(manifest.next_id, int(numbers.max()) + 1), **fields)
        return Put(of_texts.tolist(), fitted.truncated, fitted.skipped)

    def _tuned(self, added: SegmentInfo, least: dict[str, int]) -> dict[str, Any]:
        """The manifest's fields with the search settings of a new segment."""
        manifest = tuned(self.directory, self.manifest.changed(segments=[added]), least=least)
        return {"search": manifest.search, "measured": manifest.measured}

    def _open(self) -> list[Segment]:
        self._check_lock()
        return [Segment(self.directory, info, self.manifest) for info in self.manifest.segments]

    def _rows(
        self, texts: Sequence[str | None], labels: Mapping[str, Sequence[Any]], segments: list[Segment]
    ) -> pa.Table:
        """The texts and labels in the schema of the index's rows."""
        if not isinstance(labels, Mapping):
            raise UserError(f"labels must be a dictionary with a list of values per column, not {str(labels)[:60]}")
        for name in labels:
            if name not in self.manifest.columns:
                raise OfIndex(
                    self.directory,
                    f"has no column {name!r}; "
                    + (nearest(str(name), self.manifest.columns) if self.manifest.columns else "it has none"),
                )
        schema = segments[0].rows.schema if segments else None
        types = {name: pa.type_for_alias(alias) for name, alias in self.manifest.column_types.items()}
        arrays = {"text": pa.array([text if isinstance(text, str) else None for text in texts], pa.string())}
        for name in self.manifest.columns:
            type = schema.field(name).type if schema else types.get(name)
            arrays[name] = label_column(name, labels.get(name, [None] * len(texts)), len(texts), type)
        table = pa.table(arrays)
        return table.cast(schema) if schema else table

    def _doomed(self, segments: list[Segment], ids: np.ndarray) -> list[np.ndarray]:
        """For each segment, the positions of all rows that have one of these ids."""
        found = [segment.positions_of(np.unique(ids))[1] for segment in segments]
        return [
            positions
            if segment.texts is None
            else np.concatenate([*map(segment.sentences_of, positions), positions[:0]])
            for segment, positions in zip(segments, found, strict=True)
        ]

    def _without(self, segments: list[Segment], doomed: list[np.ndarray]) -> list[SegmentInfo]:
        """The segments with more rows marked as deleted; empty segments are left out."""
        kept = []
        for segment, positions in zip(segments, doomed, strict=True):
            info = segment.info
            if len(positions):
                live = np.ones(info.count, dtype=bool) if segment.live is None else segment.live.copy()
                live[positions] = False
                if not live.any():
                    continue
                name = f"{info.name}.deleted-{self.manifest.version + 1:08d}.npy"
                with storage.new_file(self.directory / name) as path, open(path, "wb") as file:
                    np.save(file, np.packbits(~live, bitorder="little"))
                files = {file: described for file, described in info.files.items() if file != info.deleted}
                files[name] = FileInfo.of(self.directory / name)
                texts = None if segment.texts is None else segment.texts.count_of(np.flatnonzero(live))
                num_deleted = int(np.count_nonzero(~live))
                info = replace(info, files=files, num_deleted=num_deleted, deleted=name, num_texts=texts)
            kept.append(info)
        return kept

    def _merged(self, segments: list[Segment], *, exact_below: int = 0) -> SegmentInfo:
        live = [segment.live_positions() for segment in segments]
        ids = np.concatenate([np.asarray(s.ids[positions]) for s, positions in zip(segments, live, strict=True)])
        numbers = np.concatenate([np.full(len(positions), i) for i, positions in enumerate(live)])
        positions = np.concatenate(live)
        order = np.argsort(ids, kind="stable")
        ids, numbers, positions = ids[order], numbers[order], positions[order]

        def gathered(which: np.ndarray) -> np.ndarray:
            return Snapshot(self.manifest, segments).codes(numbers[which], positions[which])

        def rows(which: np.ndarray) -> pa.Table:
            by_segment = np.argsort(numbers[which], kind="stable")
            tables = [s.table(positions[which][numbers[which] == i]) for i, s in enumerate(segments)]
            return pa.concat_tables(tables).take(pa.array(np.argsort(by_segment, kind="stable")))

        def chunks(new: np.ndarray) -> Iterator[Chunk]:
            for which in track(parts, "merging"):
                yield ids[which], gathered(which[new[which]]), rows(which)

        parts = [
            np.arange(start, min(start + ROWS_PER_BATCH, len(ids))) for start in range(0, len(ids), ROWS_PER_BATCH)
        ]
        manifest, factory = self.manifest, factories.EXACT
        if len(ids) >= exact_below:
            factory = factories.resolve(manifest.factory, len(ids), manifest.dimension, manifest.memory, gpu=self._gpu)
        vectors = self._empty(factory)
        try:
            factories.train_on_sample(
                vectors, factory, len(ids), lambda sample: iter([gathered(sample)]), gpu=self._gpu
            )
        except UserError:  # too few rows remain after deletions
            factory, vectors = factories.EXACT, self._empty(factories.EXACT)
        exact = factories.is_exact(vectors)
        vector_of = np.arange(len(ids)) if exact else number_distinct((rows(part)["text"] for part in parts), len(ids))
        return self._written(factory, vectors, vector_of, chunks(are_new(vector_of)))

    def _empty(self, factory: str) -> Any:
        return factories.make_vectors(factory, self.manifest.metric, self.manifest.dimension)

    def _written(self, factory: str, vectors: Any, vector_of: np.ndarray, chunks: Iterator[Chunk]) -> SegmentInfo:
        """Write a new segment; arguments are those of `write_segment`."""
        names = map(segment_name, count(self.manifest.version + 1))
        name = next(name for name in names if not (self.directory / name).exists())
        with storage.new_directory(self.directory / name) as partial:
            return write_segment(
                partial,
                name=name,
                factory=factory,
                vectors=vectors,
                vector_of=vector_of,
                chunks=chunks,
                store=self.manifest.store,
                gpu=self._gpu,
            )

    def _is_new(self, info: SegmentInfo) -> bool:
        """Whether the index has had no segment of this factory."""
        return info.factory not in {each.factory for each in self.manifest.segments}

    def _check_lock(self) -> None:
        if self._lock is None:
            raise UserError(f"{self.directory} can only be changed inside of `with IndexWriter(...) as writer:`")
        if not lock.is_at(self._lock, self.directory / LOCK):
            raise lock.BeingChanged(f"{self.directory} was replaced by another process meanwhile; repeat the change")

    def _commit(self, segments: list[SegmentInfo], **fields: Any) -> None:
        self._check_lock()
        self.manifest = self.manifest.changed(segments=segments, **fields)
        self.manifest.write(self.directory)
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove files that a change replaced or that a killed writer left."""
        named = {name for info in self.manifest.segments for name in (info.name, info.deleted)}
        for path in self.directory.iterdir():
            if path.name not in named and _OURS.fullmatch(path.name):
                storage.clear_away(path)
