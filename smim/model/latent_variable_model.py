"""What every objective trains: q(z|x), p(x|z) and p(z), whatever x is.

Shapes: B observations, D latent dimensions, F features.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian
from smim.model.parts import matrix_weights
from smim.model.priors import Prior
from smim.text.batch import Batch
from smim.vectors.batch import VectorBatch

# A batch of B observations: `rows` int64 [B] are row numbers in the split; `lengths` int64 [B] tokens without `<eos>`,
# 1 for a vector.
Observations = Batch | VectorBatch


class LatentVariableModel(nn.Module, ABC):
    """An encoder q(z|x), a decoder p(x|z) and a prior p(z).

    `unit`: "sentence" or "vector", as of a corpus. `reparameterized`: whether `sample` carries a gradient, as draws of
    vectors do and words do not. `graphable`: whether a training step is many small kernels, the same ones for each
    batch of one shape. `undecayed`: the parts that weight decay leaves alone. The vectors of rare words would shrink in
    all the steps between two uses, and what a prior learns is places and log variances.

    `input_size`: words of the vocabulary, or dimensions of a vector. `summary_dim`: F. `to_mean` and `to_log_variance`
    lead from an encoder's state to q(z|x)'s mean, and to its log variance before the clamp.
    """

    unit: ClassVar[str]
    args: Any
    input_size: int
    summary_dim: int
    to_mean: nn.Module
    to_log_variance: nn.Module
    prior: Prior
    reparameterized: bool
    graphable: bool = False
    undecayed: ClassVar[tuple[str, ...]] = ("prior",)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def meaning_dim(self) -> int:
        """How many of a code's first numbers are those whose cosine is to mean similarity: all, or the meaning part."""
        return self.args.latent_dim

    def meaning(self, z_BD: Tensor) -> Tensor:
        """The part of codes whose cosine is to mean similarity, [B, M]."""
        return z_BD[:, : self.meaning_dim]

    def meaning_of(self, batch: Any) -> Tensor:
        """The part of each observation's mean code whose cosine is to mean similarity, or its direction, [B, M]."""
        return self.meaning(self.posterior(batch).mean)

    def hold_meaning(self) -> None:
        """From now on training leaves the meaning part as it is; raises `UserError` where there is none."""
        raise UserError("objective.second_view.hold=true holds a meaning part, and this model's codes have none")

    @property
    def num_initial_observations(self) -> int:
        """Training observations that `initialize` asks for; 0 where weights begin at random alone."""
        return self.prior.num_initial_observations

    def initialize(self, batch: Any) -> None:
        """Makes what begins as training observations those of `batch`."""
        self.prior.initialize(batch)

    def initialize_words(self, vectors_VW: Tensor, counts_V: Tensor) -> None:
        """Begins with a teacher's vectors of the words of a vocabulary, most important axes first.

        `counts`: how often each word occurs in the training text. A model without a table of meanings stays as it is.
        """

    def compile_parts(self) -> list[nn.Module]:
        """What gains by `torch.compile`."""
        return []

    def flops_per_token(self, mean_length: float) -> float:
        """FLOPs of one training step, forward and backward, for each word of sentences of `mean_length` words.

        Each weight of a matrix that a token passes takes 2 FLOPs forward and 4 backward. So does each pair of tokens
        and each channel in attention, twice: the scores, and the sum of the values (12 x layers x hidden x length for a
        token; a causal mask saves nothing). A vector counts as one word, and passes each matrix once. What a learned
        prior takes is left out: it is a step's.
        """
        return 6.0 * (matrix_weights(self) - matrix_weights(self.prior))

    @abstractmethod
    def posterior(self, batch: Any) -> DiagonalGaussian:
        """q(z|x) of each observation, fields fp32 [B, D]."""

    @abstractmethod
    def log_likelihood(self, batch: Any, z_BD: Tensor) -> Tensor:
        """log p(x|z) in nats [B], for z [B, D]; of a sentence with its `<eos>`."""

    def log_likelihood_of_pair(self, batch: Any, z_BD: Tensor) -> Tensor:
        """log p(y|z) in nats [B] of others than those that the codes z [B, D] are of: from their meaning part alone."""
        return self.log_likelihood(batch, z_BD)

    @abstractmethod
    def sample(self, z_BD: Tensor, *, max_length: int = 100) -> Any:
        """A batch of draws x ~ p(x|z), one for each z [B, D], with torch's random numbers.

        `max_length`: a sentence is cut after so many tokens.
        """

    @abstractmethod
    def summary(self, batch: Any) -> Tensor:
        """Features of x that hold all that q(z|x) depends on, for critics t(x, z): fp32 [B, F], without gradient."""

    def posterior_of_state(self, state_BH: Tensor) -> DiagonalGaussian:
        """q(z|x) of an encoder's state [B, H], fields fp32 [B, D]."""
        log_variance = self.to_log_variance(state_BH).float().clamp(min=self.args.min_log_variance)
        return DiagonalGaussian(mean=self.to_mean(state_BH).float(), log_variance=log_variance)

    def freeze_variance(self) -> None:
        """Excludes what only the posterior's variance depends on from training."""
        self.to_log_variance.requires_grad_(False)
