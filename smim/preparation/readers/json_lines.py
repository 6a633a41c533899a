"""A reader of JSON Lines: one object per line."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from smim.preparation.readers.base import (
    INFINITE,
    MISSING_TEXT,
    ColumnReader,
    Fault,
    Intake,
    Piece,
    block_of,
    listed,
    text_fault,
)
from smim.preparation.readers.chunks import read_chunks, text_lines


@dataclass(frozen=True)
class JsonLines(ColumnReader):
    """A reader of JSON Lines. The text is a string. Labels are strings, or finite numbers and booleans as in JSON."""

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`. Lines of white space are ignored."""
        for chunk in read_chunks(piece, intake):
            rows: list[tuple[str | None, ...]] = []
            seen: set[str] = set()
            for number, line in text_lines(chunk, intake):
                if not line or line.isspace():
                    continue
                row = self._row(line, seen)
                if isinstance(row, Fault):
                    intake.refuse(row, partial(chunk.where, number))
                else:
                    rows.append(row)
            block = block_of(rows, self.label_columns)
            yield block.drop_columns([name for name in self.label_columns if name not in seen])

    def _row(self, line: str, seen: set[str]) -> tuple[str | None, ...] | Fault:
        """Return a text and its labels, and add the columns of the row to `seen`."""
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            return Fault("malformed", f"not a JSON object ({error.msg} at character {error.pos + 1})")
        except (ValueError, RecursionError) as error:
            return Fault("malformed", f"not a JSON object that can be read ({error})")
        if not isinstance(found, dict):
            return Fault("malformed", f"a JSON {_kind(found)}, but each line must be an object")
        if self.text_column not in found:
            return Fault("missing column", f"no column {self.text_column!r}; its columns: {listed(list(found))}")
        seen.update(found)
        row = []
        for column in (self.text_column, *self.label_columns):
            value = found.get(column)
            if not isinstance(value, str):
                value = self._as_string(column, value)
                if isinstance(value, Fault):
                    return value
            row.append(value)
        # In valid UTF-8, only an escape can encode a NUL or half of a surrogate pair.
        fault = next(filter(None, map(text_fault, filter(None, row))), None) if "\\u" in line else None
        return fault or tuple(row)

    def _as_string(self, column: str, value: Any) -> str | Fault | None:
        if column == self.text_column:
            wrong = Fault("malformed", f"column {column!r} is a {_kind(value)}; the text must be a string")
            return MISSING_TEXT if value is None else wrong
        if isinstance(value, dict | list):
            return Fault("malformed", f"column {column!r} is a {_kind(value)}; a label must be a string or a number")
        if isinstance(value, float) and math.isinf(value):
            return INFINITE
        if value is None or value != value:  # NaN
            return None
        return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
