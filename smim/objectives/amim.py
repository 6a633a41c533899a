"""A-MIM, the objective of sentenceMIM: Algorithm 4 and eq. 6.14 of Livne's thesis."""

from dataclasses import dataclass

from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives.base import Objective, Terms, collapse_terms


@dataclass(frozen=True)
class AMIM(Objective):
    """-log p(x|z) - 1/2 (log q(z|x) + log P(z)), z ~ q(z|x): both marginals implicit, no annealing."""

    name: str = "amim"

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
        log_posterior = posterior.log_prob(z)
        log_anchor = model.prior.log_prob(z)
        return {
            "loss": reconstruction - 0.5 * (log_posterior + log_anchor),
            "reconstruction": reconstruction,
            "log_posterior": log_posterior,
            "log_anchor": log_anchor,
            **collapse_terms(posterior, model.args.min_log_variance),
        }
