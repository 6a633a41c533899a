"""Objectives by the name that `objective=` takes."""

from smim.errors import UserError, nearest
from smim.objectives.amim import AMIM
from smim.objectives.autoencoder import Autoencoder
from smim.objectives.base import Objective
from smim.objectives.mim import MIM
from smim.objectives.vae import VAE

OBJECTIVES: dict[str, type[Objective]] = {"amim": AMIM, "mim": MIM, "vae": VAE, "autoencoder": Autoencoder}


def objective_class(name: str) -> type[Objective]:
    """The objective's class, a dataclass of its settings; raises `UserError` where the name is unknown."""
    if name not in OBJECTIVES:
        raise UserError(f"unknown objective {name!r}; {nearest(name, list(OBJECTIVES))}")
    return OBJECTIVES[name]
