"""InfoMax-VAE (Rezaabad and Vishwanath 2019): a VAE that also maximises an estimate of I(x; z)."""

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

# From here on exp continues as a straight line. So a critic's value for one pair cannot overflow, and it keeps its
# gradient, which a clamp would remove.
_STRAIGHT_FROM = 20.0


def _log_mean_exp(t_B: Tensor) -> Tensor:
    return torch.logsumexp(t_B, 0) - math.log(len(t_B))


def _exp_minus_one(t_B: Tensor) -> Tensor:
    """Compute f*(t) - 1 = exp(t_B) - 1, where f*(t) = exp(t - 1) and t = 1 + t_B; a straight line above 20 nats."""
    beyond = (t_B - _STRAIGHT_FROM).clamp(min=0)
    return torch.exp(t_B.clamp(max=_STRAIGHT_FROM)) * (1 + beyond) - 1


DUALS: dict[str, Callable[[Tensor], Tensor]] = {"f_divergence": _exp_minus_one, "donsker_varadhan": _log_mean_exp}


@dataclass(frozen=True)
class InfoMaxVAE(WithCritic):
    """The loss -log p(x|z) + beta KL(q(z|x) || p(z)) - alpha I(x; z), with a critic's estimate of I: Algorithm 1.

    `dual`: the bound of I that the critic t(x, z) maximises, `f_divergence` (eq. 6) or `donsker_varadhan` (eq. 12); see
    `dual_information`. The critic's inputs are the encoder's summary of x, and z. A permutation of the codes in a
    process's batch gives the pairs of the marginals. With one observation there are no such pairs, and I counts as 0.

    `critic_learning_rate` has the paper's value (appendix D). A faster critic affects the codes sooner. But codes of
    sentences then suit the critic more than the decoder, and the `donsker_varadhan` estimate can far exceed I.

    The validation loss uses the critic's current estimate. So the loss falls while the critic learns, and
    `mutual_information` is the lower bound that the critic has reached.
    """

    name: str = "infomax_vae"
    alpha: float = bounded(10.0, least=0)
    beta: float = bounded(1.0, least=0)
    dual: str = bounded("f_divergence", among=DUALS)
    critic_learning_rate: float = bounded(1e-4, above=0)

    def critic_input_dim(self, model: LatentVariableModel) -> int:
        """The size of the input of t(x, z): the encoder's summary of x, and the code."""
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
    """Estimate a lower bound of I(x; z) in nats, as terms [B] whose mean is the bound.

    The arguments are features x, their codes z, and codes z~ of other observations. With one pair the estimate is 0.

    `f_divergence` (eq. 6): E t(x, z) - E exp(t(x, z~) - 1), with t = 1 + critic, so that a critic of zeros gives 0.
    `donsker_varadhan` (eq. 12): E t(x, z) - log E exp t(x, z~). This is tighter. But the logarithm of a mean of B terms
    is too low on average, so the estimate of a small batch can exceed I.
    """
    joint_B, marginal_B = critic(x_BF, z_BD), critic(x_BF, permuted_BD)
    return (joint_B - DUALS[dual](marginal_B)) * float(len(z_BD) > 1)


def random_cycle(num: int) -> Tensor:
    """Draw a permutation of 0 .. num - 1 that is a single cycle, int64 [num]. For num > 1 it moves every element."""
    order = torch.randperm(num)
    cycle = torch.empty_like(order)
    cycle[order] = order.roll(1)
    return cycle
