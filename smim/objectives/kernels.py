"""Kernels between codes, and what InfoVAE makes of them: MMD and Stein's direction.

All in fp64: a squared distance is a difference of large numbers, and autocast leaves fp64 as it is.

Shapes: N, M codes, D latent dimensions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from smim.model.priors import Prior

# Of squared distances over twice the squared bandwidth: the Gaussian kernel, and one of heavier tails (inverse
# multiquadratic), which still pulls at codes that are far from all others.
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "rbf": lambda scaled: torch.exp(-scaled),
    "imq": lambda scaled: 1 / (1 + scaled),
}


def mmd_squared(x_ND: Tensor, y_MD: Tensor, *, kernel: str = "rbf", bandwidth: float | None = None) -> Tensor:
    """The squared maximum mean discrepancy between two samples, without unit: a V-statistic, 0 for equal ones.

    InfoVAE, section 4.1.3. `bandwidth`: None is sqrt(D), for 2 D is about the median squared distance of two draws
    from N(0, I), so that the kernel tells distances apart in any dimension; with it `rbf` is the kernel that models
    are evaluated with. Two samples of one distribution have about (1/N + 1/M) (1 - E k), not 0.
    """
    scale = 2 * (x_ND.shape[1] if bandwidth is None else bandwidth**2)
    within_x, within_y, across = (
        KERNELS[kernel](_squared_distances(*pair) / scale).mean() for pair in ((x_ND, x_ND), (y_MD, y_MD), (x_ND, y_MD))
    )
    return (within_x + within_y - 2 * across).to(x_ND.dtype)


@torch.no_grad()
def stein_direction(z_ND: Tensor, score_ND: Tensor, *, bandwidth: float | None = None) -> Tensor:
    """phi*(z_i) of each code [N, D]: where to move them so that KL(q(z) || p(z)) falls fastest, under an RBF kernel.

    1/N sum_j k(z_j, z_i) score(z_j) + grad_{z_j} k(z_j, z_i), with the score grad log p: InfoVAE, section 4.1.2.
    `bandwidth`: the square of None is half the median squared distance of the codes. It follows their scale: under
    one that does not, the second term, which keeps codes apart, vanishes where they lie close together or far away.
    """
    z, score = z_ND.double(), score_ND.double()
    squared_NN = _squared_distances(z, z)
    variance = 0.5 * _median_off_diagonal(squared_NN) if bandwidth is None else bandwidth**2
    kernel_NN = torch.exp(-squared_NN / (2 * variance))
    repulsion = (kernel_NN.sum(1, keepdim=True) * z - kernel_NN @ z) / variance
    return ((kernel_NN @ score + repulsion) / len(z)).to(z_ND.dtype)


@torch.enable_grad()
def score(prior: Prior, z_ND: Tensor) -> Tensor:
    """grad_z log p(z) of each code [N, D], without a gradient of its own."""
    z_ND = z_ND.detach().requires_grad_()
    [gradient] = torch.autograd.grad(prior.log_prob(z_ND).sum(), z_ND)
    return gradient


def _squared_distances(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """fp64 [N, M], with nothing of size N x M x D."""
    x, y = x_ND.double(), y_MD.double()
    squared = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T
    return squared.clamp(min=0)


def _median_off_diagonal(squared_NN: Tensor) -> Tensor:
    """The median over pairs of two codes; 1 where there are none or they lie on top of one another."""
    others = squared_NN[~torch.eye(len(squared_NN), dtype=torch.bool, device=squared_NN.device)]
    median = others.median() if others.numel() else squared_NN.new_zeros(())
    return torch.where(median > 0, median, 1.0)
