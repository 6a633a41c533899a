"""Adversarial VAE: section 4.1.1 of InfoVAE (Zhao, Song and Ermon 2017), which is the adversarial autoencoder."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Critic, Terms, frozen
from smim.objectives.critics import critic_problems, make_mlp_critic
from smim.objectives.info_vae import InfoVAE, with_gradient_of


@dataclass(frozen=True)
class Adversarial(InfoVAE):
    """InfoVAE with a discriminator, which tells codes from as many draws from the prior.

    The encoder descends the non-saturating loss -log d(z), where d(z) is the probability that the discriminator gives
    z of being from the prior; at the best discriminator its gradient is near that of KL(q(z) || p(z)), in nats.
    The loss carries the value of the divergence that the discriminator measures, as `jsd`: the Jensen-Shannon
    divergence, or less where the discriminator has not learned it (below 0 before it has learned anything).
    """

    name: str = "adversarial"
    critic_hidden_dim: int = 256
    critic_learning_rate: float = 1e-3

    def problems(self) -> list[str]:
        return super().problems() + critic_problems(self)

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """The discriminator: the log odds that a code is from the prior."""
        return make_mlp_critic(self, input_dim=model.args.latent_dim)

    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        assert critic
        non_saturating = F.softplus(-frozen(critic, z_BD))
        critic_loss = F.softplus(-critic(model.prior.sample(len(z_BD)))) + F.softplus(critic(z_BD.detach()))
        jsd = math.log(2) - 0.5 * critic_loss.detach()
        return with_gradient_of(non_saturating, jsd), {"jsd": jsd, "critic_loss": critic_loss}
