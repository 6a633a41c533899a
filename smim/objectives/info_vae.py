"""InfoVAE (Zhao, Song and Ermon 2017) with its three divergences between aggregate posterior and prior."""

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
    """The loss -log p(x|z) + (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambd - 1) D(q(z), p(z)), z ~ q(z|x).

    This form is in appendix A, II of InfoMax-VAE. With `alpha` = 1 it is that of InfoVAE's section 4. `alpha` is the
    preference for information. It is at most 1, because beyond 1 the loss has no lower bound. `lambd` is lambda.
    Section 4 chooses it so that the divergence counts about as much as the reconstruction.

    D compares the codes of one forward pass of one process with as many draws from p(z). With several processes or
    accumulation steps, these are only a part of the batch, and their divergence is larger than that of the whole batch.
    The prior is not trained, because its draws have no gradient.
    """

    alpha: float = 1.0
    lambd: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha > 1:
            raise UserError(
                f"objective.alpha is {self.alpha}, but it must be at most 1, because above 1 the loss has no lower "
                f"bound; for more information in the codes, use objective=infomax_vae"
            )
        if self.alpha + self.lambd < 1:
            raise UserError(
                f"objective.lambd is {self.lambd}, but it must be at least {1 - self.alpha} with objective.alpha="
                f"{self.alpha}; otherwise training would increase the divergence from the prior"
            )

    def prepare(self, model: LatentVariableModel) -> None:
        model.prior.requires_grad_(False)

    @abstractmethod
    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        """Return D(q(z), p(z)) of a batch of codes, as [B] values with the divergence as mean, and the terms to log."""

    def loss(self, draw: Draw) -> Terms:
        loss = draw.reconstruction + (1 - self.alpha) * draw.kl
        divergence, terms = self.divergence(draw.model, draw.z, draw.critic)
        return {"loss": loss + (self.alpha + self.lambd - 1) * divergence, **terms}


@dataclass(frozen=True)
class MMDVAE(InfoVAE):
    """InfoVAE with the squared maximum mean discrepancy (MMD) between codes and draws from the prior: section 4.1.3.

    `lambd`: the squared MMD is at most 2 and mostly a few hundredths, so it needs a large weight to count beside the
    reconstruction. With a much larger one (500), the noise of the batch estimate removes the information from the codes
    before the decoder learns to use them. `kernel`: `rbf`, or `imq` with heavier tails. `bandwidth`: None is the square
    root of the number of latent dimensions; see `mmd_squared`.
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
    """InfoVAE that moves the codes along the Stein variational gradient of KL(q(z) || p(z)): section 4.1.2.

    The surrogate -z^T stop_gradient(phi*(z)) has this gradient, but its value has no meaning. So the reported value is
    the squared MMD to draws from the prior (`mmd`), with MMD-VAE's default kernel. The paper's surrogate has the
    opposite sign; its descent would move codes away from the prior.

    The direction is an average over codes, and smaller than the gradient of the KL. Therefore `lambd` is above 1.
    `bandwidth` of the RBF kernel: None takes it from the median distance of the codes; see `stein_direction`. With more
    dimensions than codes in a forward pass, the variance of the codes becomes too small, as the paper also finds.
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
    """InfoVAE with a discriminator between codes and draws from the prior (section 4.1.1).

    With `alpha` = 1 it is the adversarial autoencoder.
    The encoder minimises the non-saturating loss -log d(z), where d(z) is the discriminator's probability that z comes
    from the prior. At the best discriminator its gradient is that of KL(q(z) || p(z)) - 2 JSD(q(z), p(z)) (Arjovsky and
    Bottou 2017). This is close to the KL's gradient if q(z) and p(z) are far apart, half of it if they nearly agree.

    The reported value is `jsd`, the discriminator's estimate of the Jensen-Shannon divergence in nats, at most log 2.
    It is too low before the discriminator has learned the difference, and can then be below 0.

    `gradient_penalty`: the discriminator's loss includes half of this number times the squared slope of its log odds,
    at the codes and at the draws (Mescheder et al. 2018). Without it, the slopes between narrow posteriors grow ever
    steeper, and encoder and discriminator oscillate. With flatter slopes the codes get a smaller gradient, which
    `lambd` compensates.
    """

    name: str = "adversarial"
    lambd: float = 10.0
    gradient_penalty: float = bounded(10.0, least=0)

    def critic_input_dim(self, model: LatentVariableModel) -> int:
        """The size of a code: the discriminator maps it to the log odds that it comes from the prior."""
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
    """The squared norm of the critic's gradient at each code [B], differentiable in the critic's weights."""
    slope_BD = torch.func.grad(lambda z: critic(z).sum())(z_BD)
    return slope_BD.square().sum(-1)


def with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """Return `value` with the gradient of `surrogate`, for a surrogate whose own value has no meaning."""
    return value.detach() + (surrogate - surrogate.detach())
