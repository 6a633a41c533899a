"""Reconstruction alone: the deterministic autoencoder, AE of section 7.5, and InfoVAE's probabilistic one."""

from dataclasses import dataclass
from typing import ClassVar

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Objective
from smim.objectives.draw import Draw, Terms


@dataclass(frozen=True)
class ProbabilisticAutoencoder(Objective):
    """-log p(x|z) with z ~ q(z|x): eq. 2, which is the entropy of the data less I(x; z) at the best decoder.

    Section 3 of InfoVAE (Zhao, Song and Ermon 2017). The prior has no part in it. Samples come from the Markov chain
    of eq. 3: `markov_chain` of a trained model.
    """

    name: str = "probabilistic_autoencoder"

    def prepare(self, model: LatentVariableModel) -> None:
        model.prior.requires_grad_(False)

    def loss(self, draw: Draw) -> Terms:
        return {"loss": draw.reconstruction}


@dataclass(frozen=True)
class Autoencoder(ProbabilisticAutoencoder):
    """-log p(x|z) with z the posterior's mean; the variance and the prior are never trained."""

    deterministic: ClassVar[bool] = True
    can_be_graphed: ClassVar[bool] = True
    name: str = "autoencoder"

    def prepare(self, model: LatentVariableModel) -> None:
        super().prepare(model)
        model.freeze_variance()
