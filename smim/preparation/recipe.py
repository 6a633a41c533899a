"""Recipes of corpora: the inputs, and how their sentences are assigned to splits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smim.errors import UserError
from smim.preparation.cleaning import Cleaning
from smim.preparation.readers import Reader

# The part of a pool for a split: a share (float), a number of sentences (int), or the rest (None).
Amount = float | int | None


@dataclass(frozen=True)
class Input:
    """A file, its reader, and the pool of its sentences.

    `labels`: columns with a constant value for all its sentences. `generated` inputs have no file.
    """

    pool: str
    path: Path
    reader: Reader
    labels: Mapping[str, str] = field(default_factory=dict)
    generated: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a corpus's sentences.

    `draws[pool][split]`: the part of a pool for each split. Draws use the text, or the column `draw_by`, so sentences
    with equal values get the same split. `cleaning` may differ by pool. `pair_column`: the column with each sentence's
    second sentence. `expected[split]`: the original's number of sentences. If there are fewer, the card reports this
    after the `notes`.
    """

    inputs: tuple[Input, ...]
    draws: Mapping[str, Mapping[str, Amount]]
    cleaning: Mapping[str, Cleaning]
    label_columns: tuple[str, ...] = ()
    pair_column: str | None = None
    draw_by: str = "text"
    expected: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible draws."""
        pools = {each.pool for each in self.inputs}
        problems = [
            f"{name} has the pools {', '.join(sorted(given)) or 'none'}, but the files have {', '.join(sorted(pools))}"
            for name, given in (("draws", set(self.draws)), ("cleaning", set(self.cleaning)))
            if given != pools
        ]
        if "train" not in self.splits:
            problems.append(f"there is no split train among {', '.join(self.splits)}")
        problems += [f"pool {pool!r}: {why}" for pool, draws in self.draws.items() if (why := _not_drawn(draws))]
        if problems:
            raise UserError(f"this recipe is not valid: {'; '.join(problems)}")

    @property
    def splits(self) -> list[str]:
        """The splits in the order of their use: train, valid, test, then others."""
        known = ["train", "valid", "test"]
        found = {split for draws in self.draws.values() for split in draws}
        return [split for split in known if split in found] + sorted(found - set(known))


def _not_drawn(draws: Mapping[str, Amount]) -> str | None:
    """The reason why these amounts cannot be drawn from one pool, or None."""
    amounts = list(draws.values())
    shares = [each for each in amounts if isinstance(each, float)]
    counts = [each for each in amounts if isinstance(each, int)]
    if counts and len(counts) < len(amounts):
        return f"draws must all be numbers of sentences, or all be shares and the rest, not {dict(draws)}"
    if amounts.count(None) > 1:
        return f"only one split can get the rest: {dict(draws)}"
    if any(each <= 0 for each in (*counts, *shares)) or sum(shares) > 1 or (sum(shares) == 1 and None in amounts):
        return f"shares must be above 0 and leave something for the rest, numbers must be at least 1, not {dict(draws)}"
    return None
