"""InfoVAE (Zhao, Song and Ermon 2017): what its three divergences between aggregate posterior and prior share."""

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Draw, Objective, Terms


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

    def problems(self) -> list[str]:
        if self.alpha > 1:
            return [
                f"objective.alpha is {self.alpha}, it must be at most 1: beyond, the loss falls without end with the "
                f"posterior's variance; for more information use objective=infomax_vae"
            ]
        if self.alpha + self.lambd < 1:
            return [
                f"objective.lambd is {self.lambd}, it must be at least {1 - self.alpha} with objective.alpha="
                f"{self.alpha}: below, the divergence from the prior would be sought"
            ]
        return []

    def prepare(self, model: LatentVariableModel) -> None:
        model.prior.requires_grad_(False)

    @abstractmethod
    def divergence(self, model: LatentVariableModel, z_BD: Tensor, critic: nn.Module | None) -> tuple[Tensor, Terms]:
        """D(q(z), p(z)) of a batch of codes, [B] with the divergence as its mean, and the terms that are logged."""

    def loss(self, draw: Draw) -> Terms:
        loss = draw.reconstruction + (1 - self.alpha) * draw.kl
        divergence, terms = self.divergence(draw.model, draw.z, draw.critic)
        return {"loss": loss + (self.alpha + self.lambd - 1) * divergence, **terms}


def with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of `surrogate`: for one that is worth descending, but whose value says nothing."""
    return value.detach() + (surrogate - surrogate.detach())
