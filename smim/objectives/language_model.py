"""A language model without a code: the reference beside which latent variable models are measured."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Objective
from smim.objectives.draw import Draw, Terms


@dataclass(frozen=True)
class LanguageModel(Objective):
    """The loss -log p(x|z) at z = 0, which is the exact -log p(x) of the decoder alone. The encoder is not trained.

    All codes of the trained model are 0. With `model.latent_dim=1 model.encoder.hidden_dim=1`, its parameters are those
    of the decoder, except for a few thousand.
    """

    deterministic: ClassVar[bool] = True
    name: str = "language_model"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.additions:
            name = next(iter(self.additions))
            raise UserError(f"objective.{name} needs codes, but objective=language_model has none; leave it out")

    def prepare(self, model: LatentVariableModel) -> None:
        model.remove_code()

    def draw(self, model: LatentVariableModel, batch: Any, *, step: int | None, **unused: Any) -> Draw:
        """Take z = 0 for each observation, without the encoder. The posterior of the draw is N(0, I)."""
        z = torch.zeros(len(batch), model.args.latent_dim, device=batch.rows.device)
        return Draw(model, batch, DiagonalGaussian(z, z), z, step, critic=None)

    def loss(self, draw: Draw) -> Terms:
        return {"loss": draw.reconstruction}
