"""Batches of sentences of similar length, in an order that depends only on (seed, epoch)."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter

import numpy as np
import pyarrow.compute as pc

from smim.text.batch import Batch
from smim.text.corpus import Split

_ROWS_OF_AN_ESTIMATE = 1_000_000


def training_order(
    split: Split,
    *,
    batch_size: int | None,
    tokens_per_batch: int | None,
    length_window: int,
    shuffle_window: int,
    seed: int,
    epoch: int,
    max_length: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield the global batches of one epoch as arrays of rows: every row once, in random order.

    A batch has `batch_size` sentences, or as many as fit into `tokens_per_batch`. Exactly one of the two is given. In a
    token budget, a sentence counts with its words, cut after `max_length`, and `<eos>`, padded to the longest in the
    batch. A sentence above the budget is a batch of its own.

    The epoch is a sequence of groups of `shuffle_window` rows. A group has contiguous ranges from random places of the
    corpus. Its rows are shuffled, then sorted by length within windows of `length_window` batches (of mean size, with a
    token budget). Larger windows need less padding. With `length_window=1`, a batch of `batch_size` has sentences of
    any length. One group is in memory at a time. Every batch is full, except one in the last group.

    A global batch is what one optimizer step sees over all processes, so the order does not depend on their number.
    """
    into_batches: Callable[..., tuple[np.ndarray, np.ndarray]]
    if tokens_per_batch is None:
        assert batch_size is not None
        into_batches = partial(_batches_of_size, size=batch_size, window=length_window * batch_size)
    else:
        assert batch_size is None
        window = length_window * _sentences_that_fit(split, tokens_per_batch, max_length)
        into_batches = partial(_batches_of_tokens, budget=tokens_per_batch, max_length=max_length, window=window)
    random = np.random.default_rng([seed, epoch])
    # A child generator does not advance `random`: a corpus of one group is ordered as if there were no groups.
    [group_random] = random.spawn(1)
    unseen = len(split)
    rows, lengths = np.empty(0, np.int64), np.empty(0, np.int32)
    for group in _groups(split.chunks, shuffle_window, group_random):
        shuffled = random.permutation(sum(map(len, group)))
        unseen -= len(shuffled)
        rows = np.concatenate([rows, np.concatenate([np.arange(r.start, r.stop) for r in group])[shuffled]])
        lengths = np.concatenate([lengths, np.concatenate([split.lengths_of(r) for r in group])[shuffled]])
        order, bounds = into_batches(lengths, is_last=not unseen)
        ordered = rows[order]
        for i in random.permutation(len(bounds) - 1):
            yield ordered[bounds[i] : bounds[i + 1]]
        # Rows that do not fill a batch go into the next group.
        rows, lengths = ordered[bounds[-1] :], lengths[order[bounds[-1] :]]


def epoch_batches(
    split: Split,
    *,
    batch_size: int | None,
    tokens_per_batch: int | None,
    length_window: int,
    shuffle_window: int,
    max_length: int | None,
) -> int:
    """Compute the number of batches of one `training_order`: exact for `batch_size`, estimated for a token budget.

    The estimate is extrapolated from the first million rows of one epoch. Epochs differ by a batch or two, so use it
    only for progress and schedules.
    """
    if batch_size is not None:
        return math.ceil(len(split) / batch_size)
    order = training_order(
        split,
        batch_size=None,
        tokens_per_batch=tokens_per_batch,
        length_window=length_window,
        shuffle_window=shuffle_window,
        seed=0,
        epoch=0,
        max_length=max_length,
    )
    num_rows = num_batches = 0
    for rows in order:
        num_rows, num_batches = num_rows + len(rows), num_batches + 1
        if num_rows >= _ROWS_OF_AN_ESTIMATE:
            break
    return math.ceil(num_batches * len(split) / num_rows)


def share_of_rank(rows: np.ndarray, lengths: np.ndarray, *, rank: int, world_size: int) -> np.ndarray:
    """Return the positions of one process's rows in a global batch, shortest first. `lengths`: those of `rows`.

    Rows are distributed in order of length, so that all processes get similar lengths. Their numbers of rows differ by
    at most one. The first rank changes with the batch, so that no rank always gets the longest row.
    """
    dealt = np.argsort(lengths, kind="stable")
    return dealt[(rank + int(rows[dealt[0]])) % world_size :: world_size]


def _groups(chunks: Sequence[range], size: int, random: np.random.Generator) -> Iterator[list[range]]:
    """Yield all rows once, in groups of `size` (the last group has the rest). A group has ascending ranges."""
    parts = [chunk[i : i + size] for chunk in chunks for i in range(0, len(chunk), size)]
    group: list[range] = []
    room = size
    for i in random.permutation(len(parts)):
        part, rest = parts[i][:room], parts[i][room:]
        group.append(part)
        room -= len(part)
        if room == 0:
            yield sorted(group, key=attrgetter("start"))
            group, room = [rest] if rest else [], size - len(rest)
    if group:
        yield sorted(group, key=attrgetter("start"))


def _costs(lengths: np.ndarray, max_length: int | None) -> np.ndarray:
    """Count the tokens that each sentence takes of a budget: its words after the cut, and `<eos>`."""
    return (lengths if max_length is None else np.minimum(lengths, max_length)) + 1


def _sentences_that_fit(split: Split, budget: int, max_length: int | None) -> int:
    """Compute the mean number of sentences per batch if each batch has sentences of one length."""
    lengths, counts = pc.value_counts(split.table.column("length")).flatten()
    # A sentence takes 1 / (sentences of its length that fit) of a batch.
    fitting = np.maximum(1, budget // _costs(lengths.to_numpy(), max_length))
    num_batches = (counts.to_numpy() / fitting).sum()
    return math.ceil(len(split) / num_batches)


def _batches_of_size(lengths: np.ndarray, size: int, *, window: int, is_last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return an order of the rows, and the bounds of its batches. Rows after the last bound remain for later."""
    end = len(lengths) if is_last else len(lengths) - len(lengths) % size
    order = np.arange(len(lengths))
    for start in range(0, end, window):
        order[start:end][:window] = start + np.argsort(lengths[start:end][:window], kind="stable")
    return order, np.append(np.arange(0, end, size), end)


def _batches_of_tokens(
    lengths: np.ndarray, budget: int, *, max_length: int | None, window: int, is_last: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Do the same as `_batches_of_size`, with a token budget. The last batch remains for later, even if it is full."""
    costs = _costs(lengths, max_length)
    order = np.empty(len(costs), np.int64)
    for i, start in enumerate(range(0, len(costs), window)):
        # Alternate the direction, so that a batch across two windows also holds similar lengths.
        direction = -1 if i % 2 else 1
        order[start : start + window] = start + np.argsort(direction * costs[start : start + window], kind="stable")
    bounds, start, longest = [0], 0, 0
    for i, cost in enumerate(costs[order].tolist()):
        if cost > longest:
            longest = cost
        if (i - start + 1) * longest > budget and i > start:
            bounds.append(i)
            start, longest = i, cost
    if is_last:
        bounds.append(len(costs))
    return order, np.array(bounds)


def evaluation_order(lengths: np.ndarray, *, tokens_per_batch: int) -> list[np.ndarray]:
    """Divide all rows into batches of at most `tokens_per_batch` padded tokens (or one row), longest first."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // (int(lengths[order[start]]) + 1))
        batches.append(order[start : start + size])
        start += size
    return batches


def evaluation_batches(
    split: Split,
    *,
    tokens_per_batch: int = 8192,
    rank: int = 0,
    world_size: int = 1,
    max_length: int | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one rank; over all ranks, every row occurs once. Cut after `max_length` tokens if given."""
    for rows in evaluation_order(split.lengths, tokens_per_batch=tokens_per_batch)[rank::world_size]:
        yield split.batch(rows, max_length=max_length)
