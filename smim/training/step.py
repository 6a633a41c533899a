"""What the processes of a training run forward and backward: the objective, as a module."""

import torch
from torch import nn

from smim.model.autoencoder import SentenceAutoencoder
from smim.objectives import Objective, Terms
from smim.text.batches import Batch


class TrainingStep(nn.Module):
    """The objective as a module's forward pass, so that DDP and ZeRO see the parameters that a step uses.

    `precision`: fp32, or bf16 for the products (autocast); weights and sums are fp32 in any case.
    """

    def __init__(self, model: SentenceAutoencoder, objective: Objective, *, precision: str) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.precision = precision

    def forward(self, batch: Batch, step: int) -> Terms:
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.objective.terms(self.model, batch, step=step)
