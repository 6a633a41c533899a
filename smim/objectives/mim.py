"""MIM with symmetric sampling: Algorithms 1 and 3 of Livne's thesis.

Shapes: B observations, D latent dimensions, X dimensions of a vector.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.latent_space import SampledVariance
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.priors import GaussianMixture
from smim.objectives.base import frozen
from smim.objectives.draw import Critic, Draw, Terms
from smim.objectives.warmup import WithWarmup
from smim.schema import bounded


@dataclass(frozen=True)
class MIM(WithWarmup):
    """-1/2 (log p(x|z) p(z) + log q(z|x) q(x)), half of it over z ~ q(z|x), half over z ~ p(z), x ~ p(x|z). Eq. 3.13.

    The thesis's latent anchor P(z) is the model's prior p(z), also a learned one. The i-th sample of the
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
    has_critic: ClassVar[bool] = True
    name: str = "mim"
    data_prior: str = bounded("marginal", among=["marginal", "gaussian_mixture"])
    data_prior_components: int = bounded(10, least=1)
    data_prior_learning_rate: float = bounded(1e-3, above=0)
    max_sampled_length: int = bounded(50, least=1)
    entropy_weight: float = 0.0

    def prepare(self, model: LatentVariableModel) -> None:
        if self.data_prior == "gaussian_mixture" and not model.reparameterized:
            raise UserError(
                "objective.data_prior=gaussian_mixture is a density of vectors, and this model's p(x|z) is of words or "
                "bits; use objective.data_prior=marginal, or model=mlp with model.likelihood=gaussian"
            )

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """The mixture q(x), where it is one: as a prior of codes, but over vectors (appendix B's are isotropic)."""
        if self.data_prior == "marginal":
            return None
        network = GaussianMixture(model.input_size, num_components=self.data_prior_components)
        return Critic(network, torch.optim.Adam(network.parameters(), lr=self.data_prior_learning_rate))

    def loss(self, draw: Draw) -> Terms:
        model, critic = draw.model, draw.critic
        encoding = self._half(draw, encoded=True) + self.entropy_weight * draw.posterior.entropy()
        with _without_dropout(model):
            z = model.prior.sample(len(draw.batch))
            batch = model.sample(z, max_length=self.max_sampled_length)
            decoder = replace(draw, batch=batch, posterior=model.posterior(batch), z=z)
            decoding = self._half(decoder, encoded=False) + self.entropy_weight * decoder.reconstruction
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
            log_data = critic(draw.batch.vectors) + critic(batch.vectors.detach())
            terms["critic_loss"] = -0.25 * self.weight(draw.step) * log_data
        return terms

    def _half(self, draw: Draw, *, encoded: bool) -> Tensor:
        """-1/2 (log p(x|z) p(z) + beta log q(z|x) q(x)): eq. 3.23 with the beta of chapter 4, in nats [B].

        `encoded`: z ~ q(z|x), where the bound of log q(x) holds; otherwise it is taken at another z that is.
        """
        log_decoding, log_posterior = -draw.reconstruction + draw.log_prior, draw.log_posterior
        if draw.critic:
            log_data = frozen(draw.critic, draw.batch.vectors)
        else:
            log_data = (draw if encoded else replace(draw, z=draw.posterior.sample())).elbo
        return -0.5 * (log_decoding + self.weight(draw.step) * (log_posterior + log_data))


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
