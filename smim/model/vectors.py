"""What all models of vectors share.

Shapes: B vectors, X their dimensions, D latent.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from smim.model.latent_variable_model import LatentVariableModel
from smim.vectors.batch import VectorBatch

T = TypeVar("T")

# The initial distance of a pseudo-input in (0, 1) from the ends, because it would have no gradient there.
PSEUDO_INPUT_MARGIN = 0.05
# The largest number of values of a layer's output to compute at once without a gradient: 64 MB.
_NUMBERS_AT_ONCE = 2**24


class VectorLatentVariableModel(LatentVariableModel):
    """A model of vectors with `input_size` numbers: fully connected (`mlp`) or of images (`images`)."""

    unit: ClassVar[str] = "vector"

    @abstractmethod
    def mean(self, z_BD: Tensor) -> Tensor:
        """Compute E[x|z], fp32 [B, X]."""

    @abstractmethod
    def draw(self, z_BD: Tensor) -> Tensor:
        """Draw x ~ p(x|z) for each z, fp32 [B, X]."""

    @property
    @abstractmethod
    def numbers_per_vector(self) -> int:
        """The size of the largest layer's output for one vector."""

    @property
    def rows_at_once(self) -> int:
        """The number of vectors to encode or decode at once without a gradient, so that they fit into memory."""
        return max(1, _NUMBERS_AT_ONCE // self.numbers_per_vector)

    def in_blocks(self, function: Callable[..., T], *tensors: Tensor) -> list[T]:
        """Apply `function` to at most `rows_at_once` rows of the tensors at a time, in order."""
        return [function(*block) for block in zip(*(each.split(self.rows_at_once) for each in tensors), strict=True)]

    def sample(self, z_BD: Tensor, *, max_length: int = 100) -> VectorBatch:
        """Draw x ~ p(x|z) for each z, as a batch. `max_length` has no effect."""
        return VectorBatch(torch.arange(len(z_BD), device=z_BD.device), self.draw(z_BD))

    def summary(self, batch: VectorBatch) -> Tensor:
        return batch.vectors
