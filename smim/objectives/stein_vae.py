"""Stein-VAE: section 4.1.2 of InfoVAE (Zhao, Song and Ermon 2017)."""

from dataclasses import dataclass

from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Terms
from smim.objectives.info_vae import InfoVAE, with_gradient_of
from smim.objectives.kernels import bandwidth_problems, mmd_squared, score, stein_direction


@dataclass(frozen=True)
class SteinVAE(InfoVAE):
    """InfoVAE that moves the codes along Stein's variational gradient of KL(q(z) || p(z)).

    The surrogate -z^T stop_gradient(phi*(z)) has the gradient, and a value that says nothing (the paper's has the other
    sign, and would move codes away from the prior where it is descended). So the loss carries in its place the squared
    MMD to draws from the prior, as `mmd`, under the kernel that MMD-VAE has by default.

    The direction is an average over codes, and smaller than the gradient of the KL: hence a `lambd` above 1.
    `bandwidth` of the RBF kernel: None goes by the median distance of the codes; see `stein_direction`. In more
    dimensions than codes are seen at once the variance of the codes comes out too low, as the paper finds too.
    """

    name: str = "stein_vae"
    lambd: float = 10.0
    bandwidth: float | None = None

    def problems(self) -> list[str]:
        return super().problems() + bandwidth_problems(self.bandwidth)

    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        direction_BD = stein_direction(z_BD, score(model.prior, z_BD), bandwidth=self.bandwidth)
        surrogate = -(z_BD * direction_BD).sum(-1)
        mmd_B = mmd_squared(z_BD.detach(), model.prior.sample(len(z_BD))).expand(len(z_BD))
        return with_gradient_of(surrogate, mmd_B), {"mmd": mmd_B}
