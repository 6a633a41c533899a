"""Objectives by the name that `objective=` takes."""

from collections.abc import Mapping
from typing import Any

from smim.errors import UserError, nearest
from smim.objectives.amim import AMIM
from smim.objectives.autoencoder import Autoencoder
from smim.objectives.base import Objective
from smim.objectives.vae import VAE

OBJECTIVES: dict[str, type[Objective]] = {"amim": AMIM, "vae": VAE, "autoencoder": Autoencoder}


def make_objective(settings: Mapping[str, Any]) -> Objective:
    """The objective with the given `name` and settings; raises `UserError` where one is unknown."""
    name = settings["name"]
    if name not in OBJECTIVES:
        raise UserError(f"unknown objective {name!r}; {nearest(name, list(OBJECTIVES))}")
    return OBJECTIVES[name](**settings)
