"""Kernels between codes, and the MMD and the Stein direction that InfoVAE computes with them.

All computations are in fp64, because a squared distance is a difference of large numbers. Autocast does not change it.

Shapes: N, M codes, D latent dimensions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from smim.model.priors import Prior

# Functions of the squared distance over twice the squared bandwidth. The inverse multiquadratic kernel has heavier
# tails than the Gaussian one, so codes that are far from all others still get a gradient.
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "rbf": lambda scaled: torch.exp(-scaled),
    "imq": lambda scaled: 1 / (1 + scaled),
}


def mmd_squared(x_ND: Tensor, y_MD: Tensor, *, kernel: str = "rbf", bandwidth: float | None = None) -> Tensor:
    """Compute the squared maximum mean discrepancy between two samples (InfoVAE, section 4.1.3). It has no unit.

    It is a V-statistic: 0 for equal samples, but about (1/N + 1/M) (1 - E k) for two samples of one distribution.
    `bandwidth`: None is sqrt(D). About 2 D is the median squared distance of two draws from N(0, I), so the kernel
    distinguishes distances in any dimension. With it, `rbf` is the kernel of the evaluation.
    """
    scale = 2 * (x_ND.shape[1] if bandwidth is None else bandwidth**2)
    within_x, within_y, across = (
        KERNELS[kernel](_squared_distances(*pair) / scale).mean() for pair in ((x_ND, x_ND), (y_MD, y_MD), (x_ND, y_MD))
    )
    return (within_x + within_y - 2 * across).to(x_ND.dtype)


@torch.no_grad()
def stein_direction(z_ND: Tensor, score_ND: Tensor, *, bandwidth: float | None = None) -> Tensor:
    """Compute phi*(z_i) for each code [N, D]: the direction in which KL(q(z) || p(z)) falls fastest, for an RBF kernel.

    1/N sum_j k(z_j, z_i) score(z_j) + grad_{z_j} k(z_j, z_i), with the score grad log p: InfoVAE, section 4.1.2.
    `bandwidth`: None is the square root of half the median squared distance of the codes, so it follows their scale.
    With a fixed one, the second term, which keeps codes apart, vanishes if codes are very close or very far.
    """
    z, score = z_ND.double(), score_ND.double()
    squared_NN = _squared_distances(z, z)
    variance = 0.5 * _median_off_diagonal(squared_NN) if bandwidth is None else bandwidth**2
    kernel_NN = torch.exp(-squared_NN / (2 * variance))
    repulsion = (kernel_NN.sum(1, keepdim=True) * z - kernel_NN @ z) / variance
    return ((kernel_NN @ score + repulsion) / len(z)).to(z_ND.dtype)


@torch.enable_grad()
def score(prior: Prior, z_ND: Tensor) -> Tensor:
    """Compute grad_z log p(z) of each code [N, D]. The result has no gradient."""
    z_ND = z_ND.detach().requires_grad_()
    [gradient] = torch.autograd.grad(prior.log_prob(z_ND).sum(), z_ND)
    return gradient


def _squared_distances(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """Squared distances, fp64 [N, M], without a tensor of size N x M x D."""
    x, y = x_ND.double(), y_MD.double()
    squared = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T
    return squared.clamp(min=0)


def _median_off_diagonal(squared_NN: Tensor) -> Tensor:
    """The median over pairs of different codes; 1 if there are none, or if the median is 0."""
    others = squared_NN[~torch.eye(len(squared_NN), dtype=torch.bool, device=squared_NN.device)]
    median = others.median() if others.numel() else squared_NN.new_zeros(())
    return torch.where(median > 0, median, 1.0)
