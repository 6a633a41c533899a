"""Adversarial VAE: section 4.1.1 of InfoVAE (Zhao, Song and Ermon 2017), which is the adversarial autoencoder."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.errors import too_low
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Terms, frozen
from smim.objectives.critics import WithCritic
from smim.objectives.info_vae import InfoVAE, with_gradient_of


@dataclass(frozen=True)
class Adversarial(WithCritic, InfoVAE):
    """InfoVAE with a discriminator, which tells codes from as many draws from the prior.

    The encoder descends the non-saturating loss -log d(z), where d(z) is the probability that the discriminator gives
    z of being from the prior; at the best discriminator its gradient is that of KL(q(z) || p(z)) - 2 JSD(q(z), p(z))
    (Arjovsky and Bottou 2017), near the KL's where they are far apart and half of it where they nearly agree. The loss
    carries the value of the divergence that the discriminator measures, as `jsd`: the Jensen-Shannon divergence in
    nats, at most log 2, or less where the discriminator has not learned it (below 0 before it has learned anything).

    `gradient_penalty`: the discriminator's loss has half of it times the squared slope of its log odds, at the codes
    and at the draws (Mescheder et al. 2018). Without it, narrow posteriors are told apart with ever steeper slopes, and
    encoder and discriminator chase each other. The flatter slope is also a weaker pull on the codes, which `lambd`
    makes up for.
    """

    name: str = "adversarial"
    lambd: float = 10.0
    gradient_penalty: float = 10.0

    def problems(self) -> list[str]:
        return super().problems() + too_low(self, "objective", gradient_penalty=0)

    def critic_input_dim(self, model: LatentVariableModel) -> int:
        """Of the discriminator: it sees a code, and says the log odds that it is from the prior."""
        return model.args.latent_dim

    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        assert critic
        non_saturating = F.softplus(-frozen(critic, z_BD))
        both = torch.cat([model.prior.sample(len(z_BD)), z_BD.detach()])
        of_prior, of_codes = critic(both).chunk(2)
        cross_entropy = F.softplus(-of_prior) + F.softplus(of_codes)
        jsd = math.log(2) - 0.5 * cross_entropy.detach()
        critic_loss = cross_entropy + 0.5 * self.gradient_penalty * sum(_squared_slope(critic, both).chunk(2))
        return with_gradient_of(non_saturating, jsd), {"jsd": jsd, "critic_loss": critic_loss}


def _squared_slope(critic: nn.Module, z_BD: Tensor) -> Tensor:
    """The squared norm of the critic's gradient at each code [B], with a gradient in the critic's weights."""
    slope_BD = torch.func.grad(lambda z: critic(z).sum())(z_BD)
    return slope_BD.square().sum(-1)
