"""A user's own text file: one sentence a line, split into train, valid and test by a seeded draw."""

import random
from collections.abc import Iterator
from pathlib import Path

from data_prep import sources
from smim.errors import UserError


def rows(path: Path, split: str, *, seed: int, valid: float, test: float) -> Iterator[dict[str, str]]:
    """The lines of `path` (.txt, plain or .gz) that fall into `split`; empty lines are left out.

    A line's split is a function of (seed, its number among the lines that are not empty). Raises
    `UserError` where none falls into it.
    """
    draw = random.Random(seed)
    empty = True
    for line in sources.read_lines(path):
        if line:
            number = draw.random()
            chosen = "test" if number < test else "valid" if number < test + valid else "train"
            if chosen == split:
                empty = False
                yield {"text": line}
    if empty:
        raise UserError(
            f"{path} gives no sentence for {split!r}: it is empty, or too short for "
            f"corpus.valid={valid} and corpus.test={test}"
        )
