"""MIM with symmetric sampling: Algorithms 1 and 3 of Livne's thesis.

Shapes: B observations, D latent dimensions, X dimensions of a vector.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smim.errors import UserError, not_among, too_low
from smim.model.distributions import DiagonalGaussian
from smim.model.latent_space import SampledVariance
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.priors import GaussianMixture
from smim.objectives.base import Critic, Objective, Terms, collapse_terms, frozen
from smim.objectives.warmup import warmup_weight

_DATA_PRIORS = ["marginal", "gaussian_mixture"]


@dataclass(frozen=True)
class MIM(Objective):
    """-1/2 (log p(x|z) p(z) + log q(z|x) q(x)), half of it over z ~ q(z|x), half over z ~ p(z), x ~ p(x|z). Eq. 3.13.

    The latent anchor P(z) is the model's prior p(z), one that is learned as it stands. The i-th sample of the
    decoder goes with the i-th observation, so that the loss is one of each observation.

    `data_prior`: q(x) is `marginal`, that of the decoder (eq. 3.25), where log q(x) is bounded from below by
    log p(x|z') p(z') / q(z'|x), z' ~ q(z'|x), which cancels log q(z|x) in the encoder's half (Algorithm 3); or a
    `gaussian_mixture` of `data_prior_components` diagonal components beside the model, for vectors with a Gaussian
    decoder (Algorithm 1), learned by Adam at `data_prior_learning_rate`.

    The gradient goes through x where it is reparameterised; words and bits take REINFORCE (eq. 3.26). All of the
    decoder's half is without dropout, as its samples are; a sentence is cut after `max_sampled_length` tokens, and
    the probability of a cut one is that of its words. Away from the codes of the data a decoder of words comes to
    end at once, the least entropy that there is: the term `sampled_length` shows how far that has gone.

    `warmup_steps`: log q(z|x) q(x) is scaled by a beta that grows from 0 to 1 over so many optimizer steps
    (chapter 4); 0: by 1 from the start. Validation always uses 1.

    `entropy_weight`: adds so many times the part of R_H (eq. 3.9) that can be trained, the mean of the entropies of
    q(z|x) and p(x|z); -1 is section 5.3.2. The thesis subtracts H(M_S) = R_H + JSD (eq. 3.10), for which P(x) must be
    known. They differ by JSD, which is between 0 and log 2: leaving it in keeps the pressure towards consistency.
    """

    draws_observations: ClassVar[bool] = True
    name: str = "mim"
    data_prior: str = "marginal"
    data_prior_components: int = 10
    data_prior_learning_rate: float = 1e-3
    max_sampled_length: int = 50
    warmup_steps: int = 0
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        problems = not_among(self, "objective", data_prior=_DATA_PRIORS)
        problems += too_low(self, "objective", data_prior_components=1, max_sampled_length=1, warmup_steps=0)
        if problems:
            raise UserError("; ".join(problems))

    def prepare(self, model: LatentVariableModel) -> None:
        if self.data_prior == "gaussian_mixture" and not model.reparameterized:
            raise UserError(
                "objective.data_prior=gaussian_mixture is a density of vectors, and this model's p(x|z) is of words or "
                "bits; use objective.data_prior=marginal, or model=mlp with model.likelihood=gaussian"
            )

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """The mixture q(x), where it is one."""
        if self.data_prior == "marginal":
            return None
        network = DataPrior(model.input_size, num_components=self.data_prior_components)
        return Critic(network, torch.optim.Adam(network.parameters(), lr=self.data_prior_learning_rate))

    def settled(self, step: int) -> bool:
        return warmup_weight(step, self.warmup_steps) == 1.0

    def terms(
        self,
        model: LatentVariableModel,
        batch: Any,
        *,
        step: int | None,
        noise: Tensor | None = None,
        critic: nn.Module | None = None,
    ) -> Terms:
        weight = warmup_weight(step, self.warmup_steps)
        posterior = model.posterior(batch)
        z = posterior.sample(noise)
        encoder = _Joint.at(model, batch, posterior, z)
        log_data = encoder.elbo if critic is None else frozen(critic, batch.vectors)
        encoding = encoder.cross_entropy(log_data, weight) + self.entropy_weight * posterior.entropy()
        with _without_dropout(model):
            decoded, decoder, log_data = self._decoder_samples(model, len(batch), critic)
        decoding = decoder.cross_entropy(log_data, weight) - self.entropy_weight * decoder.log_likelihood
        if not model.reparameterized:
            decoding = reinforce(decoding, decoder.log_likelihood)
        terms = {
            "loss": 0.5 * (encoding + decoding),
            "reconstruction": -encoder.log_likelihood,
            "encoding_half": encoding,
            "decoding_half": decoding,
            "log_posterior": encoder.log_posterior,
            "log_prior": encoder.log_prior,
            "sampled_length": decoded.lengths.float(),
            **collapse_terms(model, posterior, model.prior.kl(posterior, z, log_prior=encoder.log_prior)),
        }
        if self.warmup_steps:
            terms["warmup_weight"] = torch.full_like(encoding, weight)
        if critic is not None:
            terms["critic_loss"] = -0.25 * weight * (critic(batch.vectors) + critic(decoded.vectors.detach()))
        return terms

    def _decoder_samples(
        self, model: LatentVariableModel, num: int, critic: nn.Module | None
    ) -> tuple[Any, "_Joint", Tensor]:
        """x ~ p(x|z), z ~ P(z); log p(x, z) and log q(z|x); and log q(x), or its bound at a draw z' ~ q(z'|x)."""
        z = model.prior.sample(num)
        batch = model.sample(z, max_length=self.max_sampled_length)
        posterior = model.posterior(batch)
        joint = _Joint.at(model, batch, posterior, z)
        if critic is not None:
            return batch, joint, frozen(critic, batch.vectors)
        return batch, joint, _Joint.at(model, batch, posterior, posterior.sample()).elbo


@dataclass(frozen=True)
class _Joint:
    """Log densities of pairs (x, z), in nats [B] each: log p(x|z), log p(z) and log q(z|x)."""

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Any, posterior: DiagonalGaussian, z_BD: Tensor) -> "_Joint":
        return cls(model.log_likelihood(batch, z_BD), model.prior.log_prob(z_BD), posterior.log_prob(z_BD))

    @property
    def elbo(self) -> Tensor:
        """log p(x|z) p(z) / q(z|x): where z ~ q(z|x), a lower bound of the log q(x) of eq. 3.25."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    def cross_entropy(self, log_data: Tensor, weight: float) -> Tensor:
        """-1/2 (log p(x|z) p(z) + beta log q(z|x) q(x)): eq. 3.23 with the beta of chapter 4."""
        return -0.5 * (self.log_likelihood + self.log_prior + weight * (self.log_posterior + log_data))


class DataPrior(GaussianMixture):
    """q(x) of Algorithm 1: the mixture that is a prior of codes, over vectors (appendix B's are isotropic)."""

    def forward(self, x_BX: Tensor) -> Tensor:
        """log q(x) of each vector, in nats [B]."""
        return self.log_prob(x_BX)


def reinforce(value: Tensor, log_prob: Tensor) -> Tensor:
    """`value` [B] of draws, with the gradient of its expectation over draws of log probability `log_prob`. Eq. 3.26.

    The baseline of a draw is the mean of the others', which does not depend on it: the gradient stays unbiased, and
    varies less. Of one draw alone there is none.
    """
    fixed = value.detach()
    baseline = (fixed.sum() - fixed) / max(1, len(fixed) - 1)
    score = (fixed - baseline) * log_prob
    return value + (score - score.detach())


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """The model as it draws samples, but with a gradient."""
    was_training = model.training
    model.eval()
    for module in model.modules():
        # cuDNN has no gradient in evaluation mode, and our GRUs drop nothing out; a sampled variance is no dropout.
        if isinstance(module, nn.RNNBase | SampledVariance):
            module.train(was_training)
    try:
        yield
    finally:
        model.train(was_training)
