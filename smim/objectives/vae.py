"""The VAE's negative ELBO with optional KL annealing: sVAE of section 7.2."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from smim.errors import UserError, not_among, too_low
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives.base import Objective, Terms, collapse_terms

_ANNEALING = ["none", "linear", "logistic"]


@dataclass(frozen=True)
class VAE(Objective):
    """-log p(x|z) + w KL(q(z|x) || N(0, I)), with the KL in closed form.

    `kl_annealing`: `none` (w = 1, the thesis's PTB rows), `linear` (w = step / `annealing_steps`, at
    most 1) or `logistic` (w = sigmoid(`logistic_slope` (step - `annealing_steps`))). Validation
    always uses w = 1.
    """

    name: str = "vae"
    kl_annealing: str = "none"
    annealing_steps: int = 10_000
    logistic_slope: float = 0.0025

    def __post_init__(self) -> None:
        problems = not_among(self, "objective", kl_annealing=_ANNEALING) + too_low(self, "objective", annealing_steps=1)
        if problems:
            raise UserError("; ".join(problems))

    def kl_weight(self, step: int | None) -> float:
        """w after `step` optimizer steps; 1 where `step` is None."""
        if step is None or self.kl_annealing == "none":
            return 1.0
        if self.kl_annealing == "linear":
            return min(1.0, step / self.annealing_steps)
        return 1 / (1 + math.exp(-self.logistic_slope * (step - self.annealing_steps)))

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
        weight = self.kl_weight(step)
        return {
            "loss": reconstruction + weight * model.prior.kl(posterior, z),
            "reconstruction": reconstruction,
            "kl_weight": reconstruction.new_full(reconstruction.shape, weight),
            **collapse_terms(posterior, model.args.min_log_variance),
        }
