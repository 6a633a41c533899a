"""A-MIM, the objective of sentenceMIM: Algorithm 4 and eq. 6.14 of Livne's thesis."""

from dataclasses import dataclass
from typing import ClassVar

from smim.objectives.draw import Draw, Terms
from smim.objectives.warmup import WithWarmup


@dataclass(frozen=True)
class AMIM(WithWarmup):
    """The loss -log p(x|z) - 1/2 (log q(z|x) + log P(z)), z ~ q(z|x). Both marginals are implicit.

    `warmup_steps`: optimizer steps in which beta (chapter 4), the factor of log q(z|x) q(x), grows from 0 to 1. By eq.
    6.11 this term is log p(x|z) + log P(z), because q(z|x) cancels. The remaining log q(z|x) is the bound of log p(z)
    (eq. 6.13), not scaled by beta. 0: none, as for the thesis's sentences. Validation always uses beta = 1.
    """

    can_be_graphed: ClassVar[bool] = True
    name: str = "amim"

    def loss(self, draw: Draw) -> Terms:
        weight = self.weight(draw.step)
        loss = 0.5 * (1 + weight) * draw.reconstruction - 0.5 * (draw.log_posterior + weight * draw.log_prior)
        return {"loss": loss, "log_posterior": draw.log_posterior, "log_prior": draw.log_prior}
