"""MIM with symmetric sampling (Algorithms 1 and 3 of Livne's thesis).

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
    """The loss -1/2 (log p(x|z) p(z) + log q(z|x) q(x)), half at z ~ q(z|x), half at z ~ p(z), x ~ p(x|z): eq. 3.13.

    The thesis's latent anchor P(z) is the model's prior p(z), which may be learned. The i-th sample of the decoder is
    combined with the i-th observation, so there is one loss per observation.

    `data_prior`: `marginal` takes the decoder's marginal as q(x) (eq. 3.25). Its lower bound is
    log p(x|z') p(z') / q(z'|x), z' ~ q(z'|x), which cancels log q(z|x) in the encoder's half (Algorithm 3).
    `gaussian_mixture` is for vectors with a Gaussian decoder (Algorithm 1). It learns a mixture of
    `data_prior_components` diagonal Gaussians beside the model, by Adam at `data_prior_learning_rate`.

    The gradient goes through x if x is reparameterised; words and bits use REINFORCE (eq. 3.26). The decoder's half
    uses no dropout, because its samples are drawn without. A sampled sentence is cut after `max_sampled_length` tokens;
    the probability of a cut one is that of its words. Far from the codes of the data, a decoder of words tends to end
    sentences at once, which has the lowest entropy. The term `sampled_length` shows this.

    `warmup_steps`: the number of optimizer steps in which beta, the factor of log q(z|x) q(x), grows from 0 to 1
    (chapter 4). 0 means no warm-up. Validation always uses beta = 1.

    `entropy_weight`: the factor of the trainable part of R_H (eq. 3.9): the mean of the entropies of q(z|x) and p(x|z).
    -1 is section 5.3.2. The thesis subtracts H(M_S) = R_H + JSD (eq. 3.10), which needs P(x). The difference, JSD, is
    between 0 and log 2. The loss keeps it, and with it the incentive for consistency.
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
                "objective.data_prior=gaussian_mixture is a density of vectors, but this model's p(x|z) is of words or "
                "bits; use objective.data_prior=marginal, or model=mlp with model.likelihood=gaussian"
            )

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """Make the mixture q(x) over vectors, or return None for the marginal. Appendix B's mixture is isotropic."""
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
        """Compute -1/2 (log p(x|z) p(z) + beta log q(z|x) q(x)), eq. 3.23 with chapter 4's beta, in nats [B].

        `encoded`: z ~ q(z|x), so the bound of log q(x) holds at z. Otherwise it uses another z, drawn from q(z|x).
        """
        log_decoding, log_posterior = -draw.reconstruction + draw.log_prior, draw.log_posterior
        if draw.critic:
            log_data = frozen(draw.critic, draw.batch.vectors)
        else:
            log_data = (draw if encoded else replace(draw, z=draw.posterior.sample())).elbo
        return -0.5 * (log_decoding + self.weight(draw.step) * (log_posterior + log_data))


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
