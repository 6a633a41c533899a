"""InfoMax-VAE (Rezaabad and Vishwanath 2019): a VAE that maximises an estimate of I(x; z) beside its ELBO."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import frozen
from smim.objectives.critics import WithCritic
from smim.objectives.draw import Draw, Terms
from smim.schema import bounded

# exp goes on as a straight line from here, so that what a critic says of one pair neither overflows nor, being clamped,
# loses its gradient.
_STRAIGHT_FROM = 20.0


def _log_mean_exp(t_B: Tensor) -> Tensor:
    return torch.logsumexp(t_B, 0) - math.log(len(t_B))


def _exp_minus_one(t_B: Tensor) -> Tensor:
    """f*(t) = exp(t - 1) where t is 1 + t_B, less that 1; a straight line from 20 nats on."""
    beyond = (t_B - _STRAIGHT_FROM).clamp(min=0)
    return torch.exp(t_B.clamp(max=_STRAIGHT_FROM)) * (1 + beyond) - 1


DUALS: dict[str, Callable[[Tensor], Tensor]] = {"f_divergence": _exp_minus_one, "donsker_varadhan": _log_mean_exp}


@dataclass(frozen=True)
class InfoMaxVAE(WithCritic):
    """-log p(x|z) + beta KL(q(z|x) || p(z)) - alpha I(x; z), with the critic's estimate of I: Algorithm 1.

    `dual`: the bound of I that the critic t(x, z) climbs, `f_divergence` (eq. 6) or `donsker_varadhan` (eq. 12); see
    `dual_information`. The critic sees what the encoder made of x, beside z. For pairs of the marginals the codes are
    permuted among the observations that a process sees at once; of one alone there are none, and I counts 0.

    `critic_learning_rate`: the paper's (appendix D). A faster critic has its say sooner, but codes of sentences then
    serve the critic more than the decoder, and the estimate of `donsker_varadhan` may pass I by far.

    The loss of a validation holds the estimate of the critic as it is then: while that is learning, the losses of a run
    fall with it, and `mutual_information` is the lower bound that it has reached.
    """

    name: str = "infomax_vae"
    alpha: float = bounded(10.0, least=0)
    beta: float = bounded(1.0, least=0)
    dual: str = bounded("f_divergence", among=DUALS)
    critic_learning_rate: float = bounded(1e-4, above=0)

    def critic_input_dim(self, model: LatentVariableModel) -> int:
        """Of t(x, z), up to a constant."""
        return model.summary_dim + model.args.latent_dim

    def loss(self, draw: Draw) -> Terms:
        assert draw.critic
        loss = draw.reconstruction + self.beta * draw.kl
        features, z = draw.model.summary(draw.batch), draw.z
        permuted = z[random_cycle(len(z)).to(z.device)]
        information = dual_information(partial(frozen, draw.critic), features, z, permuted, dual=self.dual)
        return {
            "loss": loss - self.alpha * information,
            "mutual_information": information,
            "critic_loss": -dual_information(draw.critic, features, z.detach(), permuted.detach(), dual=self.dual),
        }


def dual_information(
    critic: Callable[[Tensor, Tensor], Tensor], x_BF: Tensor, z_BD: Tensor, permuted_BD: Tensor, *, dual: str
) -> Tensor:
    """A lower bound of I(x; z) in nats: terms [B] whose mean it is, for features x and codes z, and codes z~ of others.

    `f_divergence`: E t(x, z) - E exp(t(x, z~) - 1), with t = 1 + critic, so that one that knows nothing says 0 (eq. 6).
    `donsker_varadhan`: E t(x, z) - log E exp t(x, z~), tighter, but with the logarithm of a mean of B terms, which is
    too low on average: by its noise the estimate of a small batch may pass I (eq. 12).

    Of one pair alone, which has no other code, the estimate is 0.
    """
    joint_B, marginal_B = critic(x_BF, z_BD), critic(x_BF, permuted_BD)
    return (joint_B - DUALS[dual](marginal_B)) * float(len(z_BD) > 1)


def random_cycle(num: int) -> Tensor:
    """A random permutation of 0 .. num - 1 that is one cycle, int64 [num]: it leaves none of several in its place."""
    order = torch.randperm(num)
    cycle = torch.empty_like(order)
    cycle[order] = order.roll(1)
    return cycle
