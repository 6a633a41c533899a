"""A-MIM, the objective of sentenceMIM: Algorithm 4 and eq. 6.14 of Livne's thesis."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from smim.errors import UserError, too_low
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives.base import Objective, Terms, collapse_terms
from smim.objectives.warmup import warmup_weight


@dataclass(frozen=True)
class AMIM(Objective):
    """-log p(x|z) - 1/2 (log q(z|x) + log P(z)), z ~ q(z|x): both marginals implicit.

    `warmup_steps`: chapter 4's beta, from 0 to 1 over so many optimizer steps, which scales log q(z|x) q(x); 0: none,
    as for the thesis's sentences. By eq. 6.11 that term is log p(x|z) + log P(z), for q(z|x) cancels; the log q(z|x)
    that is left is the bound of log p(z) (eq. 6.13), and keeps its weight. Validation always uses a beta of 1.
    """

    can_be_graphed: ClassVar[bool] = True
    name: str = "amim"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if problems := too_low(self, "objective", warmup_steps=0):
            raise UserError("; ".join(problems))

    def settled(self, step: int) -> bool:
        return warmup_weight(step, self.warmup_steps) == 1.0

    def terms(
        self,
        model: LatentVariableModel,
        batch: Observations,
        *,
        step: int | None,
        noise: Tensor | None = None,
        critic: nn.Module | None = None,
    ) -> Terms:
        weight = warmup_weight(step, self.warmup_steps)
        posterior = model.posterior(batch)
        z = posterior.sample(noise)
        reconstruction = -model.log_likelihood(batch, z)
        log_posterior = posterior.log_prob(z)
        log_anchor = model.prior.log_prob(z)
        terms = {
            "loss": 0.5 * (1 + weight) * reconstruction - 0.5 * (log_posterior + weight * log_anchor),
            "reconstruction": reconstruction,
            "log_posterior": log_posterior,
            "log_anchor": log_anchor,
            **collapse_terms(model, posterior, model.prior.kl(posterior, z, log_prior=log_anchor)),
        }
        if self.warmup_steps:
            terms["warmup_weight"] = torch.full_like(reconstruction, weight)
        return terms
