"""Priors p(z) over the latent space. All log densities in nats and in fp32.

Shapes: B sentences, D latent dimensions.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian, standard_normal_log_prob


class Prior(nn.Module, ABC):
    """A density over codes of D dimensions; what it learns belongs to the model that holds it."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of z [B, D], in nats [B]."""

    @abstractmethod
    def sample(self, num: int) -> Tensor:
        """`num` draws, fp32 [num, D], on the prior's device; no gradient reaches what is learned."""

    def kl(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats [B], estimated from one draw z ~ q(z|x) [B, D] where it has no closed form."""
        return posterior.log_prob(z) - self.log_prob(z)


class StandardNormal(Prior):
    """N(0, I), the anchor of the thesis."""

    anchor: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # Not saved: it only says which device draws are made on.
        self.register_buffer("anchor", torch.zeros(()), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return standard_normal_log_prob(z)

    def sample(self, num: int) -> Tensor:
        return torch.randn(num, self.latent_dim, device=self.anchor.device)

    def kl(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """In closed form."""
        return posterior.kl_to_standard_normal()
