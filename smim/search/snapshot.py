"""One version of an index, opened: what is searched. Imports no torch, so that a process which only searches is small.

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

# Which rows of each segment may be found, all of them where it is None.
Rows = list[Allowed | None]
_FILTERS_KEPT = 32
_ATTEMPTS = 10  # to open an index that is being changed
_DEEPER = 4  # times as many sentences as rows are searched for at first
_SMALLEST = 1e-12
_TABLE_BYTES = 2**28  # a quarter of a second on two cores


@dataclass(frozen=True)
class Snapshot:
    """One version of an index, opened: it stays what it is while the index on disk changes."""

    manifest: Manifest
    segments: list[Segment]
    filters: OrderedDict[str, list[Allowed | None]] = field(default_factory=OrderedDict)

    @classmethod
    def open(
        cls, directory: Path, manifest: Manifest, *, known: Sequence[Segment] = (), gpu: bool = False
    ) -> "Snapshot":
        """Opens the segments that a manifest names, but for `known` ones; `gpu` and errors as of `Segment`."""
        # A segment's info holds its files' checksums: where it is equal, so is the content.
        opened = [next((segment for segment in known if segment.info == info), None) for info in manifest.segments]
        pairs = zip(opened, manifest.segments, strict=True)
        segments = [segment or Segment(directory, info, manifest, gpu=gpu) for segment, info in pairs]
        # For large tables opening an index would take seconds, and memory that does not depend on its size on disk.
        if sum(factories.table_bytes(segment.vectors) for segment in segments) <= _TABLE_BYTES:
            for segment in segments:
                if segment not in opened:
                    factories.precompute_table(segment.vectors)
        return cls(manifest, segments)

    def allowed(self, where: Where | None) -> list[Allowed | None]:
        """For each segment, which rows may be found; the latest filters are remembered."""
        if where is None or where == {}:
            return [segment.allowed(None) for segment in self.segments]
        try:
            key = repr(where)
        except RecursionError:
            raise BadFilter("the filter is nested too deep") from None
        found = self.filters.get(key)
        if found is None:
            part = parse(where)
            if not self.segments:  # what is no filter is refused
                types = {"text": "string", **dict.fromkeys(self.manifest.columns, "null"), **self.manifest.column_types}
                condition(part, pa.schema([(name, pa.type_for_alias(type)) for name, type in types.items()]))
            found = self.filters[key] = [segment.allowed(part) for segment in self.segments]
            while len(self.filters) > _FILTERS_KEPT:
                self.filters.popitem(last=False)
        return found

    def nearest(
        self, codes_ND: np.ndarray, options: Options, allowed: Rows | None = None, *, exact: bool = False
    ) -> tuple[np.ndarray, ...]:
        """Distances fp32, ids, segments and positions int64, [N, K] each, nearest first, ties in order of their ids.

        Of the options `k`, `where` and `settings` count, which are all that there are: the index's own are not read.
        K is k, or the number of sentences that may be found if that is less. `exact`: whatever the settings. `allowed`
        says which rows may be found, in the place of `where`.
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
        """Of the words of some texts, in the sentences that are there, whatever filter a search has."""
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
        """The hits of each query by the options' `mode`: as `nearest` finds them, or by the words of its text too.

        A query without a text is searched by its code. `statistics` of the words, those of this index unless given.
        With the options' `fold`, the first hit of each row, or of equal texts.
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
        # Most rows have other sentences among the first.
        deeper = replace(options, k=_DEEPER * options.k) if self.manifest.is_split else options
        first = self._ordered(codes_ND, queries, deeper, allowed)
        asked = zip(codes_ND, queries, first, strict=True)
        return [self._folded(code_D, query, options, allowed, hits, deeper.k) for code_D, query, hits in asked]

    def _ordered(
        self, codes_ND: np.ndarray, queries: Sequence[WordQuery | None], options: Options, allowed: Rows
    ) -> list[list[Hit]]:
        """The hits of each query, of which nothing is folded."""
        alone = [i for i, query in enumerate(queries) if query is None]
        dense = iter(self._dense(codes_ND[alone], options, allowed) if alone else [])
        return [
            next(dense) if query is None else self._worded(code_D, query, options, allowed)
            for code_D, query in zip(codes_ND, queries, strict=True)
        ]

    def _folded(
        self, code_D: np.ndarray, query: WordQuery | None, options: Options, allowed: Rows, hits: list[Hit], k: int
    ) -> list[Hit]:
        """The first hit of each of the `k` nearest rows, or different texts; `hits`: the first `k` sentences.

        What was found is left out of the next search.
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
        """Of each text the sentences that are equal to it by the options' `fold`, and pass its filter."""
        found = [Equals(0, []) for _ in texts]
        for segment, allowed in zip(self.segments, self.allowed(options.where), strict=True):
            found = [
                one + more
                for one, more in zip(found, equals(segment, texts, options.fold or "none", allowed), strict=True)
            ]
        return found

    def _worded(self, code_D: np.ndarray, query: WordQuery, options: Options, allowed: Rows) -> list[Hit]:
        """The hits of one query by its words, or by both."""
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
        """A text by its segment and the position of its first sentence: all of its sentences."""
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
        """How many texts there are, or how many pass a filter."""
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
        """The segment and the position of each id, int64 [len(ids)]; -1 where there is none.

        Of a text that was split, that of its first sentence.
        """
        numbers, positions = np.full(len(ids), -1), np.full(len(ids), -1)
        for i, segment in enumerate(self.segments):
            found, places = segment.positions_of(ids)
            numbers[found], positions[found] = i, places
        return numbers, positions


def stamp_of(directory: Path) -> tuple[int, int]:
    """What is another after each change: the manifest's file is another one."""
    try:
        status = (directory / MANIFEST).stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_ino, status.st_mtime_ns


def open_newest(
    directory: Path, known: Sequence[Segment] = (), *, gpu: bool = False
) -> tuple[Snapshot, tuple[int, int]]:
    """The version on disk, with those of `known` segments that are still in it."""
    for attempt in range(_ATTEMPTS):
        stamp = stamp_of(directory)
        manifest = Manifest.read(directory)
        try:
            return Snapshot.open(directory, manifest, known=known, gpu=gpu), stamp
        except Unreadable:
            # Between the two reads a change may have removed what the older manifest names.
            if stamp_of(directory) == stamp or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def merge(parts: Sequence[tuple[np.ndarray, ...]], k: int) -> tuple[np.ndarray, ...]:
    """The first k of several answers together, nearest first, ties in order of their ids.

    Each part: distances [N, K], ids [N, K], and whatever else is reported of a hit, also [N, K]; K may differ.
    """
    distances, ids, *others = (np.concatenate(values, axis=1) for values in zip(*parts, strict=True))
    order = np.lexsort((ids, distances), axis=-1)[:, :k]
    rows = np.arange(len(order))[:, None]
    return tuple(values[rows, order] for values in (distances, ids, *others))
