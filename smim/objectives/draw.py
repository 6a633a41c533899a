"""The input of a loss (observations, their posteriors and codes), and the interface of additional terms.

Shapes: B observations, D latent dimensions, M dimensions of the meaning part.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from smim.model.distributions import Posterior
from smim.model.latent_variable_model import LatentVariableModel
from smim.schema import bounded

# Named values, fp32 [B] each: always `loss`, `reconstruction`, `kl` and `clamped`; with a critic also `critic_loss`.
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """Observations x, their posteriors q(z|x), and a code z [B, D] for each: the input of a loss.

    `step` counts optimizer steps for annealed weights; None, as in validation, means their final value. `critic` is the
    network of `make_critic`. `meaning` [B, M] is the part of z whose cosine measures similarity.

    The other properties are in nats [B]: `reconstruction` = -log p(x|z), `log_posterior` = log q(z|x), `log_prior` =
    log p(z), `kl` = KL(q(z|x) || p(z)) (estimated at z if it has no closed form), and `elbo` = log p(x|z) p(z) / q(z|x)
    (in expectation over z ~ q(z|x), a lower bound of log p(x)). All but `elbo` are cached at the first use.
    """

    model: LatentVariableModel
    batch: Any
    posterior: Posterior
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
        # Pass log p(z) only if it is already computed, because a closed form does not need it.
        return self.model.prior.kl(self.posterior, self.z, log_prior=vars(self).get("log_prior"))

    @property
    def elbo(self) -> Tensor:
        return -self.reconstruction + self.log_prior - self.log_posterior

    @cached_property
    def meaning(self) -> Tensor:
        return self.model.meaning(self.z)


@dataclass(frozen=True)
class Critic:
    """A network that an objective trains beside the model, with its own optimizer. It is not part of the model."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Addition(ABC):
    """A further term -log p(y|z), which is multiplied by `weight` and added to any objective's loss; 0 turns it off."""

    weight: float = bounded(0.0, least=0)

    def lacks(self, batch: Any) -> str | None:
        """Describe the data that the batch lacks, and how to provide it; None if nothing is missing."""
        return None

    @abstractmethod
    def terms(self, draw: Draw) -> Terms:
        """Return the added terms by the names in the log, in nats [B] each."""
