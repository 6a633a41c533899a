"""Which files are read, and how: paths, patterns and folders to files, and a file's name to its reader."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from smim.errors import UserError
from smim.preparation.readers.arrow import ArrowStream, Parquet
from smim.preparation.readers.base import COMPRESSIONS, FileReader, is_compressed
from smim.preparation.readers.delimited import Delimited
from smim.preparation.readers.hub import hub_files, is_saved_dataset
from smim.preparation.readers.json_lines import JsonLines
from smim.preparation.readers.lines import Lines

# By suffix: what makes a reader of the text's column, the labels and whether there is a header.
_READERS: dict[str, Callable[[str, tuple[str, ...], bool], FileReader]] = {
    **dict.fromkeys([".txt", ".tokens"], lambda *_: Lines()),
    **dict.fromkeys([".jsonl", ".ndjson", ".json"], lambda text, labels, _: JsonLines(text, labels)),
    ".csv": partial(Delimited, delimiter=","),
    ".tsv": partial(Delimited, delimiter="\t"),
    ".parquet": lambda text, labels, _: Parquet(text, labels),
    ".arrow": lambda text, labels, _: ArrowStream(text, labels),
}
# Arrow's formats compress their own columns, and cannot be unpacked as they are read.
_ARROW = (".parquet", ".arrow")
# What Spark and Hadoop call the files of a folder, without a suffix.
_PART = "part-"
_SHOWN = 8
_NAMES_OF_SPLITS = {"train": {"train"}, "valid": {"valid", "validation", "dev"}, "test": {"test"}}


def reader_for(
    path: Path, *, text_column: str = "text", label_columns: Sequence[str] = (), header: bool = True
) -> FileReader:
    """The reader for a file, by its suffix in any case; without one it is lines of text. `header` is for CSV and TSV.

    Raises `UserError` with the suffixes that are known.
    """
    if (suffix := _suffix(path) or ".txt") not in _READERS:
        packable = [known for known in _READERS if known not in _ARROW]
        raise UserError(
            f"{path}: no reader for files of this name; known are {', '.join(packable)}, each also with "
            f"{', '.join(COMPRESSIONS)}, and {', '.join(_ARROW)}"
        )
    return _READERS[suffix](text_column, tuple(label_columns), header)


def find_files(paths: Iterable[str], *, also: Sequence[str] = ()) -> list[Path]:
    """The files that paths name: files themselves, patterns with `*`, `?` and `**`, and all below a folder.

    Of folders, files with suffixes that a reader knows, or that are in `also`, and Spark's `part-00000`; hidden ones
    are left out. Sorted within each path; a file that several paths name comes once. Raises `UserError` that says what
    is there instead where a path names no file, and for a folder with a saved dataset in it.
    """
    found: dict[Path, Path] = {}
    for given in paths:
        path = Path(given).expanduser()
        matches = [path] if path.exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]
        files = [file for match in matches for file in _files_of(match, also)]
        if not files:
            raise UserError(f"no text file at {given}: {_what_is_there(path)}")
        for file in sorted(files):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def by_split(paths: list[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names tell (`yahoo.train.txt`, `dev.tsv.gz`); under "all" where none tells one."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for split, names in _NAMES_OF_SPLITS.items():
            if set(re.split(r"[^a-z]+", path.name.lower())) & names:
                found.setdefault(split, []).append(path)
    return found or {"all": paths}


def files_not_read(paths: Iterable[str], read: Iterable[Path]) -> list[str]:
    """The files of folders among `paths` that are not among those `read`, from the folder on.

    Hidden ones and what describes a saved dataset aside.
    """
    known = {path.resolve() for path in read}
    folders = [folder for path in paths if (folder := Path(path).expanduser()).is_dir()]
    return [
        str(file.relative_to(folder))
        for folder in folders
        for file in sorted(_below(folder))
        if file.resolve() not in known and not (file.suffix == ".json" and is_saved_dataset(file.parent))
    ]


def shortened(names: Sequence[str], most: int) -> str:
    """Names for a message, at most so many of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _suffix(path: Path) -> str:
    """The suffix of the format in lower case, below that of the compression; "" where there is none."""
    inner = Path(path.stem).suffix.lower()
    return inner if is_compressed(path) and inner not in _ARROW else path.suffix.lower()


def _files_of(path: Path, also: Sequence[str]) -> list[Path]:
    if path.is_file():
        return [path]
    if is_saved_dataset(path):
        splits = hub_files(str(path), None)
        if list(splits) != ["all"]:
            raise UserError(
                f"{path} is a dataset of the splits {', '.join(splits)}: give it alone, as corpus.path={path}, or each "
                f"split by itself, as corpus.splits.train={path}/train"
            )
        return splits["all"]
    files = _below(path)
    if saved := next((file.parent for file in files if is_saved_dataset(file.parent)), None):
        raise UserError(f"{saved} is a dataset that `save_to_disk` wrote: give it by itself, as corpus.path={saved}")
    known = (*_READERS, *also)
    return [file for file in files if _suffix(file) in known or (not _suffix(file) and file.name.startswith(_PART))]


def _below(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones."""
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
    return files


def _raise(error: OSError) -> None:
    raise error


def _what_is_there(path: Path) -> str:
    """What the folder holds, or the nearest one above that there is."""
    folder = next((each for each in (path, *path.parents) if each.is_dir()), Path())
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    return f"{folder} holds {shortened(names, _SHOWN) or 'nothing'}"
