"""Tables in Arrow's formats: Parquet files, and IPC streams, which the `datasets` library caches, or files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.readers.base import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    MISSING_TEXT,
    TEXT,
    TOO_LONG,
    FileReader,
    Intake,
    Piece,
    check_columns,
    find_columns,
    told,
)
from data_prep.readers.chunks import line_fault
from smim.errors import UserError

_MOST_ROWS = 1 << 15
_BUFFER_BYTES = 1 << 20
_MAGIC = b"ARROW1"


@dataclass(frozen=True)
class _Table(FileReader):
    """Columns of any type that can be written as a string; a label that is null is ""."""

    text_column: str
    label_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_columns(self.text_column, self.label_columns)

    @property
    def _names(self) -> list[str]:
        return [self.text_column, *self.label_columns]

    def _block(self, batch: pa.RecordBatch, first_row: int, intake: Intake) -> pa.Table:
        """The good rows of a batch; `first_row` is the number of its first row in the file, from 1."""
        columns = [_as_bytes(batch.column(name), name, intake.path) for name in self._names]
        good = pc.is_valid(columns[0])
        columns[1:] = [pc.fill_null(column, b"") for column in columns[1:]]
        if not (pc.all(good).as_py() and all(map(_all_text, columns))):
            good = pa.array([self._is_good(row, first_row + i, intake) for i, row in enumerate(_rows(columns))])
            columns = [column.filter(good) for column in columns]
        return pa.table([column.cast(pa.string()) for column in columns], [TEXT, *self.label_columns])

    def _is_good(self, row: tuple[bytes | None, ...], number: int, intake: Intake) -> bool:
        fault = None
        for value in row:
            if value is None:
                fault = fault or MISSING_TEXT
            elif len(value) > MAX_LINE_BYTES:
                fault = fault or TOO_LONG
            else:
                fault = fault or line_fault(value)
        if fault:
            intake.refuse(fault, partial("row {}".format, number))
        return fault is None


@dataclass(frozen=True)
class Parquet(_Table):
    """Parquet files, of which only the columns that are asked for are read; split between row groups."""

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`; bytes are those of all columns, uncompressed."""
        with told(path), open(path, "rb") as opened, pq.ParquetFile(opened) as file:
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
        # With its own buffer for each column, a row group is never held as a whole.
        with pq.ParquetFile(piece.path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            find_columns(self._names, file.schema_arrow.names, piece.path)
            groups = range(piece.start, file.num_row_groups if piece.stop is None else piece.stop)
            row = 1 + sum(file.metadata.row_group(group).num_rows for group in range(piece.start))
            for group in groups:
                rows = _rows_per_block(file.metadata.row_group(group))
                for batch in file.iter_batches(rows, row_groups=[group], columns=self._names, use_threads=False):
                    yield self._block(batch, row, intake)
                    row += len(batch)


@dataclass(frozen=True)
class ArrowStream(_Table):
    """Arrow IPC, as a stream or in the file format; a file is one piece."""

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`."""
        with told(path), open(path, "rb"):
            return [Piece(path)]

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`."""
        with pa.OSFile(str(piece.path)) as file:
            schema, batches = _open_ipc(file)
            find_columns(self._names, schema.names, piece.path)
            row = 1
            for batch in _joined(each.select(self._names) for each in batches):
                rows = max(1, min(_MOST_ROWS, len(batch) * BLOCK_BYTES // max(1, batch.nbytes)))
                for start in range(0, len(batch), rows):
                    yield self._block(batch.slice(start, rows), row + start, intake)
                row += len(batch)


def _open_ipc(file: pa.NativeFile) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """The schema and the batches of a stream, or of the file format, which begins with `_MAGIC`."""
    begin = file.read(len(_MAGIC))
    file.seek(0)
    if begin != _MAGIC:
        stream = pa.ipc.open_stream(file)
        return stream.schema, stream
    table = pa.ipc.open_file(file)
    return table.schema, map(table.get_batch, range(table.num_record_batches))


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of a block's size or more; those that `datasets` writes have a thousand rows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.nbytes for each in held) >= BLOCK_BYTES:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held = []
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _rows_per_block(group: pq.RowGroupMetaData) -> int:
    return max(1, min(_MOST_ROWS, group.num_rows * BLOCK_BYTES // max(1, group.total_byte_size)))


def _as_bytes(column: pa.Array, name: str, path: Path) -> pa.Array:
    """A column's values as they are written, in bytes, which need not be text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        if not (_is_string(column.type) or _is_binary(column.type)):
            column = column.cast(pa.string())
        return column.cast(pa.binary())
    except pa.ArrowNotImplementedError:
        raise UserError(f"{path}: column {name!r} is of type {column.type}, not text") from None


def _is_string(type: pa.DataType) -> bool:
    return pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)


def _is_binary(type: pa.DataType) -> bool:
    return pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_binary_view(type)


def _all_text(column: pa.Array) -> bool:
    """Whether all values are UTF-8, without NUL, and not too long; quickly."""
    if pc.any(pc.greater(pc.binary_length(column), MAX_LINE_BYTES)).as_py():
        return False
    try:
        return not pc.any(pc.match_substring(column.cast(pa.string()), "\0")).as_py()
    except pa.ArrowInvalid:
        return False


def _rows(columns: list[pa.Array]) -> Iterator[tuple[bytes | None, ...]]:
    return zip(*(column.to_pylist() for column in columns), strict=True)
