"""MMD-VAE: section 4.1.3 of InfoVAE (Zhao, Song and Ermon 2017)."""

from dataclasses import dataclass

from torch import Tensor, nn

from smim.errors import not_among
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Terms
from smim.objectives.info_vae import InfoVAE
from smim.objectives.kernels import KERNELS, bandwidth_problems, mmd_squared


@dataclass(frozen=True)
class MMDVAE(InfoVAE):
    """InfoVAE with the squared maximum mean discrepancy between codes and as many draws from the prior.

    `lambd`: of a size at which the squared MMD, at most 2 and mostly hundredths, counts against the reconstruction.
    Under one that is far larger (500), a decoder that has not begun to listen loses its code to the noise of a batch's
    estimate. `kernel`: `rbf`, or `imq` of heavier tails. `bandwidth`: None is the square root of the latent dimensions;
    see `mmd_squared`.
    """

    name: str = "mmd_vae"
    lambd: float = 30.0
    kernel: str = "rbf"
    bandwidth: float | None = None

    def problems(self) -> list[str]:
        problems = super().problems() + not_among(self, "objective", kernel=KERNELS)
        return problems + bandwidth_problems(self.bandwidth)

    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        mmd = mmd_squared(z_BD, model.prior.sample(len(z_BD)), kernel=self.kernel, bandwidth=self.bandwidth)
        mmd_B = mmd.expand(len(z_BD))
        return mmd_B, {"mmd": mmd_B}
