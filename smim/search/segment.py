"""One segment of an index: FAISS's vectors, their exact codes, and the id, text and labels of each row.

    00000001/vectors.faiss  ids.npy  rows.arrow  [codes.npy]  [vector_of.npy  rows_of.npy  starts.npy]
             words.arrow  word_rows.npy  word_counts.npy  lengths.npy

All files are memory-mapped. Rows are in ascending order of id. A row is a sentence; the sentences of a split text share
an id and keep their order (`Texts`). `rows.arrow` is an Arrow IPC file with the column `text` and the labels. Its
batches have one size, so a row is found without reading others. An approximate segment stores the exact codes in
`codes.npy`, and one vector for equal sentences (`equals.py`); without those files the vectors are the rows. The files
in the last line say which words each row has (`words.py`); segments of older versions lack them.

Shapes: N queries, R rows of the segment, V vectors, C candidates, K results, D latent dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from smim.arrow import check_batch, first_line, open_rows
from smim.errors import UserError
from smim.search import factory as factories
from smim.search.equals import VECTOR_OF, RowMap
from smim.search.errors import Unreadable
from smim.search.files import array_file, flat_file, open_vectors
from smim.search.filters import Combination, Part, asks_of, combined, condition, excludes
from smim.search.gpu import VectorsOnGpu, on_gpu
from smim.search.labels import plain
from smim.search.manifest import FileInfo, Manifest, SegmentInfo
from smim.search.words import FILES as OF_WORDS
from smim.search.words import Texts, Words, WordsWriter
from smim.shards import DTYPES, open_array

VECTORS, IDS, ROWS, CODES = "vectors.faiss", "ids.npy", "rows.arrow", "codes.npy"
TEXT = "text"
ROWS_PER_BATCH = 4096
# If so few rows pass a filter, compare each: a graph or inverted lists would miss most of them.
_COMPARED_ONE_BY_ONE = 50_000
# If k is a larger share of all vectors than this, comparing each is faster.
_LARGE_SHARE = 1 / 4
_COMPARED_AT_ONCE = 65_536
# FAISS computes distances as |q|^2 - 2qv + |v|^2. Rounding can swap close codes, so we take a few more candidates and
# rerank them by differences.
_SPARE = 16

# Ids int64, the codes fp32 [V, D] of rows with a new vector, and a table of the rows. All chunks but the last have
# `ROWS_PER_BATCH` rows.
Chunk = tuple[np.ndarray, np.ndarray, pa.Table]


@dataclass(frozen=True)
class Allowed:
    """The rows that a search may find: a mask `rows` bool [R], their `count`, a mask of their `vectors` bool [V]."""

    rows: np.ndarray
    count: int
    vectors: np.ndarray


class Segment:
    """An opened segment, searched by position, 0 to R - 1."""

    def __init__(self, directory: Path, info: SegmentInfo, manifest: Manifest, *, gpu: bool = False) -> None:
        """Open a segment; raises `Unreadable` if a file is missing, differs from the manifest, or does not fit it.

        `gpu`: copy it to the GPU, and search there if FAISS can: no graphs, no filtered searches.
        """
        self.info, self.metric, self.folder = info, manifest.metric, directory / info.name
        try:
            paths = {name: info.path(directory, name) for name in info.files}
            for name, file in info.files.items():
                file.check(paths[name])
            self.vectors = open_vectors(paths[VECTORS])
            self.ids = open_array(paths[IDS], np.int64, (info.count,))
            self.rows = open_rows(paths[ROWS])
            self.map = RowMap(paths, info.count, self.vectors.ntotal) if VECTOR_OF in paths else None
            shape = (self.vectors.ntotal, manifest.dimension)
            self.stored = open_array(paths[CODES], DTYPES[manifest.store], shape) if CODES in paths else None
            mask = open_array(paths[info.deleted], np.uint8, (-(-info.count // 8),)) if info.deleted else None
        except KeyError as error:
            raise Unreadable(f"{self.folder} has no {error.args[0]}; build the index again") from None
        except UserError as error:
            raise error if isinstance(error, Unreadable) else self._unreadable(str(error)) from None
        self._paths = paths
        self.live = None if mask is None else ~np.unpackbits(mask, count=info.count, bitorder="little").view(bool)
        self._check(manifest)
        self._live = None if self.live is None else self.allowed_of(self.live)
        self._refine = 0 if factories.measures_exactly(self.vectors) else 1
        self._on_gpu = VectorsOnGpu(self.vectors) if gpu and factories.graph(self.vectors) is None else None
        self._batch = lru_cache(maxsize=1024)(self._read_batch)
        # Arrow creates a batch's columns at each access, so keep them.
        self._columns = lru_cache(maxsize=1024)(
            lambda number: list(zip(self.rows.schema.names, self._batch(number).columns, strict=True))
        )

    def search(
        self, queries_ND: np.ndarray, k: int, settings: dict[str, int] | None, allowed: Allowed | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest rows of each query, nearest first; equal distances are in order of position.

        Returns distances fp32 [N, K] and positions int64 [N, K]. K is k, or the number of allowed rows if that is
        lower. `settings` None: an exact search. `allowed`: the rows that may be found; None: all.
        """
        k = min(k, self.info.count if allowed is None else allowed.count)
        if k == 0:
            return np.empty((len(queries_ND), 0), np.float32), np.empty((len(queries_ND), 0), np.int64)
        num_vectors = self.vectors.ntotal if allowed is None else int(np.count_nonzero(allowed.vectors))
        exact = factories.is_exact(self.vectors)
        few = allowed is not None and num_vectors <= _COMPARED_ONE_BY_ONE
        if settings is None or (not exact and (few or k > _LARGE_SHARE * num_vectors)):
            return self._compare(queries_ND, k, allowed)
        refine = settings.get("refine", self._refine)
        wanted = min(num_vectors, max(k * refine, k + _SPARE) if refine or exact else k)
        try:
            scores, vectors = self._proposed(queries_ND, wanted, settings, allowed)
        except RuntimeError as error:
            raise self._unreadable(str(error).splitlines()[0]) from None
        if len(vectors) and vectors.max() >= self.vectors.ntotal:
            raise self._unreadable(f"{VECTORS} refers to codes that do not exist")
        if refine or exact:
            distances = self._exact_distances(queries_ND, vectors)
        else:
            distances = self._distances(scores)
            distances[vectors < 0] = np.inf
        distances, positions = self._nearest_rows(distances, vectors, k, allowed)
        if not exact and (positions[:, -1] < 0).any():
            # FAISS may visit too few of the allowed rows.
            short = np.flatnonzero(positions[:, -1] < 0)
            distances[short], positions[short] = self._compare(queries_ND[short], k, allowed)
        return distances, positions

    def _proposed(
        self, queries_ND: np.ndarray, wanted: int, settings: dict[str, int], allowed: Allowed | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """FAISS's candidates: scores and vector numbers, [N, wanted]."""
        if allowed is None and self._on_gpu is not None and self._on_gpu.takes(wanted, settings):
            return self._on_gpu.search(queries_ND, wanted, settings)
        bitmap = None if allowed is None else np.packbits(allowed.vectors, bitorder="little")
        selector = None if bitmap is None else faiss.IDSelectorBitmap(bitmap)
        parameters = factories.search_parameters(self.vectors, settings, selector)
        scores, vectors = self.vectors.search(queries_ND, wanted, params=parameters)
        return scores, vectors

    @property
    def has_words(self) -> bool:
        return all(name in self._paths for name in OF_WORDS)

    @cached_property
    def words(self) -> Words:
        """The words of its sentences; raises `UserError` if an older version wrote none."""
        if not self.has_words:
            raise UserError(
                f"{self.folder} was written by an older version, without the files for a search by words; "
                "`smim index compact` adds them"
            )
        try:
            return Words(self._paths, self.info.count)
        except UserError as error:
            raise error if isinstance(error, Unreadable) else self._unreadable(str(error)) from None

    @cached_property
    def texts(self) -> Texts | None:
        """Which rows are sentences of one text; None if each row is a text."""
        return Texts.of(np.asarray(self.ids)) if self.info.is_split else None

    def count_texts(self, allowed: Allowed | None) -> int:
        """The number of texts that may be found."""
        if allowed is None:
            return self.info.count if self.texts is None else self.texts.count
        return allowed.count if self.texts is None else self.texts.count_of(np.flatnonzero(allowed.rows))

    def sentences_of(self, position: int) -> np.ndarray:
        """The positions of a text's sentences, given the position of its first."""
        if self.texts is None:
            return np.array([position])
        return np.arange(position, np.searchsorted(self.ids, self.ids[position], side="right"))

    def codes(self, positions: np.ndarray) -> np.ndarray:
        """The codes of the given rows as they were indexed, fp32 [len(positions), D]."""
        return self._codes(positions if self.map is None else self.map.vectors(positions))

    def distances(self, queries_ND: np.ndarray, positions_NC: np.ndarray) -> np.ndarray:
        """The exact distances of queries to candidate rows, fp32 [N, C]; infinity for position -1."""
        vectors = positions_NC if self.map is None else np.where(positions_NC < 0, -1, self.map.vectors(positions_NC))
        return self._exact_distances(queries_ND, vectors)

    def row(self, position: int) -> dict[str, Any]:
        """The text and labels of one row, by column."""
        columns, at = self._columns(position // ROWS_PER_BATCH), position % ROWS_PER_BATCH
        try:
            # Indexes of older versions hold NaN for a missing value.
            return {name: plain(column[at].as_py()) for name, column in columns}
        except UnicodeDecodeError:
            raise self._unreadable(f"row {position} of {ROWS} is not UTF-8") from None

    def table(self, positions: np.ndarray) -> pa.Table:
        """The texts and labels of the rows at ascending positions."""
        batch_of = positions // ROWS_PER_BATCH
        parts = [
            self._batch(int(number)).take(pa.array(positions[batch_of == number] % ROWS_PER_BATCH))
            for number in np.unique(batch_of)
        ]
        return pa.Table.from_batches(parts, schema=self.rows.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All texts and labels, in order."""
        return map(self._read_batch, range(self.rows.num_record_batches))

    def positions_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of `ids` are here, as indices into `ids`, and their positions (for a text: its first sentence)."""
        places = np.searchsorted(self.ids, ids)
        found = np.flatnonzero(self.ids[np.minimum(places, self.info.count - 1)] == ids)
        if self.live is not None:
            found = found[self.live[places[found]]]
        return found, places[found]

    def allowed(self, where: Part | None) -> Allowed | None:
        """The rows that are not deleted and pass the filter; None: all rows."""
        if where is None:
            return self._live
        try:
            passing = self._passing(where)
        except UnicodeDecodeError:
            raise self._unreadable(f"{ROWS} is not UTF-8") from None
        return self.allowed_of(passing if self.live is None else passing & self.live)

    def live_positions(self, where: Part | None = None) -> np.ndarray:
        """The positions of the rows that may be found."""
        allowed = self.allowed(where)
        return np.arange(self.info.count) if allowed is None else np.flatnonzero(allowed.rows)

    def _passing(self, where: Part) -> np.ndarray:
        """Which rows pass a filter, bool [R]. A split text passes a condition on `text` if any sentence does."""
        if isinstance(where, Combination) and self.texts is not None and asks_of(where, TEXT):
            return combined(where, [self._passing(part) for part in where.parts], self.info.count)
        passes = condition(where, self.rows.schema)
        passing = np.concatenate([passes(batch) for batch in self.batches()])
        if self.texts is None or not asks_of(where, TEXT):
            return passing
        return self.texts.all(passing) if excludes(where) else self.texts.any(passing)

    def _check(self, manifest: Manifest) -> None:
        """Raise `Unreadable` if the files do not fit each other."""
        info, vectors = self.info, self.vectors
        metric = factories.METRICS[manifest.metric]
        num_vectors = info.count if self.map is None else vectors.ntotal  # as the map's files have it
        names, types = self.rows.schema.names, self.rows.schema.types
        plain = (pa.types.is_primitive, pa.types.is_string, pa.types.is_null)
        wrong = {
            f"{VECTORS} holds {vectors.ntotal:,} codes of {vectors.d} dimensions, or of another metric": (
                (vectors.ntotal, vectors.d, vectors.metric_type) != (num_vectors, manifest.dimension, metric)
            ),
            f"{VECTORS} is a kind of index that is never built": (
                not factories.takes_filters(vectors) or (self.stored is None) != factories.is_exact(vectors)
            ),
            f"{ROWS} has the columns {', '.join(names)[:200]}": (
                names != [TEXT, *manifest.columns] or not pa.types.is_string(types[0])
            ),
            f"{ROWS} has labels that are neither text nor numbers": (
                not all(any(is_type(kind) for is_type in plain) for kind in types)
            ),
            f"{ROWS} holds {self.rows.num_record_batches} batches of rows": (
                self.rows.num_record_batches != -(-info.count // ROWS_PER_BATCH)
            ),
            f"{IDS} holds ids from {self.ids[0]} to {self.ids[-1]}": not 0 <= self.ids[0] <= self.ids[-1],
            f"{info.deleted} marks another number of rows than {info.num_deleted:,}": (
                self.live is not None and np.count_nonzero(self.live) != info.num_live
            ),
        }
        if problems := "; ".join(problem for problem, holds in wrong.items() if holds):
            raise self._unreadable(problems)

    def _read_batch(self, number: int) -> pa.RecordBatch:
        try:
            batch = check_batch(self.rows.get_batch(number))
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(f"{ROWS}: {first_line(error)}") from None
        if batch.num_rows != min(ROWS_PER_BATCH, self.info.count - number * ROWS_PER_BATCH):
            raise self._unreadable(f"batch {number} of {ROWS} has {batch.num_rows} rows")
        return batch

    def _unreadable(self, problem: str) -> Unreadable:
        return Unreadable(f"{self.folder} cannot be read ({problem}); build the index again")

    def allowed_of(self, rows_R: np.ndarray) -> Allowed:
        """The `Allowed` for a mask of rows, bool [R]."""
        vectors = rows_R if self.map is None else self.map.any_of(rows_R)
        return Allowed(rows_R, int(np.count_nonzero(rows_R)), vectors)

    def _codes(self, vectors: np.ndarray) -> np.ndarray:
        """The exact codes of the given vectors, fp32 [len(vectors), D]."""
        if self.stored is None:
            return self.vectors.reconstruct_batch(np.ascontiguousarray(vectors, np.int64))
        return np.asarray(self.stored[vectors], np.float32)

    def _nearest_rows(
        self, distances_NC: np.ndarray, vectors_NC: np.ndarray, k: int, allowed: Allowed | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first k rows [N, K] of the candidates; filled up with infinity and -1."""
        distances, vectors = _sorted(distances_NC, vectors_NC, k if self.map is None else vectors_NC.shape[1])
        if self.map is None:
            return distances, vectors
        return self.map.expand(distances, vectors, k, None if allowed is None else allowed.rows)

    def _compare(self, queries_ND: np.ndarray, k: int, allowed: Allowed | None) -> tuple[np.ndarray, np.ndarray]:
        """Search as `search` does, by comparing each vector."""
        vectors_V = np.arange(self.vectors.ntotal) if allowed is None else np.flatnonzero(allowed.vectors)
        candidates = np.empty((len(queries_ND), 0), np.int64)
        for start in range(0, len(vectors_V), _COMPARED_AT_ONCE):
            part = vectors_V[start : start + _COMPARED_AT_ONCE]
            wanted = min(len(part), k + _SPARE)
            _, places = faiss.knn(queries_ND, self._codes(part), wanted, metric=factories.METRICS[self.metric])
            candidates = np.concatenate([candidates, part[places]], axis=1)
            if candidates.shape[1] > 4 * (k + _SPARE):
                _, candidates = _sorted(self._exact_distances(queries_ND, candidates), candidates, k + _SPARE)
        return self._nearest_rows(self._exact_distances(queries_ND, candidates), candidates, k, allowed)

    def _exact_distances(self, queries_ND: np.ndarray, candidates_NC: np.ndarray) -> np.ndarray:
        """The distances fp32 [N, C] of each query's candidates; infinity for -1, which FAISS uses as padding."""
        distances = np.full(candidates_NC.shape, np.inf, np.float32)
        query, place = np.nonzero(candidates_NC >= 0)
        for start in range(0, len(query), _COMPARED_AT_ONCE):
            of = query[start : start + _COMPARED_AT_ONCE], place[start : start + _COMPARED_AT_ONCE]
            codes_CD, queries_CD = self._codes(candidates_NC[of]), queries_ND[of[0]]
            if self.metric == "l2":
                distances[of] = np.linalg.norm(codes_CD - queries_CD, axis=-1)
            else:
                distances[of] = self._distances((codes_CD * queries_CD).sum(-1))
        return distances

    def _distances(self, scores: np.ndarray) -> np.ndarray:
        """Convert FAISS's scores to distances: smaller is nearer."""
        if self.metric == "inner_product":
            return -scores
        if self.metric == "cosine":
            return np.maximum(1 - scores, 0)
        return np.sqrt(np.maximum(scores, 0))


def _sorted(distances_NC: np.ndarray, vectors_NC: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k by distance; equal distances are in order of vector number."""
    order = np.lexsort((vectors_NC, distances_NC), axis=-1)[:, :k]
    rows = np.arange(len(order))[:, None]  # faster than numpy's take_along_axis
    return distances_NC[rows, order], vectors_NC[rows, order]


def write_segment(
    folder: Path,
    *,
    name: str,
    factory: str,
    vectors: Any,
    vector_of: np.ndarray,
    chunks: Iterator[Chunk],
    store: str,
    gpu: bool = False,
) -> SegmentInfo:
    """Write a segment into an empty folder, from chunks of its rows, ids ascending.

    `vector_of`: the number of each row's vector, int64 [R], from `number_distinct`; in an exact segment each row has
    its own. `vectors`: an empty, trained FAISS index. It is held in memory, or with `gpu` in GPU memory, unless it is
    exact; nothing else is held.
    """
    exact, num_vectors = factories.is_exact(vectors), int(vector_of.max()) + 1
    gpu = gpu and not exact and factories.graph(vectors) is None
    if gpu:
        vectors = on_gpu(vectors)
    elif not exact:
        factories.reserve(vectors, num_vectors)
    dtype = np.float32 if exact else DTYPES[store]
    first, words = next(chunks), WordsWriter()
    num_texts, last_id = 0, -1
    with (
        array_file(folder / IDS, np.int64, (len(vector_of),)) as ids_file,
        pa.OSFile(str(folder / ROWS), "wb") as sink,
        pa.ipc.new_file(sink, first[2].schema) as rows_file,
        flat_file(folder / VECTORS, vectors, num_vectors)
        if exact
        else array_file(folder / CODES, dtype, (num_vectors, vectors.d)) as codes_file,
    ):
        for ids, codes, rows in chain([first], chunks):
            num_texts += int(np.count_nonzero(np.diff(ids, prepend=last_id)))
            last_id = int(ids[-1])
            ids_file.write(ids.astype(np.int64).tobytes())
            rows_file.write_table(rows.combine_chunks(), max_chunksize=ROWS_PER_BATCH)
            codes_file.write(codes.astype(dtype).tobytes())
            words.add(rows[TEXT].cast(pa.binary()).to_pylist())
            if not exact and len(codes):
                vectors.add(codes)
    if gpu:
        vectors = faiss.index_gpu_to_cpu(vectors)
    if not exact:
        factories.link_lost(vectors, np.load(folder / CODES, mmap_mode="r"))
        with open(folder / VECTORS, "wb") as file:
            # If FAISS gets a file name, it ignores a full disk when it closes the file.
            faiss.write_index(vectors, faiss.PyCallbackIOWriter(file.write))
    words.write(folder)
    if num_vectors < len(vector_of):
        RowMap.write(folder, vector_of)
    files = {path.name: FileInfo.of(path) for path in sorted(folder.iterdir())}
    count = len(vector_of)
    of_texts = num_texts if num_texts < count else None
    return SegmentInfo(name=name, factory=factory, count=count, files=files, num_texts=of_texts)
