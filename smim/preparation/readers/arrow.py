"""Readers of Arrow's formats: Parquet, and IPC as files or as streams, which the `datasets` library caches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from smim.errors import UserError
from smim.preparation.readers.base import (
    BLOCK_BYTES,
    INFINITE,
    MAX_LINE_BYTES,
    MISSING_TEXT,
    TEXT,
    TOO_LONG,
    ColumnReader,
    Intake,
    Piece,
    reading,
)
from smim.preparation.readers.chunks import line_fault

_MOST_ROWS = 1 << 15
_BUFFER_BYTES = 1 << 20
_MAGIC = b"ARROW1"
_OF_TEXT = (
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view()),
)


@dataclass(frozen=True)
class _Table(ColumnReader):
    """A reader of columns of any type that can be converted to strings."""

    def _block(self, batch: pa.RecordBatch, first_row: int, intake: Intake) -> pa.Table:
        """Return the good rows of a batch. `first_row`: the number of its first row in the file, from 1."""
        batch = batch.select(list(self.find_columns(batch.schema.names, intake.path)))
        names = batch.schema.names
        columns = [_as_bytes(column, name, intake.path) for name, column in zip(names, batch.columns, strict=True)]
        infinite = reduce(np.logical_or, map(_infinite, batch.columns[1:]), np.zeros(len(batch), bool))
        if columns[0].null_count or infinite.any() or not all(map(_all_text, columns)):
            rows = zip(zip(*(column.to_pylist() for column in columns), strict=True), infinite, strict=True)
            good = pa.array([self._is_good(*row, first_row + i, intake) for i, row in enumerate(rows)])
            columns = [column.filter(good) for column in columns]
        return pa.table([column.cast(pa.string()) for column in columns], [TEXT, *names[1:]])

    def _is_good(self, row: tuple[bytes | None, ...], infinite: bool, number: int, intake: Intake) -> bool:
        fault = MISSING_TEXT if row[0] is None else INFINITE if infinite else None
        for value in filter(None, row):
            fault = fault or (TOO_LONG if len(value) > MAX_LINE_BYTES else line_fault(value))
        if fault:
            intake.refuse(fault, partial("row {}".format, number))
        return fault is None


@dataclass(frozen=True)
class Parquet(_Table):
    """A reader of the wanted columns of Parquet files. Pieces consist of whole row groups."""

    def columns(self, path: Path) -> list[str] | None:
        """See `FileReader.columns`."""
        with reading(path), open(path, "rb") as opened, pq.ParquetFile(opened) as file:
            return file.schema_arrow.names

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`. The size of a piece includes all columns, uncompressed."""
        with reading(path), open(path, "rb") as opened, pq.ParquetFile(opened) as file:
            sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
        pieces, start, held = [], 0, 0
        for stop, size in enumerate(sizes, start=1):
            held += size
            if held >= piece_bytes or stop == len(sizes):
                pieces.append(Piece(path, start, stop))
                start, held = stop, 0
        return pieces

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`."""
        # With these settings, a whole row group is never in memory.
        with pq.ParquetFile(piece.path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            names = list(self.find_columns(file.schema_arrow.names, piece.path))
            groups = range(piece.start, file.num_row_groups if piece.stop is None else piece.stop)
            row = 1 + sum(file.metadata.row_group(group).num_rows for group in range(piece.start))
            for group in groups:
                held = file.metadata.row_group(group)
                rows = _rows_per_block(held.num_rows, held.total_byte_size)
                for batch in file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False):
                    yield self._block(batch, row, intake)
                    row += len(batch)


@dataclass(frozen=True)
class ArrowStream(_Table):
    """A reader of Arrow IPC, as a stream or in the file format. A file is one piece."""

    def columns(self, path: Path) -> list[str] | None:
        """See `FileReader.columns`."""
        with reading(path), pa.OSFile(str(path)) as file:
            return _open_ipc(file)[0].names

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`."""
        with reading(path), open(path, "rb"):
            return [Piece(path)]

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`."""
        with pa.OSFile(str(piece.path)) as file:
            schema, batches = _open_ipc(file)
            names = list(self.find_columns(schema.names, piece.path))
            row = 1
            for batch in _joined(each.select(names) for each in batches):
                rows = _rows_per_block(len(batch), batch.nbytes)
                for start in range(0, len(batch), rows):
                    yield self._block(batch.slice(start, rows), row + start, intake)
                row += len(batch)


def _open_ipc(file: pa.NativeFile) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Open a stream, or a file that begins with `_MAGIC`. Return its schema and its batches."""
    begin = file.read(len(_MAGIC))
    file.seek(0)
    if begin != _MAGIC:
        stream = pa.ipc.open_stream(file)
        return stream.schema, stream
    table = pa.ipc.open_file(file)
    return table.schema, map(table.get_batch, range(table.num_record_batches))


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join batches up to the size of a block. Those that `datasets` writes have only a thousand rows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.nbytes for each in held) >= BLOCK_BYTES:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held = []
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _rows_per_block(num_rows: int, num_bytes: int) -> int:
    return max(1, min(_MOST_ROWS, num_rows * BLOCK_BYTES // max(1, num_bytes)))


def _as_bytes(column: pa.Array, name: str, path: Path) -> pa.Array:
    """Convert a column's values to bytes, which need not be UTF-8. NaN becomes null."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        if pa.types.is_floating(column.type):
            numbers = column.to_numpy(zero_copy_only=False)
            # The shortest text for each number: `1`, `0.1`, `1e-05`.
            texts = pc.replace_substring_regex(pa.array(numbers.astype(str)), r"\.0$", "")
            column = pc.if_else(pa.array(np.isnan(numbers)), None, texts)
        elif column.type not in _OF_TEXT:
            column = column.cast(pa.string())
        return column.cast(pa.binary())
    except pa.ArrowNotImplementedError:
        raise UserError(f"{path}: column {name!r} has type {column.type}, not text; give another column") from None


def _infinite(column: pa.Array) -> np.ndarray:
    """Mark the infinite numbers of a column, bool [n]."""
    floating = pa.types.is_floating(column.type)
    return np.isinf(column.to_numpy(zero_copy_only=False)) if floating else np.zeros(len(column), bool)


def _all_text(column: pa.Array) -> bool:
    """Check quickly whether all values are UTF-8, without NUL, and not too long."""
    if pc.any(pc.greater(pc.binary_length(column), MAX_LINE_BYTES)).as_py():
        return False
    try:
        return not pc.any(pc.match_substring(column.cast(pa.string()), "\0")).as_py()
    except pa.ArrowInvalid:
        return False
