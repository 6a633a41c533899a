"""Tables as text: CSV, with quotes, and TSV, without."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
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
    reading,
)
from smim.preparation.readers.chunks import first_line, line_fault, read_chunks, text_lines


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
        with reading(path):
            return self._names(next(iter(self._records(Piece(path), intake)), []))

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`."""
        pieces = super().pieces(path, piece_bytes=piece_bytes)
        return [Piece(path)] if self._quoted and pieces else pieces

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`. Lines without anything are passed over."""
        names = self.columns(piece.path) or []
        wanted = self.find_columns(names, piece.path) if names else {}
        for records in self._quoted_blocks(piece, intake) if self._quoted else self._plain_blocks(piece, intake):
            rows: list[tuple[str | None, ...]] = []
            for fields, refuse in records:
                if len(fields) == len(names):
                    text, *labels = [fields[number] for number in wanted.values()]
                    rows.append((text, *[label or None for label in labels]))
                else:
                    refuse(Fault("malformed", f"{len(fields)} fields, where the first row has {len(names)}"))
            yield block_of(rows, list(wanted)[1:])

    @property
    def _quoted(self) -> bool:
        return self.delimiter == ","

    def _names(self, first: list[str]) -> list[str]:
        return [name.strip() for name in first] if self.header else [str(number) for number in range(len(first))]

    def _records(self, piece: Piece, intake: Intake) -> "_Records":
        # A quote without its partner would make a field of the rest of the file; the module's own limit is 128 KB.
        csv.field_size_limit(MAX_LINE_BYTES)
        lines = (line for chunk in read_chunks(piece, intake) for line in io.BytesIO(chunk.data))
        return _Records(lines, intake, self.delimiter)

    def _plain_blocks(self, piece: Piece, intake: Intake) -> Iterator["_Block"]:
        for chunk in read_chunks(piece, intake):
            yield (
                (line.split(self.delimiter), partial(intake.refuse, where=partial(chunk.where, number)))
                for number, line in text_lines(chunk, intake)
                if line and not (self.header and chunk.offset == number == 0)
            )

    def _quoted_blocks(self, piece: Piece, intake: Intake) -> Iterator["_Block"]:
        records = self._records(piece, intake)
        rows = iter(records)
        if self.header:
            next(rows, None)
        for first in rows:
            yield chain([(first, records.refuse)], _until_full(records, rows))


# The fields of each row, and what to call where they are none of the table's.
_Block = Iterable[tuple[list[str], Callable[[Fault], None]]]


def _until_full(records: "_Records", rows: Iterator[list[str]]) -> _Block:
    while records.bytes_read <= BLOCK_BYTES and (fields := next(rows, None)):
        yield fields, records.refuse
    records.bytes_read = 0


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
        """The text of a line, with its end. A faulty line is included, because its record may continue after it."""
        self._line_number += 1
        self.bytes_read += len(line)
        self._record.append(line)
        self._fault = self._fault or line_fault(line)
        return line.decode(errors="surrogateescape")
