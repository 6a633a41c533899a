"""Parts of q(z|x) and p(z) that models of sentences and of vectors share.

Shapes: B observations, H hidden, D latent dimensions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from smim.model.args import ModelArgs
from smim.model.distributions import DiagonalGaussian
from smim.model.priors import GaussianMixture, Prior, StandardNormal, VampPrior


class SampledVariance(nn.Module):
    """The log variance of a posterior that predicts none: uniform in a range in training, its lower end at inference.

    There is one draw for all dimensions of an observation. So training covers all scales of noise, including that of
    inference. With one draw per dimension, the length of the noise would hardly vary in hundreds of dimensions.
    """

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.latent_dim = args.latent_dim
        self.low, self.high = args.min_log_variance, args.max_log_variance

    def forward(self, state_BH: Tensor) -> Tensor:
        """Return log variances, fp32 [B, D]. Only the batch size and the device of the state matter."""
        log_variance_B1 = state_BH.new_full((len(state_BH), 1), self.low, dtype=torch.float32)
        if self.training:
            log_variance_B1.uniform_(self.low, self.high)
        return log_variance_B1.expand(-1, self.latent_dim)


def make_log_variance(args: ModelArgs, state_dim: int) -> nn.Module:
    """Make the layer from the encoder's state [B, H] to the posterior's log variance [B, D], before the clamp."""
    return nn.Linear(state_dim, args.latent_dim) if args.posterior == "gaussian" else SampledVariance(args)


def make_prior(
    args: ModelArgs,
    *,
    latent_dim: int | None = None,
    pseudo_input_shape: tuple[int, ...],
    posterior: Callable[[Tensor], DiagonalGaussian],
    as_pseudo_inputs: Callable[[Any], Tensor],
) -> Prior:
    """Make the prior p(z) over `latent_dim` dimensions, by default all of the code's.

    `VampPrior` describes the shape and the use of pseudo-inputs.
    """
    latent_dim = args.latent_dim if latent_dim is None else latent_dim
    if args.prior == "gaussian_mixture":
        return GaussianMixture(latent_dim, num_components=args.num_prior_components)
    if args.prior == "vamp":
        pseudo_inputs = torch.randn(args.num_prior_components, *pseudo_input_shape)
        return VampPrior(pseudo_inputs, posterior=posterior, as_pseudo_inputs=as_pseudo_inputs)
    return StandardNormal(latent_dim)
