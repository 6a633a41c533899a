"""Sentences to put into an index, from the user's files."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smim.errors import UserError, nearest


@dataclass(frozen=True)
class Sentences:
    """Texts, their ids where they have some, and a value for each of them by label column."""

    texts: list[str]
    ids: list[int] | None
    labels: dict[str, list[Any]]


def read_sentences(files: Sequence[Path], *, columns: Sequence[str]) -> Sentences:
    """Reads `.jsonl` files (objects with `text`, perhaps `id`, and labels of `columns`) and others as lines of text.

    `-` is standard input, lines of text. Empty lines are passed over. Raises `UserError` naming file and line.
    """
    rows = [row for path in files for row in _rows(path, columns)]
    if not rows:
        raise UserError(f"{', '.join(map(str, files))}: no sentence in it")
    with_id = sum("id" in row for row in rows)
    if 0 < with_id < len(rows):
        raise UserError(f"{with_id} of {len(rows)} sentences have an id; either all do, or none")
    given = [column for column in columns if any(column in row for row in rows)]
    return Sentences(
        texts=[row["text"] for row in rows],
        ids=[row["id"] for row in rows] if with_id else None,
        labels={column: [row.get(column) for row in rows] for column in given},
    )


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        with open(0 if str(path) == "-" else path, encoding="utf-8", closefd=str(path) != "-") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    place = f"{path}, line {number}"
                    yield _row(line, place, columns) if path.suffix == ".jsonl" else {"text": line.strip()}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _row(line: str, place: str, columns: Sequence[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise UserError(f"{place}: an object with a text is needed")
    for key in row:
        if key not in ("id", "text", *columns):
            raise UserError(f"{place}: the index has no column {key!r}; {nearest(key, ['id', 'text', *columns])}")
    return row
