"""Atomic writes: files and directories are written under a temporary name and renamed.

At any moment, even after a crash, a path has the old content or the new content, never a mixture.
"""

import ctypes
import hashlib
import json
import math
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Any

from smim.errors import UserError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SAMPLES, _SAMPLE_BYTES = 32, 65_536
# Limits for a JSON file: bytes, nesting, and digits of a number.
_LARGEST_JSON, _DEEPEST, _MOST_DIGITS = 2**26, 100, 20
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NAME = re.compile(r"[^./\\\0][^/\\\0]*")


@contextmanager
def new_directory(path: Path | str, *, only_writer: bool = True) -> Iterator[Path]:
    """Yield an empty directory beside `path`. On success it replaces `path`, otherwise it is removed.

    If it is the `only_writer` at a time, it removes the directory that a killed writer left beside `path`. Otherwise
    several processes may write the same directory, and the last one to finish wins.
    """
    path = Path(path)
    partial = path.parent / f".{path.name}.partial" if only_writer else _own_partial(path)
    clear_away(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        put_in_place(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _own_partial(path: Path) -> Path:
    """A temporary name beside `path` that no other process uses."""
    return path.parent / f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial"


def put_in_place(source: Path, path: Path) -> None:
    """Move a finished directory to `path` on the same file system, and remove the old directory.

    Whoever may read the directory may then read its files. safetensors writes files that only their owner can read.
    """
    rights = source.stat().st_mode & 0o666
    for file in source.rglob("*"):
        mode = file.lstat().st_mode
        if S_ISREG(mode) and mode | rights != mode:
            file.chmod(mode | rights)
    sync_directory(source)
    _rename_in(source, path)
    # After an exchange this is the old directory.
    shutil.rmtree(source, ignore_errors=True)
    _sync(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a whole directory to disk, so that errors of a full or failing disk occur here."""
    for file in path.rglob("*"):
        _sync(file)
    _sync(path)


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary file name beside `path`. On success the file replaces `path`, otherwise it is removed.

    Several processes may write the same file: the last one to finish wins.
    """
    path = Path(path)
    partial = _own_partial(path)
    clear_away(partial)
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_directory(path: Path | str) -> None:
    """Rename a directory, then remove it, so that `path` never refers to an incomplete directory."""
    path = Path(path)
    for stale in path.parent.glob(".*.partial"):  # left by a killed process
        clear_away(stale)
    partial = path.parent / f".{path.name}.partial"
    os.rename(path, partial)
    clear_away(partial)


def remove_partials(directory: Path) -> None:
    """Remove the temporary files and directories that killed writers left in a directory and those below it."""
    for stale in [*directory.rglob(".*.partial")]:
        clear_away(stale)


def clear_away(path: Path) -> None:
    """Remove a file, a directory or a link, if it exists. The target of a link stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a file under a temporary name, then rename it. Its folder is made if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    _sync(path.parent)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Raises `ValueError` for NaN and infinity."""
    write_text(path, _as_json(value))


def sha256_of_json(value: Any) -> str:
    """Compute the hexadecimal SHA-256 of the file that `write_json` would write."""
    return hashlib.sha256(_as_json(value).encode()).hexdigest()


def read_json(path: Path | str) -> dict[str, Any]:
    """Read the object in a JSON file. Raises `UserError` if the file is missing or malformed.

    A valid file is a regular file of at most 64 MiB, with at most 100 levels of nesting. It has no duplicate names, no
    NaN or infinity, no half of a surrogate pair, and no whole number of more than 20 digits.
    """
    path = Path(path)
    check_regular(path)
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise UserError(f"{path} is larger than {_LARGEST_JSON:,} bytes, the limit for a JSON file of sMIM")
        text = path.read_text(encoding="utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_finite,
            parse_constant=_finite,
        )
        _check_depth(value)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except NotADirectoryError:
        raise UserError(f"{path.parent} is not a directory") from None
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); the file is damaged") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object; the file is damaged")
    return value


def own_file(directory: Path, name: str) -> Path:
    """Return `own_path` for a regular file, which may be missing. Raises `UserError` if it is not a regular file."""
    path = own_path(directory, name)
    check_regular(path)
    return path


def own_path(directory: Path, name: str) -> Path:
    """Return the path of a name in a directory. The name may include a folder: `train/00000.arrow`.

    Raises `UserError` for a name that is absolute, hidden or has `..`, and for a link that leads out of the directory.
    The cache of Hugging Face is trusted: its snapshots are links to its blobs.
    """
    path = directory / name
    if not all(map(is_name, name.split("/"))):
        raise UserError(f"{directory}: {name[:60]!r} is not a valid name for a file in it; it was edited or damaged")
    root, real = (Path(os.path.realpath(each)) for each in (directory, path))
    caches = [each.parent.parent / "blobs" for each in (root, *root.parents) if _is_snapshot(each)]
    if not any(map(real.is_relative_to, [root, *caches])):
        raise UserError(f"{path} is a link to a file outside of {directory}; replace it by a copy of the file")
    return path


def is_name(name: str) -> bool:
    """Check whether a file or folder of ours may have this name. Hidden names and separators are not allowed."""
    return name.isprintable() and _NAME.fullmatch(name) is not None


def check_regular(path: Path) -> None:
    """Raise `UserError` for directories, and for files that may block or never end, such as pipes."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not a regular file")


def sha256(path: Path | str) -> str:
    """Compute the hexadecimal SHA-256 of a file's content, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_sha256(path: Path | str) -> str:
    """Compute the hexadecimal SHA-256 of a file's size and of 64 KiB at 32 places, including both ends.

    This takes milliseconds for any size, and detects a truncated or different file. Files of up to 2 MiB are read
    completely.
    """
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - _SAMPLE_BYTES)
    with open(path, "rb") as file:
        for i in range(_SAMPLES):
            file.seek(last * i // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _rename_in(source: Path, target: Path) -> None:
    if not target.exists():
        os.rename(source, target)
    elif not _exchange(source, target):
        # Without an atomic exchange (macOS, some network file systems), a crash between these two
        # renames leaves the old directory under the name `.NAME.old`.
        old = target.parent / f".{target.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
        os.rename(source, target)
        # NFS keeps an open file, such as a lock, under another name. The next call removes it.
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two directories in one system call. Return False if the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    return renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is given twice in one object")
    return value


def _whole_number(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:60]} is not a finite number")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _is_snapshot(directory: Path) -> bool:
    return directory.parent.name == "snapshots" and directory.parent.parent.name.startswith("models--")
