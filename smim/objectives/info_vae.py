"""InfoVAE (Zhao, Song and Ermon 2017), with each of its three divergences between aggregate posterior and prior."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Objective, frozen
from smim.objectives.critics import WithCritic
from smim.objectives.draw import Draw, Terms
from smim.objectives.kernels import KERNELS, mmd_squared, score, stein_direction
from smim.schema import bounded


@dataclass(frozen=True)
class InfoVAE(Objective):
    """-log p(x|z) + (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambd - 1) D(q(z), p(z)), z ~ q(z|x).

    The objective as appendix A, II of InfoMax-VAE gives it; with `alpha` = 1 that of InfoVAE's section 4. `alpha`: the
    preference for information, at most 1, beyond which the loss has no lower bound. `lambd`: lambda, by section 4 of a
    size at which the divergence counts about as much as the reconstruction.

    D is that of the codes which a process sees at once, beside as many draws from p(z): with several processes or
    accumulation steps those of a part of the batch, whose divergence is another, larger number than that of the whole.
    The prior is not trained: its draws have no gradient.
    """

    alpha: float = 1.0
    lambd: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha > 1:
            raise UserError(
                f"objective.alpha is {self.alpha}, it must be at most 1: beyond, the loss falls without end with the "
                f"posterior's variance; for more information use objective=infomax_vae"
            )
        if self.alpha + self.lambd < 1:
            raise UserError(
                f"objective.lambd is {self.lambd}, it must be at least {1 - self.alpha} with objective.alpha="
                f"{self.alpha}: below, the divergence from the prior would be sought"
            )

    def prepare(self, model: LatentVariableModel) -> None:
        model.prior.requires_grad_(False)

    @abstractmethod
    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        """D(q(z), p(z)) of a batch of codes, [B] with the divergence as its mean, and the terms that are logged."""

    def loss(self, draw: Draw) -> Terms:
        loss = draw.reconstruction + (1 - self.alpha) * draw.kl
        divergence, terms = self.divergence(draw.model, draw.z, draw.critic)
        return {"loss": loss + (self.alpha + self.lambd - 1) * divergence, **terms}


@dataclass(frozen=True)
class MMDVAE(InfoVAE):
    """InfoVAE with the squared maximum mean discrepancy between codes and as many draws from the prior: section 4.1.3.

    `lambd`: of a size at which the squared MMD, at most 2 and mostly hundredths, counts against the reconstruction.
    Under one that is far larger (500), a decoder that has not begun to listen loses its code to the noise of a batch's
    estimate. `kernel`: `rbf`, or `imq` of heavier tails. `bandwidth`: None is the square root of the latent dimensions;
    see `mmd_squared`.
    """

    name: str = "mmd_vae"
    lambd: float = 30.0
    kernel: str = bounded("rbf", among=KERNELS)
    bandwidth: float | None = bounded(None, above=0)

    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        mmd = mmd_squared(z_BD, model.prior.sample(len(z_BD)), kernel=self.kernel, bandwidth=self.bandwidth)
        mmd_B = mmd.expand(len(z_BD))
        return mmd_B, {"mmd": mmd_B}


@dataclass(frozen=True)
class SteinVAE(InfoVAE):
    """InfoVAE that moves the codes along Stein's variational gradient of KL(q(z) || p(z)): section 4.1.2.

    The surrogate -z^T stop_gradient(phi*(z)) has the gradient, and a value that says nothing (the paper's has the other
    sign, and would move codes away from the prior where it is descended). So the loss carries in its place the squared
    MMD to draws from the prior, as `mmd`, under the kernel that MMD-VAE has by default.

    The direction is an average over codes, and smaller than the gradient of the KL: hence a `lambd` above 1.
    `bandwidth` of the RBF kernel: None goes by the median distance of the codes; see `stein_direction`. In more
    dimensions than codes are seen at once the variance of the codes comes out too low, as the paper finds too.
    """

    name: str = "stein_vae"
    lambd: float = 10.0
    bandwidth: float | None = bounded(None, above=0)

    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        direction_BD = stein_direction(z_BD, score(model.prior, z_BD), bandwidth=self.bandwidth)
        surrogate = -(z_BD * direction_BD).sum(-1)
        mmd_B = mmd_squared(z_BD.detach(), model.prior.sample(len(z_BD))).expand(len(z_BD))
        return with_gradient_of(surrogate, mmd_B), {"mmd": mmd_B}


@dataclass(frozen=True)
class Adversarial(WithCritic, InfoVAE):
    """InfoVAE with a discriminator, which tells codes from as many draws from the prior: section 4.1.1.

    With `alpha` = 1 it is the adversarial autoencoder.

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
    gradient_penalty: float = bounded(10.0, least=0)

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


def with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of `surrogate`: for one that is worth descending, but whose value says nothing."""
    return value.detach() + (surrogate - surrogate.detach())
