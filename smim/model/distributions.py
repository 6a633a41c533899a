"""Diagonal Gaussians over the latent space. All log densities are in nats and, if not said otherwise, in fp32.

Shapes: B sentences, D latent dimensions, K Gaussians.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian N(mean, diag(exp(log_variance))) for each of B sentences (eq. 6.3). Both fields are fp32 [B, D]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """Draw z [B, D], reparameterised, with the given `noise` ~ N(0, I) [B, D] or torch's random numbers."""
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + noise * self.standard_deviation

    @property
    def standard_deviation(self) -> Tensor:
        return torch.exp(0.5 * self.log_variance)

    def log_prob(self, z: Tensor) -> Tensor:
        """Compute the log density of z [B, D], in nats [B]."""
        squared = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squared + self.log_variance + _LOG_2PI).sum(-1)

    def log_prob_under_each(self, z: Tensor) -> Tensor:
        """Compute the log density of every z [B, D] under each of the K Gaussians, in nats, fp64 [B, K].

        The square is expanded, to avoid a tensor of size B x K x D. Its terms nearly cancel, so they need fp64.
        """
        z, mean_KD, log_variance_KD = z.double(), self.mean.double(), self.log_variance.double()
        precision_KD = torch.exp(-log_variance_KD)
        weighted_KD = mean_KD * precision_KD
        of_gaussian_K = (weighted_KD * mean_KD + log_variance_KD + _LOG_2PI).sum(-1)
        return z @ weighted_KD.T - 0.5 * (z.square() @ precision_KD.T + of_gaussian_K)

    def information(self, z: Tensor) -> Tensor:
        """Compute log q(z_i|x_i) - log 1/B sum_j q(z_i|x_j) for a draw z [B, D] of each Gaussian, in nats, fp64 [B].

        Its mean estimates I(x; z) among these B observations (Hoffman and Johnson 2016), and is at most log B.
        """
        log_prob_BB = self.log_prob_under_each(z)
        return log_prob_BB.diagonal() - log_prob_BB.logsumexp(1) + math.log(len(z))

    def entropy(self) -> Tensor:
        """The differential entropy in nats [B]."""
        return 0.5 * (self.log_variance + _LOG_2PI + 1).sum(-1)

    def kl_to_standard_normal(self) -> Tensor:
        """Compute KL(self || N(0, I)) in nats [B], in closed form."""
        return self.kl_by_dimension().sum(-1)

    def kl_by_dimension(self) -> Tensor:
        """Each dimension's part of KL(self || N(0, I)), in nats [B, D]."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Compute the log density of z [B, D] under the prior P(z) = N(0, I), in nats [B]."""
    return -0.5 * (z.square() + _LOG_2PI).sum(-1)
