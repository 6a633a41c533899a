"""The interface of all models: q(z|x), p(x|z) and p(z), where x is a sentence or a vector.

Shapes: B observations, D latent dimensions, F features.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian, Posterior
from smim.model.parts import matrix_weights
from smim.model.priors import Prior
from smim.text.batch import Batch
from smim.vectors.batch import VectorBatch

# A batch of B observations. `rows` int64 [B]: row numbers in the split. `lengths` int64 [B]: tokens without `<eos>`, or
# 1 for a vector.
Observations = Batch | VectorBatch


class LatentVariableModel(nn.Module, ABC):
    """An encoder q(z|x), a decoder p(x|z) and a prior p(z).

    `unit`: "sentence" or "vector", as for a corpus. `reparameterized`: `sample` has a gradient, which is possible for
    Gaussian vectors but not for words. `graphable`: a training step consists of many small kernels that are the same
    for all batches of one shape. `undecayed`: the parts without weight decay. With it, the embeddings of rare words
    would shrink between two uses, and a prior's parameters are positions and log variances. `draws_slowly`: `sample`
    takes a pass for each number of a vector.

    `input_size`: the vocabulary size, or the dimensions of a vector. `summary_dim`: F. `to_mean` and `to_log_variance`
    map the encoder's state to the mean of q(z|x), and to its log variance before the clamp.
    """

    unit: ClassVar[str]
    args: Any
    input_size: int
    summary_dim: int
    encoder: nn.Module
    decoder: nn.Module
    to_mean: nn.Module
    to_log_variance: nn.Module
    prior: Prior
    reparameterized: bool
    graphable: bool = False
    draws_slowly: bool = False
    undecayed: ClassVar[tuple[str, ...]] = ("prior",)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def meaning_dim(self) -> int:
        """M, the number of leading dimensions whose cosine measures similarity: the meaning part, or all."""
        return self.args.latent_dim

    def meaning(self, z_BD: Tensor) -> Tensor:
        """The part of codes [B, D] whose cosine measures similarity, [B, M]."""
        return z_BD[:, : self.meaning_dim]

    def meaning_of(self, batch: Any) -> Tensor:
        """The `meaning` of each observation's mean code, or only its direction, [B, M]."""
        return self.meaning(self.posterior(batch).mean)

    def hold_meaning(self) -> None:
        """Freeze the meaning part from now on. Raises `UserError` if there is none."""
        raise UserError(
            "objective.second_view.hold=true needs a meaning part, but this model's codes have none; leave it out"
        )

    @property
    def num_initial_observations(self) -> int:
        """The number of training observations that `initialize` needs; 0 if all initial weights are random."""
        return self.prior.num_initial_observations

    def initialize(self, batch: Any) -> None:
        """Set the parameters whose initial values are training observations to those of `batch`."""
        self.prior.initialize(batch)

    def initialize_words(self, vectors_VW: Tensor, counts_V: Tensor) -> None:
        """Initialise word meanings from a teacher's vectors of all words, with the most important axes first.

        `counts`: each word's frequency in the training text. A model without a table of meanings does not change.
        """

    def compile_parts(self) -> list[nn.Module]:
        """The parts that `torch.compile` makes faster."""
        return []

    def flops_per_token(self, mean_length: float) -> float:
        """FLOPs per word of a training step, forward and backward, for sentences of `mean_length` words on average.

        Each matrix weight costs 2 FLOPs forward and 4 backward per token. Attention costs as much, for the scores and
        again for the sum of values, per pair of tokens and channel: 12 x layers x hidden x length per token. A causal
        mask saves nothing. A vector counts as one word. A learned prior is left out, because it costs per step.
        """
        return 6.0 * (matrix_weights(self) - matrix_weights(self.prior))

    @abstractmethod
    def posterior(self, batch: Any) -> Posterior:
        """Compute q(z|x) of each observation, with `mean` and `log_variance` fp32 [B, D]."""

    @abstractmethod
    def log_likelihood(self, batch: Any, z_BD: Tensor) -> Tensor:
        """Compute log p(x|z) in nats [B], for z [B, D]. For a sentence it includes `<eos>`."""

    def log_likelihood_of_pair(self, batch: Any, z_BD: Tensor) -> Tensor:
        """Compute log p(y|z) in nats [B] of other sentences y, from the meaning part of the codes z [B, D] if any."""
        return self.log_likelihood(batch, z_BD)

    @abstractmethod
    def sample(self, z_BD: Tensor, *, max_length: int = 100) -> Any:
        """Draw x ~ p(x|z) for each z [B, D], as a batch, with torch's random numbers.

        `max_length`: the number of tokens after which a sentence is cut.
        """

    @abstractmethod
    def summary(self, batch: Any) -> Tensor:
        """Features of x that determine q(z|x), for critics t(x, z): fp32 [B, F], without a gradient."""

    def posterior_of_state(self, state_BH: Tensor) -> DiagonalGaussian:
        """Compute q(z|x) from an encoder's state [B, H], with fields fp32 [B, D]."""
        log_variance = self.to_log_variance(state_BH).float().clamp(min=self.args.min_log_variance)
        return DiagonalGaussian(mean=self.to_mean(state_BH).float(), log_variance=log_variance)

    def freeze_variance(self) -> None:
        """Exclude the parameters that only affect the posterior's variance from training."""
        self.to_log_variance.requires_grad_(False)

    def inference_parameters(self) -> list[nn.Parameter]:
        """The parameters that only q(z|x) has: none that decoder, prior or output layer share, such as embeddings."""
        shared = {*map(id, self.decoder.parameters()), *map(id, self.prior.parameters())}
        parts = nn.ModuleList([self.encoder, self.to_mean, self.to_log_variance])
        return [parameter for parameter in parts.parameters() if id(parameter) not in shared]

    def remove_code(self) -> None:
        """Make every code's mean 0 and freeze q(z|x) and p(z), so that p(x|0) remains: a model without a code.

        Raises `UserError` if the encoder's code is not the output of a linear layer, as for a superposition.
        """
        if not isinstance(self.to_mean, nn.Linear):
            raise UserError(f"a model without a code needs another encoder than model.encoder={self.args.encoder.name}")
        for tensor in (self.to_mean.weight, self.to_mean.bias):
            nn.init.zeros_(tensor)
        for parameter in [*self.inference_parameters(), *self.prior.parameters()]:
            parameter.requires_grad_(False)
