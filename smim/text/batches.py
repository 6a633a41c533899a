"""Batches of sentences of like length, in an order that is a function of (seed, epoch) alone.

Shapes: B sentences, T tokens.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor

from smim.text.corpus import Split
from smim.text.tokenizer import PAD_ID


@dataclass(frozen=True)
class Batch:
    """B sentences, padded on the right to the longest one.

    `rows` int64 [B]: row numbers in the split; `tokens` int64 [B, T]: word ids without `<sos>` and
    `<eos>`; `lengths` int64 [B].
    """

    rows: Tensor
    tokens: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.rows.to(device), self.tokens.to(device), self.lengths.to(device))

    def __len__(self) -> int:
        return len(self.rows)


def collate(ids: Sequence[np.ndarray | Sequence[int]], rows: Sequence[int] | np.ndarray) -> Batch:
    """Pads sentences of token ids into a batch."""
    lengths = torch.tensor([len(sentence) for sentence in ids], dtype=torch.int64)
    tokens = torch.full((len(ids), int(lengths.max())), PAD_ID, dtype=torch.int64)
    for i, sentence in enumerate(ids):
        tokens[i, : len(sentence)] = torch.tensor(np.asarray(sentence, dtype=np.int64))
    return Batch(rows=torch.tensor(np.asarray(rows, dtype=np.int64)), tokens=tokens, lengths=lengths)


def read_batch(split: Split, rows: Sequence[int] | np.ndarray, *, max_length: int | None = None) -> Batch:
    """Reads rows of a split as one batch, cut after `max_length` tokens where that is given."""
    return collate([ids[:max_length] for ids in split.ids(rows)], rows)


def training_order(
    split: Split, *, batch_size: int, length_window: int, shuffle_window: int, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """One epoch's global batches as arrays of rows: every row once, in random order.

    Groups of `shuffle_window` rows follow one another, each of them whole stretches of the corpus from
    random places. A group's rows are shuffled, then sorted by length within windows of `length_window`
    batches: the more, the less padding; with 1, a batch's sentences are of any length. One group is in
    memory at a time. Every batch is full, but for one in the last group where the rows do not divide.

    A global batch is what one optimizer step sees over all processes, so that the order does not
    depend on how many of them there are.
    """
    random = np.random.default_rng([seed, epoch])
    # A child's numbers take none from `random`: a corpus of one group is ordered as if there were no groups.
    [group_random] = random.spawn(1)
    unseen = len(split)
    rows, lengths = np.empty(0, np.int64), np.empty(0, np.int32)
    for group in _groups(split.chunks, shuffle_window, group_random):
        shuffled = random.permutation(sum(map(len, group)))
        unseen -= len(shuffled)
        rows = np.concatenate([rows, np.concatenate([np.arange(r.start, r.stop) for r in group])[shuffled]])
        lengths = np.concatenate([lengths, np.concatenate([split.lengths_of(r) for r in group])[shuffled]])
        # What does not fill a batch goes into the next group.
        end = len(rows) - len(rows) % batch_size if unseen else len(rows)
        ordered = rows[_order_by_length(lengths[:end], batch_size * length_window)]
        for i in random.permutation(math.ceil(end / batch_size)):
            yield ordered[i * batch_size : (i + 1) * batch_size]
        rows, lengths = rows[end:], lengths[end:]


def _groups(chunks: Sequence[range], size: int, random: np.random.Generator) -> Iterator[list[range]]:
    """All rows once, in groups of `size` (the last one: the rest), each with its ranges in ascending order."""
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


def _order_by_length(lengths: np.ndarray, window: int) -> np.ndarray:
    """The order that sorts each `window` consecutive lengths."""
    order = np.empty(len(lengths), np.int64)
    for start in range(0, len(lengths), window):
        order[start : start + window] = start + np.argsort(lengths[start : start + window], kind="stable")
    return order


def evaluation_order(lengths: np.ndarray, *, tokens_per_batch: int) -> list[np.ndarray]:
    """All rows once, longest first, in batches of at most `tokens_per_batch` padded tokens (or one row)."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // (int(lengths[order[start]]) + 1))
        batches.append(order[start : start + size])
        start += size
    return batches


def evaluation_batches(
    split: Split, *, tokens_per_batch: int = 8192, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """This rank's share of a split, every row exactly once over all ranks, nothing cut or dropped."""
    for rows in evaluation_order(split.lengths, tokens_per_batch=tokens_per_batch)[rank::world_size]:
        yield read_batch(split, rows)
