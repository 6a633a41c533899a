"""The prior over two levels of latent variables z2 -> z1 -> x as one code z = [z2, z1] (Tomczak and Welling 2017).

Shapes: B observations, D latent dimensions, half of them z2.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from smim.images.layers import gated_linear
from smim.model.distributions import DiagonalGaussian, Posterior, TwoLevelGaussian
from smim.model.priors import Prior

# The largest log variance of a level, as in the authors' code. Without it, a first training step may be an explosion.
MOST_LOG_VARIANCE = 2.0


class Conditional(nn.Module):
    """p(z1|z2): a Gaussian whose mean and log variance two gated layers compute from z2 [B, D / 2].

    The last layers are 0 at first, so that p(z1|z2) is N(0, I). It stays so under objectives that do not train the
    prior. The log variance is clamped between `min_log_variance` and `MOST_LOG_VARIANCE`.
    """

    def __init__(self, latent_dim: int, *, hidden_dim: int, min_log_variance: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(gated_linear(latent_dim, hidden_dim), gated_linear(hidden_dim, hidden_dim))
        self.to_mean, self.to_log_variance = (nn.Linear(hidden_dim, latent_dim) for _ in range(2))
        for parameter in [*self.to_mean.parameters(), *self.to_log_variance.parameters()]:
            nn.init.zeros_(parameter)
        self.min_log_variance = min_log_variance

    def forward(self, z2: Tensor) -> DiagonalGaussian:
        hidden = self.hidden(z2.to(self.to_mean.weight.dtype))
        log_variance = self.to_log_variance(hidden).float().clamp(self.min_log_variance, MOST_LOG_VARIANCE)
        return DiagonalGaussian(self.to_mean(hidden).float(), log_variance)


class TwoLevelPrior(Prior):
    """The prior p(z) = p(z2) p(z1|z2) over codes [z2, z1]. `top` is p(z2), any prior of half the dimensions."""

    def __init__(self, top: Prior, given_top: Callable[[Tensor], DiagonalGaussian]) -> None:
        super().__init__()
        self.top, self.given_top = top, given_top
        self.description = f"{top.description} for z2, with p(z1|z2)"

    @property
    def num_initial_observations(self) -> int:  # type: ignore[override]
        return self.top.num_initial_observations

    def initialize(self, batch: Any) -> None:
        self.top.initialize(batch)

    def log_prob(self, z: Tensor) -> Tensor:
        z2, z1 = z.chunk(2, -1)
        return self.top.log_prob(z2) + self.given_top(z2).log_prob(z1)

    @torch.no_grad()
    def sample(self, num: int) -> Tensor:
        z2 = self.top.sample(num)
        return torch.cat([z2, self.given_top(z2).sample()], -1)

    def kl(self, posterior: Posterior, z: Tensor, *, log_prior: Tensor | None = None) -> Tensor:
        """Estimate KL(q(z|x) || p(z)) in nats [B], without bias, from one draw z ~ q(z|x) [B, D].

        The KL is KL(q(z2|x) || p(z2)) + E[KL(q(z1|x, z2) || p(z1|z2))] over z2 ~ q(z2|x). The second is in closed form
        at the draw's z2. The first is in closed form if p(z2) is N(0, I), and estimated at z2 otherwise.
        """
        if not isinstance(posterior, TwoLevelGaussian):
            return super().kl(posterior, z, log_prior=log_prior)
        z2, _ = z.chunk(2, -1)
        of_bottom = posterior.given_top(posterior.features, z2).kl_to(self.given_top(z2))
        return self.top.kl(posterior.top, z2) + of_bottom
