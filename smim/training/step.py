"""What the processes of a training run forward and backward: the objective, as a module."""

import torch
from torch import nn

from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives import Objective, Terms


class TrainingStep(nn.Module):
    """The objective as a module's forward pass, so that DDP and ZeRO see the parameters that a step uses.

    `critic`: the network that the objective trains beside the model, if it has one. `precision`: fp32, or bf16 for
    the products (autocast); weights and sums are fp32 in any case.
    """

    def __init__(
        self, model: LatentVariableModel, objective: Objective, *, precision: str, critic: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.critic = critic
        self.objective = objective
        self.precision = precision

    def forward(self, batch: Observations, step: int) -> Terms:
        with torch.autocast(batch.rows.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.objective.terms(self.model, batch, step=step, critic=self.critic)
