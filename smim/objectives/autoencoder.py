"""The deterministic autoencoder, AE of section 7.5."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives.base import Objective, Terms, collapse_terms


@dataclass(frozen=True)
class Autoencoder(Objective):
    """-log p(x|z) with z the posterior's mean; the variance and the prior are never trained."""

    can_be_graphed: ClassVar[bool] = True
    name: str = "autoencoder"

    def prepare(self, model: LatentVariableModel) -> None:
        model.freeze_variance()
        model.prior.requires_grad_(False)

    def terms(
        self,
        model: LatentVariableModel,
        batch: Observations,
        *,
        step: int | None,
        noise: Tensor | None = None,
        critic: nn.Module | None = None,
    ) -> Terms:
        posterior = model.posterior(batch)
        reconstruction = -model.log_likelihood(batch, posterior.mean)
        with torch.no_grad():
            kl = model.prior.kl(posterior, posterior.mean)
        return {
            "loss": reconstruction,
            "reconstruction": reconstruction,
            **collapse_terms(model, posterior, kl),
        }
