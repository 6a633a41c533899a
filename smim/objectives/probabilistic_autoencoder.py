"""The probabilistic autoencoder: section 3 of InfoVAE (Zhao, Song and Ermon 2017)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives.base import Objective, Terms, collapse_terms


@dataclass(frozen=True)
class ProbabilisticAutoencoder(Objective):
    """-log p(x|z) with z ~ q(z|x): eq. 2, which is the entropy of the data less I(x; z) at the best decoder.

    The prior has no part in it. Samples come from the Markov chain of eq. 3: `markov_chain` of a trained model.
    """

    name: str = "probabilistic_autoencoder"

    def prepare(self, model: LatentVariableModel) -> None:
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
        z = posterior.sample(noise)
        reconstruction = -model.log_likelihood(batch, z)
        with torch.no_grad():
            kl = model.prior.kl(posterior, z)
        return {"loss": reconstruction, "reconstruction": reconstruction, **collapse_terms(model, posterior, kl)}
