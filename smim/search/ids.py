"""Ids of sentences: whole numbers that every JSON reader represents exactly."""

from collections.abc import Collection, Sequence

import numpy as np

from smim.errors import RowError, UserError

LARGEST_ID = 2**53 - 1


def as_ids(ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ids as int64 [N]; raises `UserError` naming the first that is not a whole number from 0 to `LARGEST_ID`."""
    if isinstance(ids, str) or not isinstance(ids, Collection) or getattr(ids, "ndim", 1) != 1:
        raise UserError(f"ids must be a list of whole numbers, not {str(ids)[:60]}")
    for row, id in enumerate(ids):
        whole = isinstance(id, int | np.integer) and not isinstance(id, bool | np.timedelta64)
        if not whole or not 0 <= id <= LARGEST_ID:
            what = f"ids must be a list of whole numbers from 0 to 2**53 - 1, not {str(id)[:60]!r}"
            if whole and id > LARGEST_ID:
                what += "; larger ids in an older index can be found by searches and deleted by a filter"
            raise RowError(what, row, numbered=False)
    return np.fromiter(ids, np.int64, len(ids))


def new_ids(ids: Sequence[int] | None, count: int, *, first: int) -> np.ndarray:
    """Ids of `count` new sentences, int64: the given ones, or numbers from `first` on.

    Raises `UserError` if there is not one for each sentence, or if the next ones would be too large.
    """
    if ids is None:
        if first + count - 1 > LARGEST_ID:
            raise UserError(
                f"the next ids begin at {first} and would exceed the limit 2**53 - 1; give each sentence an unused id"
            )
        return np.arange(first, first + count)
    numbers = as_ids(ids)
    if len(numbers) != count:
        raise UserError(f"{len(numbers)} ids were given for {count} sentences; give one id for each sentence")
    _, firsts = np.unique(numbers, return_index=True)
    if len(firsts) < count:
        row = int(np.setdiff1d(np.arange(count), firsts)[0])
        raise RowError(f"the id {numbers[row]} is given twice; each sentence needs its own", row, numbered=False)
    return numbers


def listed(ids: np.ndarray) -> str:
    return ", ".join(map(str, ids[:10].tolist())) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
