"""The lock of an index: who holds it may change the index, or put another one in its place."""

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from smim.errors import UserError
from smim.search.errors import BeingChanged

_LOCK = "writer.lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def take_lock(directory: Path) -> IO[str]:
    """Locks an index until the file is closed.

    Raises `BeingChanged` where another process has done so, and `UserError` on a file system without locks.
    """
    lock = open(directory / _LOCK, "a")  # noqa: SIM115, whoever takes it closes it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        check_lock(lock, directory)
    except BlockingIOError:
        lock.close()
        raise BeingChanged(f"{directory} is being changed by another process; wait until it is done") from None
    except OSError as error:
        lock.close()
        if error.errno in _NO_LOCKS:
            raise UserError(f"{directory} is on a file system without locks (flock), which an index needs") from None
        raise
    except BaseException:
        lock.close()
        raise
    return lock


def check_lock(lock: IO[str], directory: Path) -> None:
    """Raises `BeingChanged` where the directory is no longer the one that was locked."""
    try:
        same = os.path.samestat(os.fstat(lock.fileno()), os.stat(directory / _LOCK))
    except FileNotFoundError:
        same = False
    if not same:
        raise BeingChanged(f"{directory} was replaced by another process meanwhile; do it again")
