"""One opened version of an index, which searches use. Imports no torch, so that a search process stays small.

Shapes: N queries, K results, D latent dimensions.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa

from smim.search import factory as factories
from smim.search.errors import BadFilter, Unreadable
from smim.search.filters import Where, condition, parse
from smim.search.folding import Equals, Folding, equals, without
from smim.search.hybrid import by_both, by_words
from smim.search.manifest import MANIFEST, Manifest
from smim.search.query import Hit, Options
from smim.search.segment import TEXT, Allowed, Segment
from smim.search.words import Statistics, WordQuery, words_of
from smim.similarity import similarity

# The allowed rows of each segment; None: all of them.
Rows = list[Allowed | None]
_FILTERS_KEPT = 32
_ATTEMPTS = 10  # to open an index while another process changes it
_DEEPER = 4  # sentences searched first for each requested row
_SMALLEST = 1e-12
_TABLE_BYTES = 2**28  # a quarter of a second on two cores


@dataclass(frozen=True)
class Snapshot:
    """One version of an index. It stays the same while the index on disk changes."""

    manifest: Manifest
    segments: list[Segment]
    filters: OrderedDict[str, list[Allowed | None]] = field(default_factory=OrderedDict)

    @classmethod
    def open(
        cls, directory: Path, manifest: Manifest, *, known: Sequence[Segment] = (), gpu: bool = False
    ) -> "Snapshot":
        """Open the segments that a manifest names, except `known` ones; `gpu` and errors as in `Segment`."""
        # A segment's info holds its files' checksums: equal infos mean equal content.
        opened = [next((segment for segment in known if segment.info == info), None) for info in manifest.segments]
        pairs = zip(opened, manifest.segments, strict=True)
        segments = [segment or Segment(directory, info, manifest, gpu=gpu) for segment, info in pairs]
        # Computing large tables would take seconds, and memory that does not depend on the index's size on disk.
        if sum(factories.table_bytes(segment.vectors) for segment in segments) <= _TABLE_BYTES:
            for segment in segments:
                if segment not in opened:
                    factories.precompute_table(segment.vectors)
        return cls(manifest, segments)

    def allowed(self, where: Where | None) -> list[Allowed | None]:
        """The allowed rows of each segment; keeps the results of the latest filters."""
        if where is None or where == {}:
            return [segment.allowed(None) for segment in self.segments]
        try:
            key = repr(where)
        except RecursionError:
            raise BadFilter("the filter is nested too deeply") from None
        found = self.filters.get(key)
        if found is None:
            part = parse(where)
            if not self.segments:  # still refuse an invalid filter
                types = {"text": "string", **dict.fromkeys(self.manifest.columns, "null"), **self.manifest.column_types}
                condition(part, pa.schema([(name, pa.type_for_alias(type)) for name, type in types.items()]))
            found = self.filters[key] = [segment.allowed(part) for segment in self.segments]
            while len(self.filters) > _FILTERS_KEPT:
                self.filters.popitem(last=False)
        return found

    def nearest(
        self, codes_ND: np.ndarray, options: Options, allowed: Rows | None = None, *, exact: bool = False
    ) -> tuple[np.ndarray, ...]:
        """Distances fp32, ids, segments and positions int64, [N, K] each, nearest first, ties in order of id.

        Only the options `k`, `where` and `settings` are used, without the index's own settings. K is k, or the number
        of allowed sentences if that is lower. `exact`: an exact search, whatever the settings. `allowed`: the allowed
        rows, instead of `where`.
        """
        k, settings = options.k, None if exact else dict(options.settings or {})
        allowed = self.allowed(options.where) if allowed is None else allowed
        pairs = zip(self.segments, allowed, strict=True)
        found = [segment.search(codes_ND, k, settings, rows) for segment, rows in pairs]
        if not found:
            nothing = np.empty((len(codes_ND), 0), np.int64)
            return nothing.astype(np.float32), nothing, nothing, nothing
        if len(found) == 1:  # in order already
            [(distances, positions)] = found
            return distances, self.segments[0].ids[positions], np.zeros_like(positions), positions
        parts = [
            (distances, segment.ids[positions], np.full(positions.shape, i), positions)
            for i, (segment, (distances, positions)) in enumerate(zip(self.segments, found, strict=True))
        ]
        return merge(parts, k)

    def statistics(self, texts: Sequence[str | None]) -> Statistics:
        """Statistics of the texts' words over all live sentences, without any filter."""
        words = dict.fromkeys(word for text in texts if text is not None for word in words_of(text))
        empty = Statistics(0, 0, dict.fromkeys(words, 0))
        counted = (segment.words.statistics(words, segment.live, segment.texts) for segment in self.segments)
        return sum(counted, empty)

    def hits(
        self,
        codes_ND: np.ndarray,
        options: Options,
        texts: Sequence[str | None] | None = None,
        statistics: Statistics | None = None,
    ) -> list[list[Hit]]:
        """The hits of each query by the options' `mode`: by its code, by its text's words, or by both.

        A query without text is searched by its code. `statistics`: those of the words; None: computed from this index.
        With the options' `fold`, only the first hit of each row or of equal texts.
        """
        options = options.chosen(is_split=self.manifest.is_split)
        if options.mode == "dense" or texts is None:
            texts = [None] * len(codes_ND)
        elif statistics is None:
            statistics = self.statistics(texts)
        queries = [None if text is None else WordQuery(text, statistics) for text in texts]  # type: ignore[arg-type]
        allowed = self.allowed(options.where)
        if options.fold == "none":
            return self._ordered(codes_ND, queries, options, allowed)
        # Several of the first sentences often belong to one row.
        deeper = replace(options, k=_DEEPER * options.k) if self.manifest.is_split else options
        first = self._ordered(codes_ND, queries, deeper, allowed)
        asked = zip(codes_ND, queries, first, strict=True)
        return [self._folded(code_D, query, options, allowed, hits, deeper.k) for code_D, query, hits in asked]

    def _ordered(
        self, codes_ND: np.ndarray, queries: Sequence[WordQuery | None], options: Options, allowed: Rows
    ) -> list[list[Hit]]:
        """The hits of each query, without folding."""
        alone = [i for i, query in enumerate(queries) if query is None]
        dense = iter(self._dense(codes_ND[alone], options, allowed) if alone else [])
        return [
            next(dense) if query is None else self._worded(code_D, query, options, allowed)
            for code_D, query in zip(codes_ND, queries, strict=True)
        ]

    def _folded(
        self, code_D: np.ndarray, query: WordQuery | None, options: Options, allowed: Rows, hits: list[Hit], k: int
    ) -> list[Hit]:
        """The first hits of distinct rows or texts, at most `options.k`; `hits`: the `k` nearest sentences.

        Each further search excludes what was found.
        """
        folding = Folding(options.fold or "none")
        while True:
            new = folding.add(hits)
            if len(folding.found) >= options.k or len(hits) < k:
                return folding.found[: options.k]
            pairs = zip(self.segments, allowed, strict=True)
            allowed = [without(segment, new, options.fold or "none", rows) for segment, rows in pairs]
            k *= 2
            [hits] = self._ordered(code_D[None], [query], replace(options, k=k), allowed)

    def equals(self, texts: Sequence[str], options: Options) -> list[Equals]:
        """For each text, the sentences that equal it by the options' `fold` and pass the filter."""
        found = [Equals(0, []) for _ in texts]
        for segment, allowed in zip(self.segments, self.allowed(options.where), strict=True):
            found = [
                one + more
                for one, more in zip(found, equals(segment, texts, options.fold or "none", allowed), strict=True)
            ]
        return found

    def _worded(self, code_D: np.ndarray, query: WordQuery, options: Options, allowed: Rows) -> list[Hit]:
        """The hits of one query by words, or by words and codes."""
        k, settings, hits = options.k, dict(options.settings or {}), []
        for number, (segment, rows) in enumerate(zip(self.segments, allowed, strict=True)):
            if options.mode == "sparse":
                found = by_words(segment, query, k, rows)
            else:
                found = by_both(segment, code_D, query, k, settings, rows)
            of_codes = [None] * len(found.positions) if found.of_codes is None else found.of_codes.tolist()
            similarities = (found.similarities.tolist(), of_codes, found.of_words.tolist())
            for position, similar, of_code, of_words in zip(found.positions.tolist(), *similarities, strict=True):
                hit = self.hit(number, position, 1 - similar, similar)
                hits.append(replace(hit, code_similarity=of_code, word_similarity=of_words))
        return sorted(hits, key=attrgetter("distance", "id"))[:k]

    def _dense(self, codes_ND: np.ndarray, options: Options, allowed: Rows) -> list[list[Hit]]:
        distances, _, *places = self.nearest(codes_ND, options, allowed)
        similarities = similarity(self.manifest.metric, distances)
        found = (column.tolist() for column in (distances, similarities, *places))
        return [
            [self.hit(number, position, *near) for *near, number, position in rows if position >= 0]
            for rows in (zip(*row, strict=True) for row in zip(*found, strict=True))
        ]

    def hit(self, number: int, position: int, distance: float = 0.0, similar: float = 1.0) -> Hit:
        """A sentence by its segment and position."""
        segment = self.segments[number]
        row = segment.row(position)
        return Hit(int(segment.ids[position]), row.pop("text"), row, distance, similar)

    def text(self, number: int, position: int) -> Hit:
        """A whole text by its segment and the position of its first sentence."""
        hit, segment = self.hit(number, position), self.segments[number]
        if segment.texts is None:
            return hit
        sentences = segment.table(segment.sentences_of(position))[TEXT].to_pylist()
        return replace(hit, text=" ".join(sentences))

    def codes_of_texts(self, numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The codes of texts by their segments and first sentences, fp32 [N, D]: the mean of their sentences' codes."""
        if not self.manifest.is_split:
            return self.codes(numbers, positions)
        codes = np.empty((len(positions), self.manifest.dimension), np.float32)
        for i, (number, position) in enumerate(zip(numbers, positions, strict=True)):
            segment = self.segments[number]
            codes[i] = segment.codes(segment.sentences_of(int(position))).mean(0)
        if self.manifest.metric == "cosine":
            codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), _SMALLEST)
        return codes

    def count(self, where: Where | None) -> int:
        """The number of texts, or of those that pass a filter."""
        if where is None or where == {}:
            return self.manifest.count
        pairs = zip(self.segments, self.allowed(where), strict=True)
        return sum(segment.count_texts(rows) for segment, rows in pairs)

    def codes(self, numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The codes of sentences by their segments and positions, fp32 [len(positions), D]."""
        codes = np.empty((len(positions), self.manifest.dimension), np.float32)
        for i in np.unique(numbers):
            codes[numbers == i] = self.segments[i].codes(positions[numbers == i])
        return codes

    def distances(self, codes_ND: np.ndarray, numbers_NK: np.ndarray, positions_NK: np.ndarray) -> np.ndarray:
        """The exact distances of sentences by their segments and positions, fp32 [N, K]."""
        distances = np.full(positions_NK.shape, np.inf, np.float32)
        for i in np.unique(numbers_NK):
            here = np.where(numbers_NK == i, positions_NK, -1)
            distances = np.minimum(distances, self.segments[i].distances(codes_ND, here))
        return distances

    def places_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The segment and position of each id, int64 [len(ids)]; -1 for missing ids.

        For a split text, the position of its first sentence.
        """
        numbers, positions = np.full(len(ids), -1), np.full(len(ids), -1)
        for i, segment in enumerate(self.segments):
            found, places = segment.positions_of(ids)
            numbers[found], positions[found] = i, places
        return numbers, positions


def stamp_of(directory: Path) -> tuple[int, int]:
    """A value that differs after each change: inode and time of the manifest's file."""
    try:
        status = (directory / MANIFEST).stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_ino, status.st_mtime_ns


def open_newest(
    directory: Path, known: Sequence[Segment] = (), *, gpu: bool = False
) -> tuple[Snapshot, tuple[int, int]]:
    """Open the version on disk; segments among `known` that it still has are reused."""
    for attempt in range(_ATTEMPTS):
        stamp = stamp_of(directory)
        manifest = Manifest.read(directory)
        try:
            return Snapshot.open(directory, manifest, known=known, gpu=gpu), stamp
        except Unreadable:
            # A change between the two reads may have removed files that the older manifest names.
            if stamp_of(directory) == stamp or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def merge(parts: Sequence[tuple[np.ndarray, ...]], k: int) -> tuple[np.ndarray, ...]:
    """Merge several results into the first k, nearest first, ties in order of id.

    Each part: distances [N, K], ids [N, K], and further arrays [N, K]; K may differ between parts.
    """
    distances, ids, *others = (np.concatenate(values, axis=1) for values in zip(*parts, strict=True))
    order = np.lexsort((ids, distances), axis=-1)[:, :k]
    rows = np.arange(len(order))[:, None]
    return tuple(values[rows, order] for values in (distances, ids, *others))
