"""The lock of an index: who holds it may change the index, or put another one in its place."""

from pathlib import Path
from typing import IO

from smim import lock

# Inside: an index may be all that a machine sees of a file system.
_LOCK = "writer.lock"


def take_lock(directory: Path) -> IO[str]:
    """Locks an index until the file is closed; raises as `smim.lock.take` does."""
    return lock.take(directory / _LOCK, directory)


def check_lock(held: IO[str], directory: Path) -> None:
    """Raises `BeingChanged` where the directory is no longer the one that was locked."""
    if not lock.is_at(held, directory / _LOCK):
        raise lock.BeingChanged(f"{directory} was replaced by another process meanwhile; do it again")
