"""The training step: the objective as a module, which each process runs forward and backward."""

import torch
from torch import nn

from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives import Objective, Terms


class TrainingStep(nn.Module):
    """The objective as the forward pass of a module, so that DDP and ZeRO see the parameters of a step.

    `critic`: the network that the objective trains beside the model, if any. `precision`: fp32, or bf16 for products
    (autocast). Weights and sums are always fp32.
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
