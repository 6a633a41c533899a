"""Progress bars with the time left, for long work; silent if the output is not a terminal.

`smim/waiting.py` reports work that has no bar.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

T = TypeVar("T")

# Messages hold names of the user. Rich must not read `[...]` in them as a style, or `:...:` as a symbol.
console = Console(stderr=True, markup=False, highlight=False, emoji=False)


def _bar(*columns: ProgressColumn, visible: bool = True, says_left: bool = False) -> Progress:
    """A bar on stderr: the name, `columns`, the elapsed time and the time left."""
    left = [TextColumn("{task.fields[left]}")] if says_left else [TextColumn("left"), TimeRemainingColumn()]
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        *left,
        console=console,
        transient=True,
        disable=not (visible and console.is_terminal),
        # Output that goes into a file or a pipe must arrive there.
        redirect_stdout=sys.stdout.isatty(),
    )


def progress_bar(*, visible: bool = True, says_left: bool = False) -> Progress:
    """A bar on stderr with count, elapsed time and time left; `visible`: false in all but one of several processes.

    `says_left`: the task gives its own text for the time left, `left=TEXT`.
    """
    return _bar(MofNCompleteColumn(), visible=visible, says_left=says_left)


def track(items: Iterable[T], description: str, *, total: int | None = None, visible: bool = True) -> Iterator[T]:
    """Yield `items` under a progress bar."""
    with progress_bar(visible=visible) as bar:
        yield from bar.track(items, total=total, description=description)


@contextmanager
def bytes_bar(description: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with MB/s and time left; yields a function that takes the number of further bytes done.

    With a `total` of 0 (unknown), it shows the elapsed time. At the end, one line reports the amount and the speed.
    """
    started = time.monotonic()
    bar = _bar(*([DownloadColumn(), TransferSpeedColumn()] if total else []))
    with bar:
        task = bar.add_task(description, total=total or None)
        yield lambda done: bar.advance(task, done)
    seconds, size = time.monotonic() - started, f"{total / 1e6:,.1f} MB in " if total else ""
    console.print(f"{description}: {size}{seconds:,.1f} s")


@contextmanager
def sentences_bar(description: str, *, total: int, visible: bool = True) -> Iterator[Callable[[int], None]]:
    """As `bytes_bar`, for sentences and sentences per second; `visible`: false in all but one of several processes."""
    started = time.monotonic()
    bar = _bar(MofNCompleteColumn(), TextColumn("{task.fields[rate]:,.0f} sentences/s"), visible=visible)
    finished = 0

    def advance(number: int) -> None:
        nonlocal finished
        finished += number
        bar.update(task, advance=number, rate=finished / (time.monotonic() - started))

    with bar:
        task = bar.add_task(description, total=total, rate=0)
        yield advance
    seconds = time.monotonic() - started
    if visible and finished:
        rate = finished / seconds
        console.print(
            f"{description}: {finished:,} sentences in {seconds:,.1f} s, {rate:,.0f} a second",
            soft_wrap=True,
        )
