"""A batch of sentences, as models and objectives see it.

Shapes: B sentences, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smim.text.tokenizer import PAD_ID


@dataclass(frozen=True)
class Batch:
    """B sentences, padded on the right to the longest one.

    `rows` int64 [B]: row numbers in the split; `tokens` int64 [B, T]: word ids without `<sos>` and
    `<eos>`; `lengths` int64 [B]. `cut` bool [B]: of sentences that were drawn, whether one was cut at the longest
    length, so that nothing is known of what follows its last word; None where each ends with `<eos>`.
    `fixed_shape`: what is computed of it has shapes that do not depend on what it holds, as a CUDA graph needs.
    """

    rows: Tensor
    tokens: Tensor
    lengths: Tensor
    cut: Tensor | None = None
    fixed_shape: bool = False

    def to(self, device: torch.device) -> "Batch":
        cut = None if self.cut is None else self.cut.to(device)
        return replace(
            self, rows=self.rows.to(device), tokens=self.tokens.to(device), lengths=self.lengths.to(device), cut=cut
        )

    def padded_to(self, length: int) -> "Batch":
        """The same sentences, padded to `length` tokens, which is not below the longest."""
        return replace(self, tokens=F.pad(self.tokens, (0, length - self.tokens.shape[1]), value=PAD_ID))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_positions(self) -> int:
        """Steps of the decoder: tokens, `<eos>` and padding."""
        return self.tokens.shape[0] * (self.tokens.shape[1] + 1)


def collate(ids: Sequence[np.ndarray | Sequence[int]], rows: Sequence[int] | np.ndarray) -> Batch:
    """Pads sentences of token ids into a batch."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    tokens = np.full((len(ids), lengths.max()), PAD_ID, np.int64)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = np.concatenate(ids)
    return Batch(
        rows=torch.tensor(np.asarray(rows, dtype=np.int64)),
        tokens=torch.from_numpy(tokens),
        lengths=torch.from_numpy(lengths),
    )


@dataclass(frozen=True)
class Sentences:
    """Rows of a split that were read: token ids, from which batches are made without reading again."""

    rows: np.ndarray
    ids: list[np.ndarray]

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each, int64 [N]."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    def batch(self, places: Sequence[int] | np.ndarray, *, max_length: int | None = None) -> Batch:
        """Those at the given places, cut after `max_length` tokens where that is given."""
        return collate([self.ids[i][:max_length] for i in places], self.rows[places])
