"""A batch of sentences, the input of models and objectives.

Shapes: B sentences, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smim.text.tokenizer import PAD_ID, SPECIAL


@dataclass(frozen=True)
class Batch:
    """B sentences, padded on the right to the longest one.

    `rows` int64 [B]: row numbers in the split. `tokens` int64 [B, T]: word ids without `<sos>` and `<eos>`. `lengths`
    int64 [B]. `cut` bool [B]: which sampled sentences reached the longest length before `<eos>`, so that their
    continuation is unknown; None if each ends with `<eos>`. `fixed_shape`: computations have shapes that do not depend
    on the content, as a CUDA graph needs.

    Optional information from the split: `view` fp32 [B, V], the teacher's unit vectors, zeros if there is none;
    `pair`, the paired sentences, as a batch of the same rows. `random` bool [B]: which sentences have random words
    (`with_random_words`); None if none have.
    """

    rows: Tensor
    tokens: Tensor
    lengths: Tensor
    cut: Tensor | None = None
    fixed_shape: bool = False
    view: Tensor | None = None
    pair: "Batch | None" = None
    random: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor | Batch)
        }
        return replace(self, **moved)

    def padded_to(self, length: int) -> "Batch":
        """Pad the sentences and pairs to `length` tokens, which must be at least `longest`."""
        return replace(
            self,
            tokens=F.pad(self.tokens, (0, length - self.tokens.shape[1]), value=PAD_ID),
            pair=None if self.pair is None else self.pair.padded_to(length),
        )

    @property
    def longest(self) -> int:
        """The number of tokens in the longest sentence, including pairs."""
        return max(self.tokens.shape[1], self.pair.tokens.shape[1] if self.pair else 0)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_positions(self) -> int:
        """The number of decoder steps: tokens, `<eos>` and padding."""
        return self.tokens.shape[0] * (self.tokens.shape[1] + 1)


def collate(ids: Sequence[np.ndarray | Sequence[int]], rows: Sequence[int] | np.ndarray) -> Batch:
    """Pad sentences of token ids into a batch."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    tokens = np.full((len(ids), lengths.max()), PAD_ID, np.int64)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = np.concatenate(ids)
    return Batch(
        rows=torch.tensor(np.asarray(rows, dtype=np.int64)),
        tokens=torch.from_numpy(tokens),
        lengths=torch.from_numpy(lengths),
    )


def with_random_words(batch: Batch, share: float, vocabulary_size: int) -> Batch:
    """Replace all words of a share of the sentences by random ones, drawn uniformly; lengths do not change.

    These sentences have no view, because no teacher has read them.
    """
    device = batch.tokens.device
    random_B = torch.rand(len(batch), device=device) < share
    words_BT = torch.randint(len(SPECIAL), vocabulary_size, batch.tokens.shape, device=device)
    return replace(
        batch,
        tokens=words_BT.where(random_B[:, None] & (batch.tokens != PAD_ID), batch.tokens),
        view=None if batch.view is None else batch.view * ~random_B[:, None],
        random=random_B,
    )


@dataclass(frozen=True)
class Sentences:
    """Rows of a split in memory, as token ids, to make batches from.

    `view` fp32 [N, V] and `pair` (token ids) become the `view` and `pair` of batches.
    """

    rows: np.ndarray
    ids: list[np.ndarray]
    view: np.ndarray | None = None
    pair: list[np.ndarray] | None = None

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each sentence, int64 [N]."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    def batch(self, places: Sequence[int] | np.ndarray, *, max_length: int | None = None) -> Batch:
        """Make a batch of the sentences at the given positions, cut after `max_length` tokens if it is given."""
        rows = self.rows[places]
        batch = collate([self.ids[i][:max_length] for i in places], rows)
        view = None if self.view is None else torch.from_numpy(self.view[places])
        pair = None if self.pair is None else collate([self.pair[i][:max_length] for i in places], rows)
        return replace(batch, view=view, pair=pair)
