"""Objectives with only a reconstruction term: the deterministic AE (section 7.5) and InfoVAE's probabilistic one."""

from dataclasses import dataclass
from typing import ClassVar

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Objective
from smim.objectives.draw import Draw, Terms


@dataclass(frozen=True)
class ProbabilisticAutoencoder(Objective):
    """The loss -log p(x|z), z ~ q(z|x): eq. 2 of InfoVAE (Zhao, Song and Ermon 2017, section 3).

    At the best decoder it equals the entropy of the data minus I(x; z). The loss does not use the prior. Draw samples
    with the Markov chain of eq. 3 (`markov_chain` of a trained model).
    """

    name: str = "probabilistic_autoencoder"

    def prepare(self, model: LatentVariableModel) -> None:
        model.prior.requires_grad_(False)

    def loss(self, draw: Draw) -> Terms:
        return {"loss": draw.reconstruction}


@dataclass(frozen=True)
class Autoencoder(ProbabilisticAutoencoder):
    """The loss -log p(x|z), where z is the mean of q(z|x). The variance and the prior are not trained."""

    deterministic: ClassVar[bool] = True
    can_be_graphed: ClassVar[bool] = True
    name: str = "autoencoder"

    def prepare(self, model: LatentVariableModel) -> None:
        super().prepare(model)
        model.freeze_variance()
