"""A batch of vectors, the input of models and objectives.

Shapes: B vectors, X their dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class VectorBatch:
    """B vectors. `rows` int64 [B]: row numbers in the split; `vectors` fp32 [B, X]."""

    rows: Tensor
    vectors: Tensor
    view: ClassVar[None] = None
    pair: ClassVar[None] = None

    def to(self, device: torch.device) -> "VectorBatch":
        return VectorBatch(self.rows.to(device), self.vectors.to(device))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Tensor:
        """Ones, int64 [B]: a vector counts as one token."""
        return torch.ones_like(self.rows)

    @property
    def num_positions(self) -> int:
        """The number of decoder steps, as for sentences of one token and `<eos>`."""
        return 2 * len(self.rows)


@dataclass(frozen=True)
class Vectors:
    """Rows of a split in memory, to make batches from."""

    rows: np.ndarray
    vectors: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Ones, int64 [N]: a vector counts as one token."""
        return np.ones(len(self.rows), np.int64)

    def batch(self, places: Sequence[int] | np.ndarray, *, max_length: int | None = None) -> VectorBatch:
        """Make a batch of the vectors at the given positions. `max_length` has no effect."""
        chosen = np.asarray(places, dtype=np.int64)
        return VectorBatch(torch.from_numpy(self.rows[chosen]), torch.from_numpy(self.vectors[chosen]))
