"""Locks on directories: one process at a time works in a directory, or writes its replacement.

The lock is a file locked with flock, so it is released when its owner ends, even if it is killed. The file names the
process and host that have the lock.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import UnsupportedOperation
from pathlib import Path
from typing import IO, TYPE_CHECKING

from smim.errors import SmimError, UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

_UNFIT = {errno.EROFS: "that is read-only; use another place"} | dict.fromkeys(
    (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP), "without locks (flock), which are needed; use another place"
)

# Errors from opening a link, a directory and a socket.
_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)


class BeingChanged(UserError):
    """Another process is changing the directory."""

    code = "conflict"


@contextmanager
def own(directory: Path, accelerator: "Accelerator | None" = None) -> Iterator[None]:
    """Lock `directory` against other processes until the block ends. It must not be replaced as a whole.

    With an `accelerator`, all processes of the job call this. The main process takes the lock, and all raise its error.
    Raises `BeingChanged` if another process has the lock, and `UserError` on a file system that is read-only or has no
    locks.
    """
    with _owned(directory / ".lock", directory, accelerator):
        yield


@contextmanager
def own_place(output: Path, accelerator: "Accelerator | None" = None) -> Iterator[None]:
    """Lock a path to which a finished directory is renamed, as `own` does. The lock is `.NAME.lock` beside it."""
    output = output.absolute()
    with _owned(output.parent / f".{output.name}.lock", output, accelerator):
        yield


@contextmanager
def _owned(file: Path, directory: Path, accelerator: "Accelerator | None") -> Iterator[None]:
    problems: list[Exception] = []
    with ExitStack() as stack:
        if accelerator is None or accelerator.is_main_process:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(take(file, directory))
                stack.callback(file.unlink, missing_ok=True)  # runs before the unlocking: see `is_at`
            except (FileExistsError, NotADirectoryError):
                problems.append(UserError(f"{directory}: {file.parent} is not a directory; use another place"))
            except (SmimError, OSError) as error:
                problems.append(error)
        if accelerator is not None:
            from accelerate.utils import gather_object

            problems = gather_object(problems)
        for problem in problems:
            raise problem
        yield


def take(file: Path, directory: Path) -> IO[str]:
    """Lock the file for `directory` until it is closed. Raises the same errors as `own`."""
    with ExitStack() as stack:
        try:
            # A directory from someone else may hold a link or a pipe here.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            lock = stack.enter_context(open(os.open(file, flags, 0o666), "r+", errors="replace"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = "".join(filter(str.isprintable, lock.read(300)))
            raise BeingChanged(
                f"{directory} is being changed by another process ({owner}); wait until it is done"
            ) from None
        except OSError as error:
            if error.errno in _UNFIT:
                raise UserError(f"{directory} is on a file system {_UNFIT[error.errno]}; use another one") from None
            if error.errno in _NO_FILE or isinstance(error, UnsupportedOperation):
                raise UserError(f"{file} is not a plain file; remove it") from None
            raise
        if not is_at(lock, file):
            return take(file, directory)
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        os.fsync(lock.fileno())  # for readers on other hosts
        stack.pop_all()
    return lock


def is_at(lock: IO[str], file: Path) -> bool:
    """Check whether the locked file is still the one at `file`, and was not removed or replaced."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), os.stat(file))
    except FileNotFoundError:
        return False
