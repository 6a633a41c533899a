"""All objectives, by their names in `objective=NAME`."""

from pkgutil import resolve_name

from smim.errors import UserError, nearest
from smim.objectives.base import Objective

_CLASSES = (
    "amim:AMIM",
    "mim:MIM",
    "vae:VAE",
    "beta_vae:BetaVAE",
    "autoencoder:Autoencoder",
    "language_model:LanguageModel",
    "autoencoder:ProbabilisticAutoencoder",
    "info_vae:MMDVAE",
    "info_vae:SteinVAE",
    "info_vae:Adversarial",
    "infomax_vae:InfoMaxVAE",
)
OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind for kind in (resolve_name(f"smim.objectives.{name}") for name in _CLASSES)
}


def objective_class(name: str) -> type[Objective]:
    """Return the class of an objective, a dataclass of its settings. Raises `UserError` if the name is unknown."""
    if name not in OBJECTIVES:
        raise UserError(f"unknown objective {name!r}; {nearest(name, list(OBJECTIVES))}")
    return OBJECTIVES[name]
