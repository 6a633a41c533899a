"""The beta-VAE (Higgins et al. 2017), which InfoMax-VAE is compared with."""

from dataclasses import dataclass

from torch import Tensor, nn

from smim.errors import UserError, too_low
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives.base import Objective, Terms, collapse_terms


@dataclass(frozen=True)
class BetaVAE(Objective):
    """-log p(x|z) + beta KL(q(z|x) || p(z)), z ~ q(z|x).

    Validation uses `beta` too: the model that is kept is the best by the loss that is trained.
    """

    name: str = "beta_vae"
    beta: float = 4.0

    def __post_init__(self) -> None:
        if problems := too_low(self, "objective", beta=0):
            raise UserError("; ".join(problems))

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
        kl = model.prior.kl(posterior, z)
        return {
            "loss": reconstruction + self.beta * kl,
            "reconstruction": reconstruction,
            **collapse_terms(model, posterior, kl),
        }
