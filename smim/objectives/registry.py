"""Objectives by the name that `objective=` takes."""

from smim.errors import UserError, nearest
from smim.objectives.adversarial import Adversarial
from smim.objectives.amim import AMIM
from smim.objectives.autoencoder import Autoencoder
from smim.objectives.base import Objective
from smim.objectives.beta_vae import BetaVAE
from smim.objectives.infomax_vae import InfoMaxVAE
from smim.objectives.mim import MIM
from smim.objectives.mmd_vae import MMDVAE
from smim.objectives.probabilistic_autoencoder import ProbabilisticAutoencoder
from smim.objectives.stein_vae import SteinVAE
from smim.objectives.vae import VAE

OBJECTIVES: dict[str, type[Objective]] = {
    "amim": AMIM,
    "mim": MIM,
    "vae": VAE,
    "beta_vae": BetaVAE,
    "autoencoder": Autoencoder,
    "probabilistic_autoencoder": ProbabilisticAutoencoder,
    "mmd_vae": MMDVAE,
    "stein_vae": SteinVAE,
    "adversarial": Adversarial,
    "infomax_vae": InfoMaxVAE,
}


def objective_class(name: str) -> type[Objective]:
    """The objective's class, a dataclass of its settings; raises `UserError` where the name is unknown."""
    if name not in OBJECTIVES:
        raise UserError(f"unknown objective {name!r}; {nearest(name, list(OBJECTIVES))}")
    return OBJECTIVES[name]
