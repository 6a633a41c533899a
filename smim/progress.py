"""Progress bars with time left for work that takes long; silent where the output is not a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

console = Console(stderr=True)


def progress_bar(*, visible: bool = True) -> Progress:
    """A bar with count, time so far and time left, on stderr; `visible` is for one process of many."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (visible and console.is_terminal),
    )


def track(items: Iterable[T], description: str, *, total: int | None = None, visible: bool = True) -> Iterator[T]:
    """Yields `items` under a progress bar."""
    with progress_bar(visible=visible) as bar:
        yield from bar.track(items, total=total, description=description)
