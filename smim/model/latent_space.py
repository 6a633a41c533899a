"""The settings that decide q(z|x) and p(z), and what they are made of: the same for sentences and for vectors.

Shapes: B observations, H hidden, D latent dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from smim.errors import not_among, too_low
from smim.model.distributions import DiagonalGaussian
from smim.model.priors import GaussianMixture, Prior, StandardNormal, VampPrior

POSTERIORS = ["gaussian", "sampled_variance"]
PRIORS = ["standard_normal", "gaussian_mixture", "vamp"]


@dataclass(frozen=True)
class LatentArgs:
    """What q(z|x) and p(z) are.

    `posterior`: a diagonal `gaussian`, whose log variance is predicted and clamped from below by `min_log_variance`; or
    `sampled_variance`, which predicts none: see `SampledVariance`, `max_log_variance` is the upper end of its range.
    sMIM drives nearly every dimension onto the clamp, so `min_log_variance` sets the code's noise.

    `prior`: `standard_normal`, or learned, of `num_prior_components`: `gaussian_mixture` or `vamp`.
    """

    latent_dim: int = 512
    posterior: str = "gaussian"
    min_log_variance: float = -10.0
    max_log_variance: float = 0.0
    prior: str = "standard_normal"
    num_prior_components: int = 100

    @property
    def clamp(self) -> float:
        """The log variance at which a predicted one is clamped; minus infinity where none is predicted."""
        return self.min_log_variance if self.posterior == "gaussian" else -math.inf

    def latent_problems(self) -> list[str]:
        """A message for each wrong setting of those above."""
        problems = not_among(self, "model", posterior=POSTERIORS, prior=PRIORS)
        problems += too_low(self, "model", latent_dim=1, num_prior_components=1)
        if self.posterior == "sampled_variance" and self.max_log_variance < self.min_log_variance:
            problems.append(
                f"model.max_log_variance is {self.max_log_variance}, below model.min_log_variance "
                f"({self.min_log_variance}); log variances are drawn between them"
            )
        return problems


class SampledVariance(nn.Module):
    """The log variance of a posterior that predicts none: uniform in a range in training, its lower end at inference.

    It is drawn once for all dimensions of an observation. So training meets each scale of noise, and with it the one
    of inference; with a draw for each of hundreds of dimensions, the length of the noise would hardly vary.
    """

    def __init__(self, args: LatentArgs) -> None:
        super().__init__()
        self.latent_dim = args.latent_dim
        self.low, self.high = args.min_log_variance, args.max_log_variance

    def forward(self, state_BH: Tensor) -> Tensor:
        """fp32 [B, D], whatever the encoder's state is."""
        log_variance_B1 = state_BH.new_full((len(state_BH), 1), self.low, dtype=torch.float32)
        if self.training:
            log_variance_B1.uniform_(self.low, self.high)
        return log_variance_B1.expand(-1, self.latent_dim)


def make_log_variance(args: LatentArgs, state_dim: int) -> nn.Module:
    """The layer from the encoder's state [B, H] to the posterior's log variance [B, D], before the clamp."""
    return nn.Linear(state_dim, args.latent_dim) if args.posterior == "gaussian" else SampledVariance(args)


def make_prior(
    args: LatentArgs,
    *,
    pseudo_input_shape: tuple[int, ...],
    posterior: Callable[[Tensor], DiagonalGaussian],
    as_pseudo_inputs: Callable[[Any], Tensor],
) -> Prior:
    """p(z); the shape of a pseudo-input and what is done with it are described in `VampPrior`."""
    if args.prior == "gaussian_mixture":
        return GaussianMixture(args.latent_dim, num_components=args.num_prior_components)
    if args.prior == "vamp":
        pseudo_inputs = torch.randn(args.num_prior_components, *pseudo_input_shape)
        return VampPrior(pseudo_inputs, posterior=posterior, as_pseudo_inputs=as_pseudo_inputs)
    return StandardNormal(args.latent_dim)
