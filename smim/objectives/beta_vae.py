"""The beta-VAE (Higgins et al. 2017), the baseline of InfoMax-VAE."""

from dataclasses import dataclass

from smim.objectives.base import Objective
from smim.objectives.draw import Draw, Terms
from smim.schema import bounded


@dataclass(frozen=True)
class BetaVAE(Objective):
    """The loss -log p(x|z) + beta KL(q(z|x) || p(z)), z ~ q(z|x).

    Validation also uses `beta`. So the best model is chosen by the same loss that is trained.
    """

    name: str = "beta_vae"
    beta: float = bounded(4.0, least=0)

    def loss(self, draw: Draw) -> Terms:
        return {"loss": draw.reconstruction + self.beta * draw.kl}
