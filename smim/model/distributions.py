"""Gaussians over the latent space. All log densities are in nats and, if not said otherwise, in fp32.

Shapes: B sentences, D latent dimensions, K Gaussians, N codes, F features of a sentence.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

_LOG_2PI = math.log(2 * math.pi)
# The largest number of pairs of a code and an observation for which q(z1|x, z2) is computed at once.
_PAIRS_AT_ONCE = 16_384
# After so many halvings, a quantile's interval is below fp32's precision. Between components far from each other, the
# density is 0 in fp64.
_HALVINGS, _SMALLEST_DENSITY = 40, 1e-12


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

    def kl_to(self, other: "DiagonalGaussian") -> Tensor:
        """Compute KL(self || other) in nats [B], in closed form. `other` has a Gaussian for each of the B sentences."""
        log_ratio = self.log_variance - other.log_variance
        squared = (self.mean - other.mean).square() * torch.exp(-other.log_variance)
        return 0.5 * (squared + log_ratio.exp() - 1 - log_ratio).sum(-1)

    def take(self, rows: Tensor) -> "DiagonalGaussian":
        """The Gaussians of the given `rows`, int64 [N], which may repeat."""
        return DiagonalGaussian(self.mean[rows], self.log_variance[rows])

    def kl_to_standard_normal(self) -> Tensor:
        """Compute KL(self || N(0, I)) in nats [B], in closed form."""
        return self.kl_by_dimension().sum(-1)

    def kl_by_dimension(self) -> Tensor:
        """Each dimension's part of KL(self || N(0, I)), in nats [B, D]."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


@dataclass(frozen=True)
class TwoLevelGaussian:
    """The posterior q(z|x) = q(z2|x) q(z1|x, z2) of B observations, with codes z = [z2, z1].

    It is used like a `DiagonalGaussian`. `top` is q(z2|x), with fields fp32 [B, D / 2]. `given_top` computes
    q(z1|x, z2) from `features` of x [B, F] and z2 [B, D / 2], or of all pairs for z2 [N, 1, D / 2]. The KL to N(0, I)
    has no closed form, so there is no method for it: see `TwoLevelPrior.kl`.
    """

    top: DiagonalGaussian
    features: Tensor
    given_top: Callable[[Tensor, Tensor], DiagonalGaussian]

    @cached_property
    def _at_mean(self) -> DiagonalGaussian:
        return self.given_top(self.features, self.top.mean)

    @cached_property
    def mean(self) -> Tensor:
        """The means of q(z2|x) and of q(z1|x, z2) at this z2, fp32 [B, D]. The latter is not the mean of q(z1|x)."""
        return torch.cat([self.top.mean, self._at_mean.mean], -1)

    @cached_property
    def log_variance(self) -> Tensor:
        """The log variances of q(z2|x), and of q(z1|x, z2) at the mean of z2, fp32 [B, D].

        The variance of q(z1|x) is larger, because the mean of z1 depends on z2.
        """
        return torch.cat([self.top.log_variance, self._at_mean.log_variance], -1)

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """Draw z [B, D], reparameterised, with the given `noise` ~ N(0, I) [B, D] or torch's random numbers."""
        of_top, of_bottom = (None, None) if noise is None else noise.chunk(2, -1)
        z2 = self.top.sample(of_top)
        return torch.cat([z2, self.given_top(self.features, z2).sample(of_bottom)], -1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Compute the log density of z [B, D], in nats [B]."""
        z2, z1 = z.chunk(2, -1)
        return self.top.log_prob(z2) + self.given_top(self.features, z2).log_prob(z1)

    def log_prob_under_each(self, z: Tensor) -> Tensor:
        """Compute the log density of every z [N, D] under each of the B posteriors, in nats, fp64 [N, B]."""
        z2, z1 = z.chunk(2, -1)
        blocks = [
            self.given_top(self.features, z2[rows, None]).log_prob(z1[rows, None]).double()
            for rows in torch.arange(len(z), device=z.device).split(max(1, _PAIRS_AT_ONCE // len(self.features)))
        ]
        return self.top.log_prob_under_each(z2) + torch.cat(blocks)

    def information(self, z: Tensor) -> Tensor:
        """Compute log q(z_i|x_i) - log 1/B sum_j q(z_i|x_j) for a draw z [B, D]: see `DiagonalGaussian.information`."""
        log_prob_BB = self.log_prob_under_each(z)
        return log_prob_BB.diagonal() - log_prob_BB.logsumexp(1) + math.log(len(z))

    def entropy(self) -> Tensor:
        """Estimate the differential entropy in nats [B]: exact for z2; for z1 given one draw of z2, without bias.

        The entropy of z1 is E[H(q(z1|x, z2))] over z2 ~ q(z2|x), which has no closed form. The draw is reparameterised.
        """
        return self.top.entropy() + self.given_top(self.features, self.top.sample()).entropy()

    def take(self, rows: Tensor) -> "TwoLevelGaussian":
        """The posteriors of the given `rows`, int64 [N], which may repeat."""
        return TwoLevelGaussian(self.top.take(rows), self.features[rows], self.given_top)


@dataclass(frozen=True)
class GaussianMixtures:
    """A mixture of K diagonal Gaussians for each of B observations (thesis, appendix B.1).

    It is used like a `DiagonalGaussian`. `log_weights` fp32 [B, K] (normalised), `means` and `log_variances` fp32
    [B, K, D]. The KL to N(0, I) has no closed form, so there is no method for it: see `Prior.kl`.
    """

    log_weights: Tensor
    means: Tensor
    log_variances: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """The mean of each mixture, fp32 [B, D]."""
        return (self.log_weights.exp()[..., None] * self.means).sum(1)

    @cached_property
    def log_variance(self) -> Tensor:
        """The log variance of each mixture in each dimension, fp32 [B, D]."""
        within, between = self.log_variances.exp(), (self.means - self.mean[:, None]).square()
        return (self.log_weights.exp()[..., None] * (within + between)).sum(1).log()

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """Draw z [B, D], reparameterised, with the given `noise` ~ N(0, I) [B, D] or torch's random numbers.

        A dimension is the quantile of its mixture, given the dimensions before it, at the probability of its noise. The
        gradient of a quantile is that of the implicit function F(z; parameters) = u (Figurnov et al. 2018). The
        dimensions are drawn one by one, so this is for few of them.
        """
        noise = torch.randn_like(self.mean) if noise is None else noise
        log_weights_BK, means, log_variances = (
            each.double() for each in (self.log_weights, self.means, self.log_variances)
        )
        drawn = []
        for location_BK, log_variance_BK, noise_B in zip(
            means.unbind(-1), log_variances.unbind(-1), noise.double().unbind(-1), strict=True
        ):
            z_B = _quantile(log_weights_BK, location_BK, torch.exp(0.5 * log_variance_BK), noise_B)
            drawn.append(z_B)
            squared_BK = (z_B[:, None] - location_BK).square() * torch.exp(-log_variance_BK)
            log_weights_BK = torch.log_softmax(log_weights_BK - 0.5 * (squared_BK + log_variance_BK), -1)
        return torch.stack(drawn, -1).to(self.means.dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        """Compute the log density of z [B, D], in nats [B]."""
        of_components = DiagonalGaussian(self.means, self.log_variances).log_prob(z[:, None])
        return torch.logsumexp(self.log_weights + of_components, -1)

    def log_prob_under_each(self, z: Tensor) -> Tensor:
        """Compute the log density of every z [N, D] under each of the B mixtures, in nats, fp64 [N, B]."""
        components = DiagonalGaussian(self.means.flatten(0, 1), self.log_variances.flatten(0, 1))
        of_components = components.log_prob_under_each(z) + self.log_weights.flatten().double()
        return of_components.view(len(z), *self.log_weights.shape).logsumexp(-1)

    def information(self, z: Tensor) -> Tensor:
        """Compute log q(z_i|x_i) - log 1/B sum_j q(z_i|x_j) for a draw z [B, D]: see `DiagonalGaussian.information`."""
        log_prob_BB = self.log_prob_under_each(z)
        return log_prob_BB.diagonal() - log_prob_BB.logsumexp(1) + math.log(len(z))

    def entropy(self) -> Tensor:
        """Estimate the differential entropy in nats [B] from one draw of each mixture, without bias."""
        return -self.log_prob(self.sample())

    def take(self, rows: Tensor) -> "GaussianMixtures":
        """The mixtures of the given `rows`, int64 [N], which may repeat."""
        return GaussianMixtures(self.log_weights[rows], self.means[rows], self.log_variances[rows])


def _quantile(log_weights_BK: Tensor, location_BK: Tensor, scale_BK: Tensor, noise_B: Tensor) -> Tensor:
    """Find z [B] at which each one-dimensional mixture has the distribution function of N(0, 1) at the noise [B]."""
    weights_BK = log_weights_BK.exp()

    def below(z_B: Tensor) -> Tensor:
        return (weights_BK * torch.special.ndtr((z_B[:, None] - location_BK) / scale_BK)).sum(-1)

    with torch.no_grad():
        wanted_B, of_components_BK = torch.special.ndtr(noise_B), location_BK + scale_BK * noise_B[:, None]
        # The quantile of a mixture is between those of its components.
        low_B, high_B = of_components_BK.amin(-1), of_components_BK.amax(-1)
        for _ in range(_HALVINGS):
            middle_B = 0.5 * (low_B + high_B)
            is_low = below(middle_B) < wanted_B
            low_B, high_B = torch.where(is_low, middle_B, low_B), torch.where(is_low, high_B, middle_B)
        z_B = 0.5 * (low_B + high_B)
        standardized_BK = (z_B[:, None] - location_BK) / scale_BK
        density_B = (weights_BK * torch.exp(-0.5 * (standardized_BK.square() + _LOG_2PI)) / scale_BK).sum(-1)
    probability_B = below(z_B)
    return z_B - (probability_B - probability_B.detach()) / density_B.clamp(min=_SMALLEST_DENSITY)


# The posterior of a model: all have `mean`, `log_variance`, `sample`, `log_prob`, `entropy`, `information` and `take`.
Posterior = DiagonalGaussian | TwoLevelGaussian | GaussianMixtures


def concatenated(posteriors: list[Any]) -> Any:
    """Concatenate posteriors of one kind and one model, in order."""
    first = posteriors[0]
    if isinstance(first, TwoLevelGaussian):
        top = concatenated([each.top for each in posteriors])
        return TwoLevelGaussian(top, torch.cat([each.features for each in posteriors]), first.given_top)
    if isinstance(first, GaussianMixtures):
        names = ("log_weights", "means", "log_variances")
        return GaussianMixtures(*(torch.cat([getattr(each, name) for each in posteriors]) for name in names))
    means, log_variances = zip(*((each.mean, each.log_variance) for each in posteriors), strict=True)
    return DiagonalGaussian(torch.cat(means), torch.cat(log_variances))


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Compute the log density of z [B, D] under the prior P(z) = N(0, I), in nats [B]."""
    return -0.5 * (z.square() + _LOG_2PI).sum(-1)
