"""The first step of preparation: read a piece of an input into parts, which are Arrow files of clean sentences.

rows/00012.json         the description of the piece's parts; if this file exists, the piece is finished
rows/00012-000.arrow    a part: text, `pair_text` (with pairs), labels, `hash` of the text, and `key` for draws
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from smim import storage
from smim.preparation.cleaning import Cleaning
from smim.preparation.readers import Piece
from smim.preparation.recipe import Input
from smim.preparation.without import normalised, texts_without
from smim.text.corpus import PAIR_COLUMNS

# Columns of a part that no label can have.
PART_COLUMNS = ("hash", "key")
PAIR_TEXT = PAIR_COLUMNS[0]
_ROW = "row"


@dataclass(frozen=True)
class ReadTask:
    """A piece to read into parts of about `part_bytes` of text. `without`: files of sentences to leave out."""

    number: int
    input: Input
    piece: Piece
    cleaning: Cleaning
    label_columns: tuple[str, ...]
    pair_column: str | None
    draw_by: str
    without: tuple[Path, ...]
    part_bytes: int
    skip_bad: bool
    folder: Path


@dataclass(frozen=True)
class Part:
    """A file of sentences from one pool."""

    path: Path
    pool: str
    sentences: int
    text_bytes: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Return the record batches, memory-mapped."""
        return read_batches(self.path)

    def hashes(self) -> np.ndarray:
        """Return the two halves of each text's 128-bit hash, uint64 [n, 2]."""
        return self._fixed("hash", np.uint64).reshape(-1, 2)

    def keys(self) -> np.ndarray:
        """Return the number that decides each sentence's split, uint64 [n]."""
        return self._fixed("key", np.uint64)

    def _fixed(self, column: str, dtype: type) -> np.ndarray:
        arrays: list[np.ndarray] = [np.frombuffer(batch.column(column).buffers()[1], dtype) for batch in self.batches()]
        return np.concatenate(arrays) if arrays else np.empty(0, dtype)


def texts_of(batch: pa.RecordBatch) -> pa.StringArray:
    """Return the sentences of a part's batch, followed by the paired sentences if there are any."""
    return pa.concat_arrays([batch.column(name) for name in ("text", PAIR_TEXT) if name in batch.schema.names])


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow IPC stream, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        yield from pa.ipc.open_stream(file)


@contextmanager
def new_stream(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatchStreamWriter]:
    """Open a new Arrow IPC stream under a temporary name. It is renamed to `path` when it is complete."""
    with (
        storage.new_file(path) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
    ):
        yield writer


def read_piece(task: ReadTask) -> dict[str, Any]:
    """Read a piece, unless it is finished already. Return the content of `rows/NUMBER.json`."""
    marker = task.folder / f"{task.number:05d}.json"
    if marker.exists():
        return storage.read_json(marker)
    left_out = Counter[str]()
    parts: list[dict[str, Any]] = []
    columns = set(task.input.labels)
    blocks = _clean_blocks(task, left_out, columns)
    for first in blocks:
        path = task.folder / f"{task.number:05d}-{len(parts):03d}.arrow"
        parts.append(_write_part(path, first, blocks, task))
    described = {
        "pool": task.input.pool,
        "parts": parts,
        "columns": sorted(columns),
        "left_out": left_out,
    }
    storage.write_json(marker, described)
    return described


def _clean_blocks(task: ReadTask, left_out: Counter[str], columns: set[str]) -> Iterator[pa.Table]:
    """Yield the clean blocks of a piece, and add their columns to `columns`."""
    for block in task.input.reader.blocks(task.piece, skip_bad=task.skip_bad, left_out=left_out):
        columns.update(block.column_names)
        clean = task.cleaning.apply(block, left_out)
        if task.pair_column:
            clean = _with_pairs(clean, task.pair_column, task.cleaning, left_out)
        if task.without:
            clean = _without(clean, texts_without(task.without), left_out)
        if len(clean):
            yield clean


def _with_pairs(block: pa.Table, column: str, cleaning: Cleaning, left_out: Counter[str]) -> pa.Table:
    """Keep the rows with a paired sentence, which is cleaned like the text and stored as `PAIR_TEXT`."""
    pairs = block.column(column) if column in block.column_names else pa.nulls(len(block), pa.string())
    trimmed = pc.utf8_trim_whitespace(pairs)
    there = pc.fill_null(pc.greater(pc.binary_length(trimmed), 0), False)
    others = pa.table({"text": trimmed, _ROW: np.arange(len(block))}).filter(there)
    left_out["no_pair"] += len(block) - len(others)
    clean = cleaning.apply(others, left_out)
    return block.take(clean.column(_ROW)).append_column(PAIR_TEXT, clean.column("text"))


def _without(block: pa.Table, texts: frozenset[str], left_out: Counter[str]) -> pa.Table:
    """Leave out the rows in which the normalised text, or that of the paired sentence, is one of `texts`."""
    columns = [block.column(name).to_pylist() for name in ("text", PAIR_TEXT) if name in block.column_names]
    kept = [texts.isdisjoint(map(normalised, row)) for row in zip(*columns, strict=True)]
    left_out["in_without_files"] += kept.count(False)
    return block.filter(pa.array(kept, pa.bool_()))


def _write_part(path: Path, first: pa.Table, rest: Iterator[pa.Table], task: ReadTask) -> dict[str, Any]:
    """Write blocks until the part is large enough."""
    schema = pa.schema(
        [("text", pa.string())]
        + [(PAIR_TEXT, pa.string())] * bool(task.pair_column)
        + [(label, pa.string()) for label in task.label_columns]
        + [("hash", pa.binary(16)), ("key", pa.uint64())]
    )
    sentences = text_bytes = 0
    with new_stream(path, schema) as writer:
        block: pa.Table | None = first
        while block is not None:
            batch = _part_batch(block, schema, task)
            writer.write_batch(batch)
            sentences += len(batch)
            text_bytes += pc.sum(pc.binary_length(batch.column("text"))).as_py()
            block = next(rest, None) if text_bytes < task.part_bytes else None
    return {"file": path.name, "sentences": sentences, "text_bytes": text_bytes}


def _part_batch(block: pa.Table, schema: pa.Schema, task: ReadTask) -> pa.RecordBatch:
    texts = block.column("text").combine_chunks()
    hashes = b"".join([xxhash.xxh3_128_digest(text) for text in texts.cast(pa.binary()).to_pylist()])
    columns = {
        "text": texts,
        **({PAIR_TEXT: block.column(PAIR_TEXT).combine_chunks()} if task.pair_column else {}),
        "hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(texts), [None, pa.py_buffer(hashes)]),
    }
    if task.draw_by == "text":
        columns["key"] = pa.array(np.frombuffer(hashes, np.uint64)[::2])
    else:
        values = block.column(task.draw_by).cast(pa.binary()).to_pylist()
        columns["key"] = pa.array([xxhash.xxh3_64_intdigest(value) for value in values], pa.uint64())
    for label in task.label_columns:
        if label in task.input.labels:
            columns[label] = pa.repeat(pa.scalar(task.input.labels[label]), len(texts))
        elif label in block.column_names:
            columns[label] = block.column(label).combine_chunks()
        else:
            columns[label] = pa.nulls(len(texts), pa.string())
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
