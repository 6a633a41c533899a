"""Priors p(z) over the latent space. All log densities in nats, in fp32 or the precision of z if that is higher.

Shapes: B sentences, D latent dimensions, K components.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian, standard_normal_log_prob


class Prior(nn.Module, ABC):
    """A density over codes of D dimensions; what it learns belongs to the model that holds it.

    `description` says in a few words which one it is. `num_initial_observations`: how many `initialize` asks for.
    """

    description: str
    num_initial_observations = 0

    def initialize(self, batch: Any) -> None:
        """Begins with a batch of training observations."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of z [B, D], in nats [B]."""

    def forward(self, z: Tensor) -> Tensor:
        """`log_prob`, for torch's functional calls."""
        return self.log_prob(z)

    @abstractmethod
    def sample(self, num: int) -> Tensor:
        """`num` draws, fp32 [num, D], on the prior's device; no gradient reaches what is learned."""

    def kl(self, posterior: DiagonalGaussian, z: Tensor, *, log_prior: Tensor | None = None) -> Tensor:
        """KL(q(z|x) || p(z)) in nats [B], estimated from one draw z ~ q(z|x) [B, D] where it has no closed form.

        `log_prior`: log p(z), where it is known already.
        """
        return posterior.log_prob(z) - (self.log_prob(z) if log_prior is None else log_prior)


class StandardNormal(Prior):
    """N(0, I), which the thesis calls the anchor."""

    description = "N(0, I)"
    placement: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # Not saved: it only says which device draws are made on.
        self.register_buffer("placement", torch.zeros(()), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return standard_normal_log_prob(z)

    def sample(self, num: int) -> Tensor:
        return torch.randn(num, self.latent_dim, device=self.placement.device, dtype=self.placement.dtype)

    def kl(self, posterior: DiagonalGaussian, z: Tensor, *, log_prior: Tensor | None = None) -> Tensor:
        """In closed form."""
        return posterior.kl_to_standard_normal()


class Mixture(Prior):
    """A mixture of K diagonal Gaussians, wherever they come from."""

    @abstractmethod
    def components(self) -> tuple[Tensor, DiagonalGaussian]:
        """The log weights [K], and the Gaussians, fields [K, D]."""

    def log_prob(self, z: Tensor) -> Tensor:
        log_weights_K, gaussians = self.components()
        return torch.logsumexp(log_weights_K + gaussians.log_prob_under_each(z), -1).to(z.dtype)

    @torch.no_grad()
    def sample(self, num: int) -> Tensor:
        log_weights_K, gaussians = self.components()
        chosen = torch.multinomial(log_weights_K.exp(), num, replacement=True)
        return DiagonalGaussian(gaussians.mean[chosen], gaussians.log_variance[chosen]).sample()


class GaussianMixture(Mixture):
    """Learned weights, means and log variances (section 3.6.1, with a variance for each dimension).

    It begins with the mean and the covariance of N(0, I), half of the variance within the components.
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
    """1/K sum over k of q(z|u_k), with learned pseudo-inputs u_k: eq. 3.24 (Tomczak and Welling 2017).

    `pseudo_inputs` [K, ...] is what they begin as, `posterior` gives q(z|u_k) of all of them, fields [K, D], and
    `as_pseudo_inputs` makes such a tensor of a batch of K observations. The functions are the model's own: nothing of
    its encoder is registered here a second time. The posteriors are computed anew by each call.
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
        """Makes the pseudo-inputs those of K training observations (section 4.3)."""
        self.pseudo_inputs.copy_(self.as_pseudo_inputs(batch))

    def components(self) -> tuple[Tensor, DiagonalGaussian]:
        gaussians = self.posterior(self.pseudo_inputs)
        return gaussians.mean.new_full((self.num_components,), -math.log(self.num_components)), gaussians
