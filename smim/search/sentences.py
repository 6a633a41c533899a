"""Read sentences from the user's files: lines, JSON lines and tables, compressed or not."""

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from smim.errors import UserError, nearest
from smim.preparation.readers.base import Intake, Piece, find_columns, is_compressed, listed, reading
from smim.preparation.readers.chunks import open_lines
from smim.preparation.readers.delimited import Delimited
from smim.search.labels import with_types
from smim.text.fitting import TextsChanged, at_places, is_missing

_OF_OBJECTS = (".jsonl", ".ndjson", ".json")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OF_ARROW = (".parquet", ".arrow")
_TEXT, _ID = "text", "id"
# Rows with their places in the file.
_Rows = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Columns:
    """The columns of a file with text, id and labels. `labels` None: all others; `known`: the columns of an index."""

    text: str = _TEXT
    id: str = _ID
    labels: Sequence[str] | None = None
    known: Sequence[str] | None = None

    def named(self, present: Sequence[str], path: Path) -> dict[str, str]:
        """The columns to read, and their new names; raises `UserError` for a missing column."""
        if self.text not in present:
            raise UserError(
                f"{path} has no column {self.text!r}; its columns: {listed(present)}; name the text with --text-column"
            )
        own = {self.text: _TEXT} | ({self.id: _ID} if self.id in present else {})
        rest = [name for name in present if name not in own]
        labels = rest if self.labels is None else list(self.labels)
        find_columns(self.text, [*labels, *own], present, path)
        if missing := [name for name in labels if name not in present]:
            raise UserError(f"{path} has no column {missing[0]!r}; its columns: {listed(present)}")
        self.check(labels, str(path))
        return own | {name: name for name in labels}

    def check(self, labels: Sequence[str], place: str) -> None:
        """Raise `UserError` for labels that the index does not have, and for reserved names."""
        for name in labels:
            if self.known is not None and name not in self.known:
                raise UserError(
                    f"{place}: the index has no column {name!r}; {nearest(name, [_ID, _TEXT, *self.known])}"
                )
            if name in (_ID, _TEXT):
                raise UserError(f"{place}: a label cannot be called {name!r}; rename it, or choose others with --label")


@dataclass(frozen=True)
class Sentences:
    """Texts, their ids (or None), their labels by column, and their places (file and line)."""

    texts: list[Any]
    ids: list[int] | None
    labels: dict[str, list[Any]]
    places: list[str]

    def placed(self) -> AbstractContextManager[None]:
        """A context in which errors and warnings about a sentence name its file, line and id, if any."""
        if self.ids is None:
            return at_places(self.places)
        return at_places([f"{place}, id {str(id)[:20]}" for place, id in zip(self.places, self.ids, strict=True)])


def read_sentences(files: Sequence[Path], *, columns: Columns | None = None, empty: str = "error") -> Sentences:
    """Read files by their suffix: `.csv`, `.tsv`, `.parquet`, `.arrow`, `.jsonl` (objects), others as lines of text.

    `-` is standard input, lines of text. Files may be compressed: `.csv.gz`. Empty lines are skipped. `empty`: `skip`
    leaves out rows without a text, and warns. CSV and TSV labels become numbers if all of a column are numbers. Raises
    `UserError` that names file and line, for ids that are not whole numbers, and for input that cannot be read.
    """
    columns = columns or Columns()
    found = [placed for path in files for placed in _rows(path, columns)]
    if not found:
        raise UserError(f"{', '.join(map(str, files))}: no sentence in it")
    without = [i for i, (_, row) in enumerate(found) if is_missing(row[_TEXT]) or not str(row[_TEXT]).strip()]
    if without and empty == "skip":
        what = f"{len(without):,} of {len(found):,} rows have no text and were left out"
        warnings.warn(TextsChanged(what, without, [place for place, _ in found]), stacklevel=2)
        left_out = set(without)
        found = [each for i, each in enumerate(found) if i not in left_out]
    elif without:
        raise UserError(f"{found[without[0]][0]}: there is no text; add one, or leave out such rows with --empty skip")
    if not found:
        raise UserError(f"{', '.join(map(str, files))}: no sentence in it")
    places, rows = [place for place, _ in found], [row for _, row in found]
    with_id = sum(_ID in row for row in rows)
    if 0 < with_id < len(rows):
        place = next(place for place, row in found if _ID not in row)
        raise UserError(
            f"{with_id} of {len(rows)} sentences have an id; give ids to all or to none (there is no id in {place})"
        )
    names = list(dict.fromkeys(name for row in rows for name in row if name not in (_ID, _TEXT)))
    names = [name for name in columns.known if name in names] if columns.known is not None else names
    return Sentences(
        texts=[row[_TEXT] for row in rows],
        ids=[row[_ID] for row in rows] if with_id else None,
        labels={name: [row.get(name) for row in rows] for name in names},
        places=places,
    )


def _rows(path: Path, columns: Columns) -> _Rows:
    suffix = Path(path.stem).suffix.lower() if is_compressed(path) else path.suffix.lower()
    with reading(path):
        if suffix in _DELIMITERS:
            yield from _of_table(_delimited(path, _DELIMITERS[suffix], columns), path, columns)
        elif suffix in _OF_ARROW and not is_compressed(path):
            yield from _of_table(_of_arrow(path, columns), path, columns)
        else:
            yield from _of_lines(path, suffix, columns)


def _delimited(path: Path, delimiter: str, columns: Columns) -> pa.Table:
    names = Delimited(columns.text, delimiter=delimiter).columns(path) or []
    wanted = columns.named(names, path)
    labels = tuple(name for name in wanted if name != columns.text)
    blocks = list(Delimited(columns.text, labels, delimiter=delimiter).read(Piece(path), Intake(path)))
    if not blocks:
        raise UserError(f"{path}: no sentence in it")
    table = pa.concat_tables(blocks)  # the text column comes first
    return table.cast(with_types(table))


def _of_arrow(path: Path, columns: Columns) -> pa.Table:
    if path.suffix.lower() == ".parquet":
        with pq.ParquetFile(path) as file:
            return file.read(list(columns.named(file.schema_arrow.names, path)))
    with open(path, "rb") as file:
        try:
            table = pa.ipc.open_file(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            table = pa.ipc.open_stream(file).read_all()
    return table.select(list(columns.named(table.column_names, path)))


def _of_table(table: pa.Table, path: Path, columns: Columns) -> _Rows:
    """The rows of a table. Renames the text and id columns."""
    own = {columns.text: _TEXT, columns.id: _ID}
    table = table.rename_columns([own.get(name, name) for name in table.column_names])
    kind = table.schema.field(_TEXT).type
    if not any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise UserError(f"{path}: the column {columns.text!r} must hold text, not {kind}")
    number = 0
    for batch in table.to_batches():
        for row in batch.to_pylist():
            number += 1
            yield _identified(row, f"{path}, row {number}")


def _of_lines(path: Path, suffix: str, columns: Columns) -> _Rows:
    try:
        with _opened(path) as file:
            for number, marked in enumerate(file, start=1):
                # Windows editors write a byte order mark, and concatenated files hold several.
                line = marked.lstrip("\ufeff")
                if not line.strip():
                    continue
                if number == 1 and suffix not in _OF_OBJECTS and _is_object(line):
                    raise UserError(f"{path} holds JSON, not one sentence per line; rename the file to end in .jsonl")
                place = f"{path}, line {number}"
                yield place, _object(line, place, columns) if suffix in _OF_OBJECTS else {_TEXT: line.strip()}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if str(path) == "-":
        with open(0, encoding="utf-8", closefd=False) as file:
            yield file
    else:
        with io.TextIOWrapper(open_lines(path), encoding="utf-8") as file:
            yield file


def _is_object(line: str) -> bool:
    try:
        return _TEXT in json.loads(line)
    except (ValueError, RecursionError, TypeError):
        return False


def _object(line: str, place: str, columns: Columns) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(row, dict) or columns.text not in row:
        raise UserError(f"{place}: the line must be an object with a {columns.text!r}")
    text = row.pop(columns.text)
    if not isinstance(text, str) and not is_missing(text):
        raise UserError(f"{place}: {columns.text!r} must be text, not {str(text)[:60]}")
    own = {_TEXT: text} | ({_ID: row.pop(columns.id)} if columns.id in row else {})
    if columns.labels is not None:
        row = {name: row.get(name) for name in columns.labels}
    columns.check(list(row), place)
    return own | row


def _identified(row: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    if _ID in row and (isinstance(row[_ID], bool) or not isinstance(row[_ID], int)):
        raise UserError(
            f"{place}: an id must be a whole number, not {str(row[_ID])[:60]!r}; choose another column with "
            "--id-column, or none with --id-column ''"
        )
    return place, row
