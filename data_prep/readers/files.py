"""Which files are read, and how: paths, patterns and folders to files, and a file's name to its reader."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_prep.readers.arrow import ArrowStream, Parquet
from data_prep.readers.base import Reader
from data_prep.readers.chunks import COMPRESSIONS
from data_prep.readers.delimited import Delimited
from data_prep.readers.json_lines import JsonLines
from data_prep.readers.lines import Lines
from smim.errors import UserError

_LINES = (".txt", ".tokens")
_JSON = (".jsonl", ".json")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Arrow's formats compress their own columns, and cannot be unpacked as they are read.
_ARROW = (".parquet", ".arrow")
_PACKABLE = (*_LINES, *_JSON, *_DELIMITERS)
_SHOWN = 8


def reader_for(path: Path, *, text_column: str, label_columns: Sequence[str], header: bool) -> Reader:
    """The reader for a file, by its name; columns are those of formats that have them, `header` is for CSV and TSV.

    Raises `UserError` with the suffixes that are known, or where labels are asked of plain text.
    """
    suffix, labels = _suffix(path), tuple(label_columns)
    if suffix in _LINES:
        if labels:
            raise UserError(f"{path} is plain text, it has no columns; give no corpus.label_columns, or another file")
        return Lines()
    if suffix in _JSON:
        return JsonLines(text_column, labels)
    if suffix in _DELIMITERS:
        return Delimited(_DELIMITERS[suffix], text_column, labels, header)
    if suffix == ".parquet":
        return Parquet(text_column, labels)
    if suffix == ".arrow":
        return ArrowStream(text_column, labels)
    raise UserError(
        f"{path}: no reader for files of this name; known are {', '.join(_PACKABLE)}, each also with "
        f"{', '.join(COMPRESSIONS)}, and {', '.join(_ARROW)}"
    )


def find_files(paths: Iterable[str], *, also: Sequence[str] = ()) -> list[Path]:
    """The files that paths name: files themselves, patterns with `*`, `?` and `**`, and all below a folder.

    Of folders, files with suffixes that a reader knows, or that are in `also`; hidden ones are left out. Sorted
    within each path; a file that several paths name comes once. Raises `UserError` that says what is there instead
    where a path names no file.
    """
    found: dict[Path, Path] = {}
    for given in paths:
        path = Path(given).expanduser()
        matches = [path] if path.exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]
        files = [file for match in matches for file in ([match] if match.is_file() else _below(match, also))]
        if not files:
            raise UserError(f"no text file at {given}: {_what_is_there(path)}")
        for file in sorted(files):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _suffix(path: Path) -> str:
    """The suffix of the format, below that of the compression."""
    if path.suffix in COMPRESSIONS and Path(path.stem).suffix in _PACKABLE:
        return Path(path.stem).suffix
    return path.suffix


def _below(folder: Path, also: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        # A link may lead back up.
        seen.add(os.path.realpath(parent))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) not in seen
        ]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    known = (*_PACKABLE, *_ARROW, *also)
    return [file for file in files if _suffix(file) in known]


def _raise(error: OSError) -> None:
    raise error


def _what_is_there(path: Path) -> str:
    """What the folder holds, or the nearest one above that there is."""
    folder = next((each for each in (path, *path.parents) if each.is_dir()), Path())
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{folder} holds {listed or 'nothing'}"
