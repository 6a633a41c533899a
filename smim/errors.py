"""Errors that the user sees as one message, and their exit statuses."""

import errno
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any


class SmimError(Exception):
    """A failure that the user did not cause. The message says what happened, where, and what to do.

    `code` is the kind of error, for programs. A service's answer contains it, and it determines the HTTP status.
    """

    exit_status = 1
    code = "unavailable"


class UserError(SmimError, ValueError):
    """A mistake of the user: a wrong file, key or value. Exit status 2."""

    exit_status = 2
    code = "invalid"


class Unsupported(UserError):
    """A request that the model cannot carry out."""

    code = "unsupported"


class RowError(UserError):
    """A mistake in one of several sentences. `row` is its number, from 0; `what` is the message without the number.

    `numbered`: whether the message starts with the sentence's number.
    """

    def __init__(self, what: str, row: int, numbered: bool = True) -> None:
        super().__init__(what, row, numbered)
        self.what, self.row, self.numbered = what, row, numbered

    def __str__(self) -> str:
        return f"sentence {self.row + 1}: {self.what}" if self.numbered else self.what


_STORAGE_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
                 errno.EFBIG: "the file would exceed the size limit"}  # fmt: skip

_UNFIT = {errno.EROFS: "the file system is read-only", errno.ENAMETOOLONG: "the name is too long"}


def storage_problem(error: BaseException) -> str | None:
    """Return a message if the storage is full, or None for other errors.

    safetensors raises its own error type, which has the operating system's error number only in its text.
    """
    number = getattr(error, "errno", None)
    if number in _STORAGE_FULL:
        return _STORAGE_FULL[number]
    return next((text for n, text in _STORAGE_FULL.items() if f"os error {n})" in str(error)), None)


def nearest(word: str, valid: list[str]) -> str:
    """Return a hint to append to an error message: the valid word nearest to a wrong one, or all valid words."""
    close = get_close_matches(word, valid, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {', '.join(sorted(valid))}"


def not_among(settings: object, prefix: str, **valid: Iterable[str]) -> list[str]:
    """Return a message for each field of `settings` that is not one of its valid words, with the nearest one."""
    wrong = [(name, getattr(settings, name), list(words)) for name, words in valid.items()]
    return [
        f"{prefix}.{name} is {value!r}; {nearest(str(value), words)}"
        for name, value, words in wrong
        if value not in words
    ]


def too_low(settings: object, prefix: str, **least: float) -> list[str]:
    """Return a message for each field of `settings` below its lowest value. Fields that are None are ignored."""
    values = {name: getattr(settings, name) for name in least}
    return [
        f"{prefix}.{name} is {value}, but it must be at least {least[name]}"
        for name, value in values.items()
        if value is not None and value < least[name]
    ]


def refuse(problems: Iterable[str]) -> None:
    """Raise one `UserError` with all of the problems, if there are any."""
    if message := "; ".join(problems):
        raise UserError(message)


def refuse_if(wrong: Mapping[str, object]) -> None:
    """Raise one `UserError` with the problems whose condition holds, if there are any."""
    refuse(problem for problem, holds in wrong.items() if holds)


def check_whole(name: str, value: int, *, least: int = 1, most: int | None = None) -> None:
    """Raise `UserError` unless `value` is a whole number from `least` to `most`."""
    if not isinstance(value, Integral) or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UserError(f"{name} is {value!r}, but it must be a whole number {bounds}")


def check_seed(seed: int) -> None:
    """Raise `UserError` if `seed` is not a valid random seed."""
    if not isinstance(seed, Integral) or not 0 <= seed < 2**62:
        raise UserError(f"the seed is {seed!r}, but it must be a whole number from 0 to 2**62 - 1")


def check_size(name: str, value: float, *, most: float | None = None, above: bool = False) -> None:
    """Raise `UserError` unless `value` is a number from 0 to `most`. With `above`, 0 is an error too."""
    fits = isinstance(value, Real) and (value > 0 if above else value >= 0) and (most is None or value <= most)
    if not fits:
        bounds = ("above 0" if above else "of at least 0") + ("" if most is None else f" and at most {most:g}")
        raise UserError(f"{name} is {value!r}, but it must be a number {bounds}")


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Print the warnings of this package without a line of code."""
    ours = category.__module__.startswith("smim.")
    shown = f"warning: {message}" if ours else warnings.formatwarning(message, category, filename, lineno)
    print(shown, file=sys.stderr)


@contextmanager
def reported_to_user() -> Iterator[None]:
    """End the process with one line instead of a traceback if an error is meant for the user.

    Characters that standard output cannot encode are printed as escapes, such as \\xe9.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        yield
    except SmimError as error:
        _exit(str(error), error.exit_status)
    except KeyboardInterrupt:
        _exit("interrupted", 130)
    except BrokenPipeError:
        os._exit(141)  # the reader of the output ended, as in `smim ... | head`
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        _exit(f"{error.strerror}: {error.filename}" if error.filename else str(error), 2)
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in _UNFIT:
            _exit(f"{_UNFIT[number]}: {getattr(error, 'filename', None) or error}", 2)
        problem = storage_problem(error)
        if problem is None:
            raise
        _exit(f"{problem}: {error}. Existing files were not changed.", 1)


def _exit(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)
