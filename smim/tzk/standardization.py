"""An affine map of codes to zero mean and unit covariance, which also defines a fitted Gaussian.

Shapes: N sentences, B codes, T their dimensions.
"""

import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian, standard_normal_log_prob

# The smallest variance of a direction, relative to the largest. An autoencoder's codes may have directions without any.
_LEAST_VARIANCE = 1e-8


class Standardization(nn.Module):
    """The map t = (code - center) whitening and its inverse. Initially it is the identity."""

    center: Tensor
    whitening: Tensor
    coloring: Tensor
    log_det: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("whitening", torch.eye(dim))
        self.register_buffer("coloring", torch.eye(dim))
        self.register_buffer("log_det", torch.zeros(()))

    @torch.no_grad()
    def fit(self, codes: DiagonalGaussian) -> None:
        """Fit the map to the moments of draws from N sentences' posteriors, computed in closed form.

        Raises `UserError` if all codes are equal.
        """
        mean, variance = codes.mean.double(), codes.log_variance.double().exp()
        center = mean.mean(0)
        covariance = (mean - center).T @ (mean - center) / len(mean) + torch.diag(variance.mean(0))
        eigenvalues, directions = torch.linalg.eigh(covariance)
        if eigenvalues[-1] <= 0:
            raise UserError("all codes are equal, so the sentence model does not distinguish sentences; train it again")
        scale = eigenvalues.clamp(min=_LEAST_VARIANCE * float(eigenvalues[-1])).sqrt()
        self.center.copy_(center)
        self.whitening.copy_(directions / scale)
        self.coloring.copy_((directions * scale).T)
        self.log_det.copy_(-scale.log().sum())

    def standardize(self, codes_BT: Tensor) -> Tensor:
        """Compute t [B, T]. The map's log |det dt/dcode| is the constant `log_det`."""
        return (codes_BT - self.center) @ self.whitening

    def restore(self, t_BT: Tensor) -> Tensor:
        """Compute the codes [B, T] from standardised ones."""
        return t_BT @ self.coloring + self.center

    def log_prob(self, codes_BT: Tensor) -> Tensor:
        """Compute the log density under the fitted Gaussian, in nats [B]."""
        return standard_normal_log_prob(self.standardize(codes_BT)) + self.log_det
