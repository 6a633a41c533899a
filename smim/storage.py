"""Files and directories that are written beside their place and renamed in.

A reader, or a crash at any moment, finds the old content or the new one, never a mixture.
"""

import ctypes
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smim.errors import UserError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SAMPLES, _SAMPLE_BYTES = 32, 65_536


@contextmanager
def new_directory(path: Path | str) -> Iterator[Path]:
    """Yields an empty directory beside `path`; on success it takes the place of `path`, else it is removed.

    One writer at a time: what a killed writer left beside `path` is cleared away by the next one.
    """
    path = Path(path)
    partial = path.parent / f".{path.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        put_in_place(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def put_in_place(source: Path, path: Path) -> None:
    """Moves a finished directory to `path`, beside it or near; what was there before is removed."""
    sync_directory(source)
    _rename_in(source, path)
    # After an exchange this is the old directory.
    shutil.rmtree(source, ignore_errors=True)
    _sync(path.parent)


def sync_directory(path: Path) -> None:
    """Has the disk take all of a directory: where it is full, or fails, that is told here."""
    for file in path.rglob("*"):
        _sync(file)
    _sync(path)


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yields the name of a file beside `path` to write; on success it takes the place of `path`, else it is removed.

    Several writers at a time do not disturb each other: the last one to finish wins.
    """
    path = Path(path)
    partial = path.parent / f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial"
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_directory(path: Path | str) -> None:
    """Removes a directory so that its name never stands for a part of it."""
    path = Path(path)
    for stale in path.parent.glob(".*.partial"):  # of a writer or remover that was killed
        shutil.rmtree(stale)
    partial = path.parent / f".{path.name}.partial"
    os.rename(path, partial)
    shutil.rmtree(partial)


def write_text(path: Path | str, text: str) -> None:
    """Writes a file beside its place, then renames it in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.partial"
    try:
        partial.write_text(text, encoding="utf-8")
        _sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN and infinity are refused (`ValueError`)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> dict[str, Any]:
    """The object in a JSON file; raises `UserError` where the file is missing or malformed."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except NotADirectoryError:
        raise UserError(f"{Path(path).parent} is not a directory") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); the file is damaged") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object; the file is damaged")
    return value


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's content, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's size and of 64 KiB at 32 places of it, its ends among them.

    Milliseconds for a file of any size: it tells a truncated or another file, and reads one of up to 2 MiB whole.
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
        # Without an atomic exchange (macOS, some network file systems) a crash between these two
        # renames leaves the old directory under the name `.NAME.old`.
        old = target.parent / f".{target.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
        os.rename(source, target)
        # NFS keeps a file that is open, such as a lock, under another name; the next one clears it away.
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swaps two directories in one system call; False where the system cannot."""
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
