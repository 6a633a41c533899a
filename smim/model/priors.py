"""Priors p(z) over the latent space. All log densities are in nats, in fp32 or in the precision of z if it is higher.

Shapes: B sentences, D latent dimensions, K components.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian, Posterior, standard_normal_log_prob


class Prior(nn.Module, ABC):
    """A density over codes with D dimensions. Its parameters are parameters of the model that contains it.

    `description`: a short text for reports. `num_initial_observations`: the number that `initialize` needs.
    """

    description: str
    num_initial_observations = 0

    def initialize(self, batch: Any) -> None:
        """Initialise the parameters with a batch of training observations."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Compute log p(z) of z [B, D], in nats [B]."""

    def forward(self, z: Tensor) -> Tensor:
        """Call `log_prob`; torch's functional calls need this method."""
        return self.log_prob(z)

    @abstractmethod
    def sample(self, num: int) -> Tensor:
        """Draw `num` codes, fp32 [num, D], on the prior's device, without a gradient to its parameters."""

    def kl(self, posterior: Posterior, z: Tensor, *, log_prior: Tensor | None = None) -> Tensor:
        """Compute KL(q(z|x) || p(z)) in nats [B]. Without a closed form, estimate it from one draw z ~ q(z|x) [B, D].

        `log_prior`: log p(z), if it is already known.
        """
        return posterior.log_prob(z) - (self.log_prob(z) if log_prior is None else log_prior)


class StandardNormal(Prior):
    """The prior N(0, I), which the thesis calls the anchor."""

    description = "N(0, I)"
    placement: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # Not saved, because it only records the device of the draws.
        self.register_buffer("placement", torch.zeros(()), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return standard_normal_log_prob(z)

    def sample(self, num: int) -> Tensor:
        return torch.randn(num, self.latent_dim, device=self.placement.device, dtype=self.placement.dtype)

    def kl(self, posterior: Posterior, z: Tensor, *, log_prior: Tensor | None = None) -> Tensor:
        """Compute the KL of a diagonal Gaussian in closed form, in nats [B]; estimate that of two levels."""
        if isinstance(posterior, DiagonalGaussian):
            return posterior.kl_to_standard_normal()
        return super().kl(posterior, z, log_prior=log_prior)


class Mixture(Prior):
    """A mixture of K diagonal Gaussians. Subclasses define the components."""

    @abstractmethod
    def components(self) -> tuple[Tensor, DiagonalGaussian]:
        """Return the log weights [K], and the Gaussians with fields [K, D]."""

    def log_prob(self, z: Tensor) -> Tensor:
        log_weights_K, gaussians = self.components()
        return torch.logsumexp(log_weights_K + gaussians.log_prob_under_each(z), -1).to(z.dtype)

    @torch.no_grad()
    def sample(self, num: int) -> Tensor:
        log_weights_K, gaussians = self.components()
        chosen = torch.multinomial(log_weights_K.exp(), num, replacement=True)
        return DiagonalGaussian(gaussians.mean[chosen], gaussians.log_variance[chosen]).sample()


class GaussianMixture(Mixture):
    """A mixture with learned weights, means and log variances (section 3.6.1, with a variance for each dimension).

    Initially it has the mean and the covariance of N(0, I), with half of the variance within the components.
    """

    def __init__(self, latent_dim: int, *, num_components: int) -> None:
        super().__init__()
        self.description = f"mixture of {num_components} Gaussians"
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.means = nn.Parameter(nn.init.normal_(torch.empty(num_components, latent_dim), std=math.sqrt(0.5)))
        self.log_variances = nn.Parameter(torch.full((num_components, latent_dim), math.log(0.5)))

    def components(self) -> tuple[Tensor, DiagonalGaussian]:
        return torch.log_softmax(self.logits, 0), DiagonalGaussian(self.means, self.log_variances)


class VampPrior(Mixture):
    """The mixture 1/K sum over k of q(z|u_k), with learned pseudo-inputs u_k: eq. 3.24 (Tomczak and Welling 2017).

    `pseudo_inputs` [K, ...]: their initial values. `posterior` computes q(z|u_k) of all of them, with fields [K, D].
    `as_pseudo_inputs` converts a batch of K observations to such a tensor. Both are functions, so the encoder is not
    registered here a second time. Each call computes the posteriors again.
    """

    def __init__(
        self,
        pseudo_inputs: Tensor,
        *,
        posterior: Callable[[Tensor], DiagonalGaussian],
        as_pseudo_inputs: Callable[[Any], Tensor],
    ) -> None:
        super().__init__()
        self.num_components = self.num_initial_observations = len(pseudo_inputs)
        self.description = f"VampPrior of {self.num_components} pseudo-inputs"
        self.pseudo_inputs = nn.Parameter(pseudo_inputs)
        self.posterior, self.as_pseudo_inputs = posterior, as_pseudo_inputs

    @torch.no_grad()
    def initialize(self, batch: Any) -> None:
        """Set the pseudo-inputs to K training observations (section 4.3)."""
        self.pseudo_inputs.copy_(self.as_pseudo_inputs(batch))

    def components(self) -> tuple[Tensor, DiagonalGaussian]:
        gaussians = self.posterior(self.pseudo_inputs)
        return gaussians.mean.new_full((self.num_components,), -math.log(self.num_components)), gaussians
