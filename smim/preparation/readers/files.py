"""Find the files that paths, patterns and folders name, and the reader for each file."""

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

# By suffix: a function that makes the reader from the text column, the label columns, and whether there is a header.
_READERS: dict[str, Callable[[str, tuple[str, ...], bool], FileReader]] = {
    **dict.fromkeys([".txt", ".tokens"], lambda *_: Lines()),
    **dict.fromkeys([".jsonl", ".ndjson", ".json"], lambda text, labels, _: JsonLines(text, labels)),
    ".csv": partial(Delimited, delimiter=","),
    ".tsv": partial(Delimited, delimiter="\t"),
    ".parquet": lambda text, labels, _: Parquet(text, labels),
    ".arrow": lambda text, labels, _: ArrowStream(text, labels),
}
# Arrow's formats compress their columns themselves. They cannot be unpacked while they are read.
_ARROW = (".parquet", ".arrow")
# The start of file names, without a suffix, that Spark and Hadoop write.
_PART = "part-"
_SHOWN = 8
_NAMES_OF_SPLITS = {"train": {"train"}, "valid": {"valid", "validation", "dev"}, "test": {"test"}}


def reader_for(
    path: Path, *, text_column: str = "text", label_columns: Sequence[str] = (), header: bool = True
) -> FileReader:
    """Choose the reader for a file by its suffix, in any case. A file without a suffix has lines of text.

    `header` is for CSV and TSV. Raises `UserError` with the known suffixes.
    """
    if (suffix := _suffix(path) or ".txt") not in _READERS:
        packable = [known for known in _READERS if known not in _ARROW]
        raise UserError(
            f"{path}: no reader for files of this name; the known suffixes are {', '.join(packable)}, each also with "
            f"{', '.join(COMPRESSIONS)}, and {', '.join(_ARROW)}"
        )
    return _READERS[suffix](text_column, tuple(label_columns), header)


def find_files(paths: Iterable[str], *, also: Sequence[str] = ()) -> list[Path]:
    """Find the files that paths name. A path is a file, a pattern with `*`, `?` and `**`, or a folder.

    All files below a folder count that have a known suffix or one of `also`, or Spark's names, such as `part-00000`.
    Hidden files are left out. Files are sorted within each path, and each file occurs once.

    Raises `UserError` if a path names no file, with a list of what is there, and if a folder contains a saved dataset.
    """
    found: dict[Path, Path] = {}
    for given in paths:
        path = Path(os.path.expanduser(given))
        matches = [path] if path.exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]
        files = [file for match in matches for file in _files_of(match, also)]
        if not files:
            raise UserError(f"no text file at {given}: {_what_is_there(path)}")
        for file in sorted(files):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def by_split(paths: list[Path]) -> dict[str, list[Path]]:
    """Group files by the split in their names (`yahoo.train.txt`, `dev.tsv.gz`). Without any, all are in "all"."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for split, names in _NAMES_OF_SPLITS.items():
            if set(re.split(r"[^a-z]+", path.name.lower())) & names:
                found.setdefault(split, []).append(path)
    return found or {"all": paths}


def files_not_read(paths: Iterable[str], read: Iterable[Path]) -> list[str]:
    """List the files in folders among `paths` that are not in `read`, as paths relative to the folder.

    Hidden files and the descriptions of saved datasets are left out. Bytes that are not UTF-8 are escaped.
    """
    known = {path.resolve() for path in read}
    folders = [folder for path in paths if (folder := Path(os.path.expanduser(path))).is_dir()]
    return [
        str(file.relative_to(folder)).encode(errors="backslashreplace").decode()
        for folder in folders
        for file in sorted(files_below(folder))
        if file.resolve() not in known and not (file.suffix == ".json" and is_saved_dataset(file.parent))
    ]


def shortened(names: Sequence[str], most: int) -> str:
    """Format names for a message, of which at most `most` are listed."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_names(paths: Iterable[Path]) -> None:
    """Raise `UserError` for a path that is not UTF-8. A card, which is JSON, cannot hold it."""
    for path in paths:
        try:
            os.fsencode(path).decode()
        except UnicodeDecodeError:
            raise UserError(f"{str(path)!a} is not UTF-8; rename this file or its folder") from None


def _suffix(path: Path) -> str:
    """Return the suffix of the format in lower case, without that of the compression, or "" if there is none."""
    inner = Path(path.stem).suffix.lower()
    return inner if is_compressed(path) and inner not in _ARROW else path.suffix.lower()


def _files_of(path: Path, also: Sequence[str]) -> list[Path]:
    if path.is_file():
        return [path]
    if is_saved_dataset(path):
        splits = hub_files(str(path), None)
        if list(splits) != ["all"]:
            raise UserError(
                f"{path} is a dataset with the splits {', '.join(splits)}: give it alone, as corpus.path={path}, or "
                f"each split by itself, as corpus.splits.train={path}/train"
            )
        return splits["all"]
    files = files_below(path)
    if saved := next((file.parent for file in files if is_saved_dataset(file.parent)), None):
        raise UserError(f"{saved} is a dataset that `save_to_disk` wrote: give it by itself, as corpus.path={saved}")
    known = (*_READERS, *also)
    return [file for file in files if _suffix(file) in known or (not _suffix(file) and file.name.startswith(_PART))]


def files_below(folder: Path) -> list[Path]:
    """List all files below a folder, also behind links, except hidden ones."""
    files: list[Path] = []
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        # A link may lead to a parent folder.
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
    """Describe the content of the folder, or of the nearest parent folder that exists."""
    folder = next((each for each in (path, *path.parents) if each.is_dir()), Path())
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    return f"{folder} holds {shortened(names, _SHOWN) or 'nothing'}"
