"""What a loss is a function of: observations, their posteriors, and a code for each; and what may be added to a loss.

Shapes: B observations, D latent dimensions, M of them the meaning part.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian
from smim.model.latent_variable_model import LatentVariableModel
from smim.schema import bounded

# Named values, each fp32 [B]. All have `loss`, `reconstruction`, `kl` and `clamped`; those with a critic `critic_loss`.
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """Observations x, their q(z|x), and a code z [B, D] for each: what a loss is a function of.

    `step` counts optimizer steps for annealed weights; None, as in validation, means their final value. `critic`: the
    network of `make_critic`. `meaning` [B, M]: the part of z whose cosine means similarity.

    In nats [B], computed once, when a loss asks for it: `reconstruction` = -log p(x|z), `log_posterior` = log q(z|x),
    `log_prior` = log p(z), `kl` = KL(q(z|x) || p(z)), estimated at z where it has no closed form, and `elbo` =
    log p(x|z) p(z) / q(z|x), where z ~ q(z|x) a lower bound of log p(x).
    """

    model: LatentVariableModel
    batch: Any
    posterior: DiagonalGaussian
    z: Tensor
    step: int | None
    critic: nn.Module | None

    @cached_property
    def reconstruction(self) -> Tensor:
        return -self.model.log_likelihood(self.batch, self.z)

    @cached_property
    def log_posterior(self) -> Tensor:
        return self.posterior.log_prob(self.z)

    @cached_property
    def log_prior(self) -> Tensor:
        return self.model.prior.log_prob(self.z)

    @cached_property
    def kl(self) -> Tensor:
        # A closed form needs no log p(z), and a loss may have asked for it already.
        return self.model.prior.kl(self.posterior, self.z, log_prior=vars(self).get("log_prior"))

    @property
    def elbo(self) -> Tensor:
        return -self.reconstruction + self.log_prior - self.log_posterior

    @cached_property
    def meaning(self) -> Tensor:
        return self.model.meaning(self.z)


@dataclass(frozen=True)
class Critic:
    """A network that an objective trains beside the model, and its own optimizer; it is no part of the model."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Addition(ABC):
    """One more conditional likelihood: -log p(y|z), which is added to any objective's loss `weight` times; 0: none."""

    weight: float = bounded(0.0, least=0)

    def lacks(self, batch: Any) -> str | None:
        """What it needs and the batch has not, and how to give it; None where nothing is missing."""
        return None

    @abstractmethod
    def terms(self, draw: Draw) -> Terms:
        """What is added, by the names that it is logged under, in nats [B] each."""
