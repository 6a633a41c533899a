"""Handling of texts that do not fit a model, because they are too long or have no word.

Texts may be split into sentences (`smim.text.sentences`), each of which must fit.

`too_long`: `truncate` cuts a text at the model's limit, `skip` leaves it out, `error` refuses all texts. `empty`, for
texts without a word, None and NaN: `skip` or `error`. The warning `TextsChanged` reports texts that were cut or left
out.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from smim.errors import RowError, UserError, nearest
from smim.text.sentences import check_split, split_text

TOO_LONG = ("truncate", "skip", "error")
EMPTY = ("skip", "error")
_SHOWN = 5


class TextsChanged(UserWarning):
    """A warning that texts were cut or left out. `what` describes it; `rows` are their positions among the texts."""

    def __init__(self, what: str, rows: Sequence[int], places: Sequence[str] | None = None) -> None:
        self.what, self.rows = what, list(rows)
        named = [places[row] if places else f"sentence {row + 1}" for row in self.rows[:_SHOWN]]
        more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        super().__init__(f"{what}: {', '.join(named)}{more}")


@dataclass(frozen=True)
class Fitted:
    """The remaining `texts`, their token ids, and the `rows` of the given texts that they come from, ascending.

    A row that was split has several texts. `truncated`: rows that were cut. `skipped`: rows that were left out because
    they were too long or empty.
    """

    texts: list[str]
    ids: list[list[int]]
    rows: list[int]
    truncated: list[int]
    skipped: list[int]


@contextmanager
def at_places(places: Sequence[str]) -> Iterator[None]:
    """A context in which errors and warnings name the places of rows instead of their numbers."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except RowError as error:
            raise UserError(f"{places[error.row]}: {error.what}") from None
    for each in caught:
        if isinstance(each.message, TextsChanged):
            warnings.warn(TextsChanged(each.message.what, each.message.rows, places), stacklevel=3)
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def is_missing(text: Any) -> bool:
    """Whether a value stands for a missing text: None, NaN, or the equivalents of pandas and Arrow."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return True
    return type(text).__name__ in ("NAType", "NaTType")


def check_policies(too_long: str, empty: str) -> None:
    """Raise `UserError` for values that are not in `TOO_LONG` and `EMPTY`."""
    for name, given, known in (("too_long", too_long, TOO_LONG), ("empty", empty, EMPTY)):
        if given not in known:
            raise UserError(f"{name} is {given!r}; {nearest(str(given), list(known))}")


def fit(
    texts: Sequence[Any],
    encode: Callable[[str], list[int]],
    limit: int,
    *,
    too_long: str,
    empty: str,
    refused: Callable[[str, list[int]], str | None],
    split: str = "none",
    tell: bool = True,
) -> Fitted:
    """Encode texts into at most `limit` tokens each.

    `refused`: a function that returns why a non-empty text has no word for the model, or None. `split`: one of
    `smim.text.sentences.SPLITS`. If a row is split, sentences without a word are left out, and one sentence above the
    limit makes the row too long. `tell`: whether to warn. Raises `RowError` if a text does not fit and the policy is
    `error`.
    """
    check_policies(too_long, empty)
    check_split(split)
    fitted, kept_ids, rows = list[str](), list[list[int]](), list[int]()
    truncated, long, without = list[int](), list[int](), list[int]()

    def problem_of(text: Any, ids: list[int]) -> str | None:
        if is_missing(text):
            return f"a text is needed, not {text!r}"
        if not ids or not text.strip():
            return f"the text {shown(text)} is empty; give at least one word"
        return refused(text, ids)

    for row, text in enumerate(texts):
        parts = [(text, [])] if is_missing(text) else split_text(text, encode, split)
        usable = [(part, ids) for part, ids in parts if problem_of(part, ids) is None]
        too_many = next(((part, len(ids)) for part, ids in usable if len(ids) > limit), None)
        if not usable and empty == "error":
            raise RowError(str(problem_of(*parts[0])), row, numbered=len(texts) > 1)
        if too_many and too_long == "error":
            what = f"the text {shown(too_many[0])} has {too_many[1]} tokens, but this model takes at most {limit}"
            raise RowError(what, row, numbered=len(texts) > 1)
        if not usable:
            without.append(row)
        elif too_many and too_long == "skip":
            long.append(row)
        else:
            truncated += [row] * bool(too_many)
            fitted += [part for part, _ in usable]
            kept_ids += [ids[:limit] for _, ids in usable]
            rows += [row] * len(usable)
    told = {
        f"{len(truncated):,} of {len(texts):,} texts were cut after this model's {limit:,} tokens": truncated,
        f"{len(long):,} of {len(texts):,} texts have more than this model's {limit:,} tokens and were left out": long,
        f"{len(without):,} of {len(texts):,} texts hold no word and were left out": without,
    }
    for what, of in told.items() if tell else ():
        if of:
            warnings.warn(TextsChanged(what, of), stacklevel=2)
    return Fitted(fitted, kept_ids, rows, truncated, sorted(long + without))


def shown(text: str) -> str:
    """Quote a text for a message, shortened if it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
