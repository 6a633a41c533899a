"""What every objective trains: q(z|x), p(x|z) and p(z), whatever x is.

Shapes: B observations, D latent dimensions, F features.
"""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian
from smim.model.priors import Prior


class Observations(Protocol):
    """A batch of B observations: sentences (`smim.text.batch.Batch`) or vectors (`smim.vectors.corpus.VectorBatch`).

    `rows` int64 [B]: row numbers in the split; `lengths` int64 [B]: tokens without `<eos>`, 1 for a vector.
    """

    @property
    def rows(self) -> Tensor: ...

    @property
    def lengths(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Any: ...

    @property
    def num_positions(self) -> int: ...


class LatentVariableModel(nn.Module, ABC):
    """An encoder q(z|x), a decoder p(x|z) and a prior p(z).

    `reparameterized`: whether `sample` carries a gradient, as draws of vectors do and words do not.
    """

    args: Any
    prior: Prior
    reparameterized: bool

    @property
    @abstractmethod
    def input_size(self) -> int:
        """Words of the vocabulary, or dimensions of a vector."""

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @abstractmethod
    def posterior(self, batch: Any) -> DiagonalGaussian:
        """q(z|x) of each observation, fields fp32 [B, D]."""

    @abstractmethod
    def log_likelihood(self, batch: Any, z_BD: Tensor) -> Tensor:
        """log p(x|z) in nats [B], for z [B, D]; of a sentence with its `<eos>`."""

    @abstractmethod
    def sample(self, z_BD: Tensor, *, max_length: int = 100) -> Any:
        """A batch of draws x ~ p(x|z), one for each z [B, D], with torch's random numbers.

        `max_length`: a sentence is cut after so many tokens.
        """

    @abstractmethod
    def summary(self, batch: Any) -> Tensor:
        """Features of x that hold all that q(z|x) depends on, for critics t(x, z): fp32 [B, F], without gradient."""

    @property
    @abstractmethod
    def summary_dim(self) -> int:
        """F."""

    @abstractmethod
    def freeze_variance(self) -> None:
        """Excludes what only the posterior's variance depends on from training."""
