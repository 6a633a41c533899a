"""Tables as text: CSV, with quotes, and TSV, without."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa

from smim.preparation.readers.base import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    ColumnReader,
    Fault,
    Intake,
    Piece,
    block_of,
    told,
)
from smim.preparation.readers.chunks import byte_pieces, first_line, line_fault, read_chunks, text_lines


@dataclass(frozen=True)
class Delimited(ColumnReader):
    """A row a line. With the delimiter "," values may be quoted, and hold line ends then; such a file is one piece.

    `header`: whether the first row names the columns; without it they are called "0", "1", ... An empty label is null.
    """

    delimiter: str = field(kw_only=True)
    header: bool = True

    def columns(self, path: Path) -> list[str] | None:
        """See `FileReader.columns`."""
        if not self._quoted:
            return self._names(first_line(path).split(self.delimiter))
        intake = Intake(path, skip_bad=True)
        with told(path):
            return self._names(next(iter(self._records(Piece(path), intake)), []))

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`."""
        pieces = byte_pieces(path, piece_bytes=piece_bytes)
        return [Piece(path)] if self._quoted and pieces else pieces

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`. Lines without anything are passed over."""
        return self._read_quoted(piece, intake) if self._quoted else self._read_plain(piece, intake)

    @property
    def _quoted(self) -> bool:
        return self.delimiter == ","

    def _names(self, first: list[str]) -> list[str]:
        return [name.strip() for name in first] if self.header else [str(number) for number in range(len(first))]

    def _columns(self, first: list[str], path: Path) -> "_Columns":
        names = self._names(first)
        return _Columns(len(names), self.find_columns(names, path))

    def _records(self, piece: Piece, intake: Intake) -> "_Records":
        # A quote without its partner would make a field of the rest of the file; the module's own limit is 128 KB.
        csv.field_size_limit(MAX_LINE_BYTES)
        lines = (line for chunk in read_chunks(piece, intake) for line in io.BytesIO(chunk.data))
        return _Records(lines, intake, self.delimiter)

    def _read_plain(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        columns = None
        for chunk in read_chunks(piece, intake):
            columns = columns or self._columns(first_line(piece.path).split(self.delimiter), piece.path)
            rows = []
            for number, line in text_lines(chunk, intake):
                if not line or (self.header and chunk.offset == number == 0):
                    continue
                row = columns.of(line.split(self.delimiter))
                if isinstance(row, Fault):
                    intake.refuse(row, partial(chunk.where, number))
                else:
                    rows.append(row)
            yield columns.block(rows)

    def _read_quoted(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        records = self._records(piece, intake)
        columns = None
        rows: list[tuple[str | None, ...]] = []
        for fields in records:
            if columns is None:
                columns = self._columns(fields, piece.path)
                if self.header:
                    continue
            row = columns.of(fields)
            if isinstance(row, Fault):
                records.refuse(row)
            else:
                rows.append(row)
            if records.bytes_read > BLOCK_BYTES:
                yield columns.block(rows)
                rows, records.bytes_read = [], 0
        if columns:
            yield columns.block(rows)


@dataclass(frozen=True)
class _Columns:
    """How many columns a table has, and which ones are wanted."""

    count: int
    wanted: dict[str, int]

    def of(self, fields: list[str]) -> tuple[str | None, ...] | Fault:
        """A text and its labels."""
        if len(fields) != self.count:
            return Fault("malformed", f"{len(fields)} fields, where the first row has {self.count}")
        text, *labels = [fields[number] for number in self.wanted.values()]
        return (text, *[label or None for label in labels])

    def block(self, rows: list[tuple[str | None, ...]]) -> pa.Table:
        return block_of(rows, list(self.wanted)[1:])


class _Records:
    """The good records of CSV lines, each of one line or more.

    An open quote makes one record of all lines up to the next quote. Where that is no CSV, only its first line is left
    out: the others are read again, each for itself, but the last one as the start of what follows.
    """

    def __init__(self, lines: Iterable[bytes], intake: Intake, delimiter: str) -> None:
        self.bytes_read = 0
        self._intake = intake
        self._delimiter = delimiter
        self._lines = iter(lines)
        self._line_number = 0
        self._parse(self._lines)

    def __iter__(self) -> Iterator[list[str]]:
        while True:
            self._record: list[bytes] = []
            self._fault: Fault | None = None
            try:
                fields = next(self._parsed)
            except StopIteration:
                return
            except csv.Error as error:
                malformed = Fault("malformed", f"not CSV ({error}); are its quotes in pairs?")
                self.refuse(line_fault(self._record[0]) or malformed)
                yield from self._again(self._record[1:])
                continue
            if self._fault:
                self.refuse(self._fault)
            elif fields:
                yield fields

    def refuse(self, fault: Fault) -> None:
        """Refuses the record that was read last."""
        self._intake.refuse(fault, lambda: f"line {self._line_number - len(self._record) + 1}")

    def _again(self, lines: list[bytes]) -> Iterator[list[str]]:
        for line in lines[:-1]:
            self.bytes_read += len(line)
            yield from _Records([line], self._intake, self._delimiter)
        self._parse(chain(lines[-1:], self._lines))

    def _parse(self, lines: Iterable[bytes]) -> None:
        self._parsed = csv.reader(map(self._take, lines), delimiter=self._delimiter, strict=True)

    def _take(self, line: bytes) -> str:
        """The text of a line, with its end. A bad one is given too, as a record may go on after it, with a fault."""
        self._line_number += 1
        self.bytes_read += len(line)
        self._record.append(line)
        self._fault = self._fault or line_fault(line)
        return line.decode(errors="surrogateescape")
