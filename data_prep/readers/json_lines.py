"""JSON Lines: an object a line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep.readers.base import (
    MISSING_TEXT,
    Fault,
    FileReader,
    Intake,
    Piece,
    block_of,
    check_columns,
    listed,
    text_fault,
)
from data_prep.readers.chunks import byte_pieces, read_chunks, text_lines


@dataclass(frozen=True)
class JsonLines(FileReader):
    """The text is a string; labels are strings, or numbers and booleans as JSON writes them; null is ""."""

    text_column: str
    label_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_columns(self.text_column, self.label_columns)

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`."""
        return byte_pieces(path, piece_bytes=piece_bytes)

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`. Lines of white space are passed over."""
        for chunk in read_chunks(piece, intake):
            rows = []
            for number, line in text_lines(chunk, intake):
                if not line or line.isspace():
                    continue
                row = self._row(line)
                if isinstance(row, Fault):
                    intake.refuse(row, partial(chunk.where, number))
                else:
                    rows.append(row)
            yield block_of(rows, self.label_columns)

    def _row(self, line: str) -> tuple[str, ...] | Fault:
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            return Fault("malformed", f"not a JSON object ({error.msg} at character {error.pos + 1})")
        except (ValueError, RecursionError) as error:
            return Fault("malformed", f"not a JSON object that can be read ({error})")
        if not isinstance(found, dict):
            return Fault("malformed", f"a JSON {_kind(found)}, where each line is to be an object")
        row = []
        for column in (self.text_column, *self.label_columns):
            if column not in found:
                return Fault("missing column", f"no column {column!r}; its columns: {listed(list(found))}")
            value = found[column]
            if not isinstance(value, str):
                value = self._as_string(column, value)
                if isinstance(value, Fault):
                    return value
            row.append(value)
        # Only an escape can make a NUL or half of a surrogate pair of good bytes.
        fault = next(filter(None, map(text_fault, row)), None) if "\\u" in line else None
        return fault or tuple(row)

    def _as_string(self, column: str, value: Any) -> str | Fault:
        if column == self.text_column:
            wrong = Fault("malformed", f"column {column!r} is a {_kind(value)}, the text is to be a string")
            return MISSING_TEXT if value is None else wrong
        if isinstance(value, dict | list):
            return Fault("malformed", f"column {column!r} is a {_kind(value)}, a label is to be a string or a number")
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
