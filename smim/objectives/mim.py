"""MIM with symmetric sampling (Algorithms 1 and 3 of Livne's thesis).

Shapes: B observations, D latent dimensions, K Gaussians of an anchor, X dimensions of a vector.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from smim.errors import UserError, refuse
from smim.model.distributions import standard_normal_log_prob
from smim.model.latent_space import SampledVariance
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.priors import GaussianMixture
from smim.model.weights import load_tensors
from smim.objectives.base import frozen
from smim.objectives.draw import Critic, Draw, Terms
from smim.objectives.warmup import WithWarmup
from smim.schema import bounded, out_of_bounds


@dataclass(frozen=True)
class LatentAnchor:
    """An anchor P(z): Gaussians with equal weight, the given `means` [K, D], and one standard deviation.

    Without means, the anchor is the model's prior.
    """

    means: list[list[float]] = field(default_factory=list)
    standard_deviation: float = bounded(1.0, above=0)

    def problems(self, at: str) -> list[str]:
        """Return a message for each wrong setting, if means differ in their size."""
        sizes = sorted({len(mean) for mean in self.means})
        uneven = [f"{at}.means has means of {sizes} numbers, but all must have the same number"]
        return out_of_bounds(self, at) + uneven * (len(sizes) > 1)

    def check(self, latent_dim: int) -> None:
        """Raise `UserError` if the means have another size than the codes."""
        if self.means and len(self.means[0]) != latent_dim:
            raise UserError(
                f"objective.latent_anchor.means has means of {len(self.means[0])} numbers, but model.latent_dim is "
                f"{latent_dim}; give each mean {latent_dim}"
            )

    def sample(self, num: int, device: torch.device) -> Tensor:
        """Draw z ~ P(z), fp32 [num, D], with torch's random numbers."""
        means = torch.tensor(self.means, device=device)
        chosen = torch.randint(len(means), (num,), device=device)
        return means[chosen] + self.standard_deviation * torch.randn_like(means[chosen])


@dataclass(frozen=True)
class MIM(WithWarmup):
    """The loss -1/2 (log p(x|z) p(z) + log q(z|x) q(x)), half at z ~ q(z|x), half at z ~ p(z), x ~ p(x|z): eq. 3.13.

    The latent anchor P(z) is by default the model's prior p(z), which may be learned; see `latent_anchor`. The i-th
    sample of the decoder is combined with the i-th observation, so there is one loss per observation.

    `data_prior`: `marginal` takes the decoder's marginal as q(x) (eq. 3.25). Its lower bound is
    log p(x|z') p(z') / q(z'|x), z' ~ q(z'|x), which cancels log q(z|x) in the encoder's half (Algorithm 3).
    The others are for vectors with a Gaussian decoder (Algorithm 1). `gaussian_mixture` learns a mixture of
    `data_prior_components` diagonal Gaussians beside the model, by Adam at `data_prior_learning_rate`.
    `standard_normal` is N(0, I) (appendix B.2).

    The gradient goes through x if x is reparameterised; words and bits use REINFORCE (eq. 3.26). The decoder's half
    uses no dropout, because its samples are drawn without. A sampled sentence is cut after `max_sampled_length` tokens;
    the probability of a cut one is that of its words. Far from the codes of the data, a decoder of words tends to end
    sentences at once, which has the lowest entropy. The term `sampled_length` shows this.

    `warmup_steps`: the number of optimizer steps in which beta, the factor of log q(z|x) q(x), grows from 0 to 1
    (chapter 4). 0 means no warm-up. Validation always uses beta = 1.

    `entropy_weight`: the factor of the trainable part of R_H (eq. 3.9): the mean of the entropies of q(z|x) and p(x|z).
    -1 is section 5.3.2. The thesis subtracts H(M_S) = R_H + JSD (eq. 3.10), which needs P(x). The difference, JSD, is
    between 0 and log 2. The loss keeps it, and with it the incentive for consistency.

    `consistency_weight`: the factor w of R_MIM in L_CE + w R_MIM (eq. 3.14), where L_CE = -E log 1/2 (p(x, z) +
    q(x, z)) (eq. 3.11, 3.12). 1 is MIM, and 0 is the cross-entropy loss L_CE of appendix B. Other values than 1 need
    q(x) itself, so `data_prior=gaussian_mixture`, and no warm-up. Up to `switch_step` optimizer steps, the factor is
    1 - w instead, as for Figure B.3. Validation always uses w.

    `latent_anchor`: an anchor P(z) of its own, from which the decoder's half draws z. The prior p(z) then only has to
    explain the codes.
    """

    draws_observations: ClassVar[bool] = True
    has_critic: ClassVar[bool] = True
    name: str = "mim"
    data_prior: str = bounded("marginal", among=["marginal", "gaussian_mixture", "standard_normal"])
    data_prior_components: int = bounded(10, least=1)
    data_prior_learning_rate: float = bounded(1e-3, above=0)
    max_sampled_length: int = bounded(50, least=1)
    entropy_weight: float = 0.0
    consistency_weight: float = bounded(1.0, least=0, most=1)
    switch_step: int = bounded(0, least=0)
    latent_anchor: LatentAnchor = field(default_factory=LatentAnchor)

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = self.latent_anchor.problems("objective.latent_anchor")
        if self.consistency_weight != 1 or self.switch_step:
            given = f"objective.consistency_weight={self.consistency_weight} with switch_step={self.switch_step}"
            if self.data_prior == "marginal":
                problems.append(f"{given} needs a density q(x): add objective.data_prior=gaussian_mixture")
            if self.warmup_steps:
                problems.append(f"{given} has no warm-up: add objective.warmup_steps=0")
        refuse(problems)

    def settled(self, step: int) -> bool:
        return super().settled(step) and step >= self.switch_step

    def prepare(self, model: LatentVariableModel) -> None:
        self.latent_anchor.check(model.args.latent_dim)
        if self.data_prior != "marginal" and not model.reparameterized:
            raise UserError(
                f"objective.data_prior={self.data_prior} is a density of vectors, but this model's p(x|z) is of words "
                "or bits; use objective.data_prior=marginal, or model=mlp with model.likelihood=gaussian"
            )

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """Make the mixture q(x) over vectors; None for other q(x). Appendix B's mixture is isotropic."""
        if self.data_prior != "gaussian_mixture":
            return None
        network = GaussianMixture(model.input_size, num_components=self.data_prior_components)
        return Critic(network, torch.optim.Adam(network.parameters(), lr=self.data_prior_learning_rate))

    def load_data_prior(self, model: LatentVariableModel, path: Path) -> nn.Module:
        """Load the mixture q(x) over vectors from the file of its weights. Raises `UserError` if it does not fit."""
        critic = self.make_critic(model)
        assert critic
        try:
            critic.network.load_state_dict(load_tensors(path))
        except (RuntimeError, KeyError):
            raise UserError(f"{path} does not hold the mixture q(x) of objective.data_prior=gaussian_mixture") from None
        return critic.network

    def loss(self, draw: Draw) -> Terms:
        model, critic = draw.model, draw.critic
        weight = self.entropy_weight
        encoding, of_data = self._half(draw, encoded=True)
        encoding = encoding + (weight and weight * draw.posterior.entropy())
        with _without_dropout(model):
            z = self.latent_anchor.sample(len(draw.batch), model.device) if self.latent_anchor.means else None
            z = model.prior.sample(len(draw.batch)) if z is None else z
            batch = model.sample(z, max_length=self.max_sampled_length)
            decoder = replace(draw, batch=batch, posterior=model.posterior(batch), z=z)
            decoding, of_samples = self._half(decoder, encoded=False)
            decoding = decoding + weight * decoder.reconstruction
        if not model.reparameterized:
            decoding = reinforce(decoding, -decoder.reconstruction)
        terms = {
            "loss": 0.5 * (encoding + decoding),
            "encoding_half": encoding,
            "decoding_half": decoding,
            "log_posterior": draw.log_posterior,
            "log_prior": draw.log_prior,
            "sampled_length": batch.lengths.float(),
        }
        if critic:
            log_data = of_data * critic(draw.batch.vectors) + of_samples * critic(batch.vectors.detach())
            terms["critic_loss"] = -0.5 * log_data
        return terms

    def _half(self, draw: Draw, *, encoded: bool) -> tuple[Tensor, Tensor]:
        """Compute -1/2 (log p(x|z) p(z) + beta log q(z|x) q(x)), eq. 3.23 with chapter 4's beta, in nats [B].

        With a `consistency_weight` below 1, a part of R_MIM is left out. Also return the factor of -log q(x) in it [B]:
        the derivative, without a gradient.

        `encoded`: z ~ q(z|x), so the bound of log q(x) holds at z. Otherwise it uses another z, drawn from q(z|x).
        """
        log_decoding, log_posterior = -draw.reconstruction + draw.log_prior, draw.log_posterior
        if draw.critic:
            log_data = frozen(draw.critic, draw.batch.vectors)
        elif self.data_prior == "standard_normal":
            log_data = standard_normal_log_prob(draw.batch.vectors)
        else:
            log_data = (draw if encoded else replace(draw, z=draw.posterior.sample())).elbo
        log_encoding = log_posterior + log_data
        half = -0.5 * (log_decoding + self.weight(draw.step) * log_encoding)
        switched = draw.step is not None and draw.step < self.switch_step
        weight = 1 - self.consistency_weight if switched else self.consistency_weight
        if weight == 1:
            return half, torch.full_like(half, 0.5 * self.weight(draw.step))
        consistency = torch.logaddexp(log_decoding, log_encoding) - math.log(2) + half  # eq. 3.16
        of_encoding = torch.sigmoid(log_encoding - log_decoding).detach()
        return half - (1 - weight) * consistency, 0.5 * weight + (1 - weight) * of_encoding


def reinforce(value: Tensor, log_prob: Tensor) -> Tensor:
    """Return `value` [B] with the gradient of its expectation over draws with log probability `log_prob` (eq. 3.26).

    The baseline of a draw is the mean value of the other draws. It does not depend on the draw, so the gradient stays
    unbiased and has a lower variance. A single draw has no baseline.
    """
    fixed = value.detach()
    baseline = (fixed.sum() - fixed) / max(1, len(fixed) - 1)
    score = (fixed - baseline) * log_prob
    return value + (score - score.detach())


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Turn off dropout, as for sampling, but keep the gradient."""
    was_training = model.training
    model.eval()
    for module in model.modules():
        # cuDNN gives no gradient in evaluation mode; our GRUs have no dropout. A sampled variance is no dropout either.
        if isinstance(module, nn.RNNBase | SampledVariance):
            module.train(was_training)
    try:
        yield
    finally:
        model.train(was_training)
