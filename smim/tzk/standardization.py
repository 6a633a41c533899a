"""An affine map of codes onto zero mean and unit covariance, which is also a Gaussian fitted to them.

Shapes: N sentences, B codes, T their dimensions.
"""

import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian, standard_normal_log_prob

# Directions of less than this share of the largest variance are taken to have it: an autoencoder's may have none.
_LEAST_VARIANCE = 1e-8


class Standardization(nn.Module):
    """t = (code - center) whitening, and back; the identity until it is fitted."""

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
        """Takes the moments of draws from the posteriors of N sentences, which are known without drawing.

        Raises `UserError` where all codes are the same.
        """
        mean, variance = codes.mean.double(), codes.log_variance.double().exp()
        center = mean.mean(0)
        covariance = (mean - center).T @ (mean - center) / len(mean) + torch.diag(variance.mean(0))
        eigenvalues, directions = torch.linalg.eigh(covariance)
        if eigenvalues[-1] <= 0:
            raise UserError("all codes are the same; the sentence model does not distinguish sentences")
        scale = eigenvalues.clamp(min=_LEAST_VARIANCE * float(eigenvalues[-1])).sqrt()
        self.center.copy_(center)
        self.whitening.copy_(directions / scale)
        self.coloring.copy_((directions * scale).T)
        self.log_det.copy_(-scale.log().sum())

    def standardize(self, codes_BT: Tensor) -> Tensor:
        """t [B, T]; the map's log |det dt/dcode| is `log_det` everywhere."""
        return (codes_BT - self.center) @ self.whitening

    def restore(self, t_BT: Tensor) -> Tensor:
        """The codes [B, T] of standardised ones."""
        return t_BT @ self.coloring + self.center

    def log_prob(self, codes_BT: Tensor) -> Tensor:
        """log density under the Gaussian of the fitted mean and covariance, in nats [B]."""
        return standard_normal_log_prob(self.standardize(codes_BT)) + self.log_det
