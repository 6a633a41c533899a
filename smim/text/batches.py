"""Batches of sentences of like length, in an order that is a function of (seed, epoch) alone.

Shapes: B sentences, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    lengths: np.ndarray, *, batch_size: int, length_window: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """One epoch's global batches as arrays of rows: every row once, in random order.

    Rows are shuffled, then sorted by length within windows of `length_window` batches: the more, the less
    padding; with 1, a batch's sentences are of any length.

    A global batch is what one optimizer step sees over all processes, so that the order does not
    depend on how many of them there are.
    """
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(shuffled), batch_size * length_window):
        window = shuffled[start : start + batch_size * length_window]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


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
