"""Sentences of the user's files, to put into an index."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smim.errors import RowError, UserError, nearest

# What `data_prep/build.py` reads, and here would be taken for lines of text.
_NOT_LINES = (".csv", ".tsv", ".json", ".parquet", ".arrow", ".gz", ".zst", ".bz2", ".xz", ".lzma")
_OF_OBJECTS = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Sentences:
    """Texts, their ids where they have some, a value for each of them by label column, and their files and lines."""

    texts: list[str]
    ids: list[int] | None
    labels: dict[str, list[Any]]
    places: list[str]

    @contextmanager
    def placed(self) -> Iterator[None]:
        """What is wrong with one of the sentences is reported with its file and line."""
        try:
            yield
        except RowError as error:
            raise UserError(f"{self.places[error.row]}: {error.what}") from None


def read_sentences(files: Sequence[Path], *, columns: Sequence[str] | None) -> Sentences:
    """Reads `.jsonl` or `.ndjson` files (objects with `text`, perhaps `id`, and labels), and others as lines of text.

    `columns`: the labels that there may be; None for whatever there are. `-` is standard input, lines of text. Empty
    lines are passed over. Raises `UserError` naming file and line, and for files of another kind.
    """
    found = [placed for path in files for placed in _rows(path, columns)]
    if not found:
        raise UserError(f"{', '.join(map(str, files))}: no sentence in it")
    places, rows = [place for place, _ in found], [row for _, row in found]
    with_id = sum("id" in row for row in rows)
    if 0 < with_id < len(rows):
        without = next(place for place, row in found if "id" not in row)
        raise UserError(
            f"{with_id} of {len(rows)} sentences have an id; either all do, or none ({without}: without an id)"
        )
    if columns is None:
        columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("id", "text")]
    given = [column for column in columns if any(column in row for row in rows)]
    return Sentences(
        texts=[row["text"] for row in rows],
        ids=[row["id"] for row in rows] if with_id else None,
        labels={column: [row.get(column) for row in rows] for column in given},
        places=places,
    )


def _rows(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place."""
    suffix = path.suffix.lower()
    if suffix in _NOT_LINES:
        raise UserError(
            f"{path} is neither a sentence a line nor .jsonl; rewrite it as that, or prepare a corpus of it to index: "
            f"`python data_prep/build.py corpus=text corpus.path={path} corpus.tokenizer.dir=MODEL/tokenizer ...`"
        )
    try:
        with open(0 if str(path) == "-" else path, encoding="utf-8", closefd=str(path) != "-") as file:
            for number, marked in enumerate(file, start=1):
                # Windows's editors begin a file with a mark of its encoding, and joined files have several.
                line = marked.lstrip("\ufeff")
                if not line.strip():
                    continue
                if number == 1 and suffix not in _OF_OBJECTS and _is_object(line):
                    raise UserError(f"{path} holds JSON, not a sentence a line; give it as a file called .jsonl")
                place = f"{path}, line {number}"
                yield place, _row(line, place, columns) if suffix in _OF_OBJECTS else {"text": line.strip()}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _is_object(line: str) -> bool:
    try:
        return "text" in json.loads(line)
    except (ValueError, RecursionError, TypeError):
        return False


def _row(line: str, place: str, columns: Sequence[str] | None) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise UserError(f"{place}: an object with a text is needed")
    if columns is not None:
        known = ["id", "text", *columns]
        for key in row:
            if key not in known:
                raise UserError(f"{place}: the index has no column {key!r}; {nearest(key, known)}")
    return row
