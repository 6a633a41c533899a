"""The VAE's negative ELBO (the sVAE of section 7.2), with the usual remedies of posterior collapse."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.priors import StandardNormal
from smim.objectives.base import Objective
from smim.objectives.draw import Draw, Terms
from smim.schema import bounded


@dataclass(frozen=True)
class VAE(Objective):
    """The loss -log p(x|z) + w KL(q(z|x) || p(z)), with the KL in closed form if p(z) is N(0, I).

    `kl_annealing`: `none` (w = 1, as in the thesis's PTB rows), `linear` (w = step / `annealing_steps`, at most 1),
    `logistic` (w = sigmoid(`logistic_slope` (step - `annealing_steps`))) or `cyclical` (Fu et al. 2019). Each of the
    `annealing_cycles` cycles takes `annealing_steps`: w grows linearly from 0 to 1 in its first half, and is 1 in the
    second. After the last cycle w = 1. Validation always uses w = 1.

    `free_bits`: a threshold in nats per latent dimension (Kingma et al. 2016). If the KL of a dimension, averaged over
    a process's batch, is below it, the dimension costs the threshold and has no gradient. Validation uses none.

    `aggressive_steps`: before each step, at most so many steps that train only the encoder, as long as validation
    gains mutual information (He et al. 2019, Algorithm 1, with 100). 0 trains as usual. See
    `smim.training.aggressive`.

    `entropy_weight`: the factor of H(q(z|x) P(x)), without the constant entropy of the data. This is the mean entropy
    of q(z|x), in closed form. 1 is section 5.3.2.
    """

    can_be_graphed: ClassVar[bool] = True
    name: str = "vae"
    kl_annealing: str = bounded("none", among=["none", "linear", "logistic", "cyclical"])
    annealing_steps: int = bounded(10_000, least=1)
    annealing_cycles: int = bounded(4, least=1)
    logistic_slope: float = 0.0025
    free_bits: float = bounded(0.0, least=0)
    aggressive_steps: int = bounded(0, least=0)
    entropy_weight: float = 0.0

    def weight(self, step: int | None) -> float:
        if step is None or self.kl_annealing == "none":
            return 1.0
        if self.kl_annealing == "linear":
            return min(1.0, step / self.annealing_steps)
        if self.kl_annealing == "cyclical":
            return 1.0 if self.settled(step) else min(1.0, 2 * (step % self.annealing_steps) / self.annealing_steps)
        # The logistic function in a form that cannot overflow.
        return 0.5 * (1 + math.tanh(0.5 * self.logistic_slope * (step - self.annealing_steps)))

    def settled(self, step: int) -> bool:
        if self.kl_annealing == "cyclical":
            return step >= self.annealing_cycles * self.annealing_steps
        return super().settled(step)

    @property
    def most_encoder_steps(self) -> int:
        return self.aggressive_steps

    def prepare(self, model: LatentVariableModel) -> None:
        mixture = getattr(model.args.encoder, "num_components", 1) > 1
        if self.free_bits and (mixture or not isinstance(model.prior, StandardNormal)):
            raise UserError(
                "objective.free_bits bounds the KL of each latent dimension, which needs a standard normal prior, one "
                "level of latent variables and one Gaussian q(z|x); use these, or objective.free_bits=0"
            )

    def loss(self, draw: Draw) -> Terms:
        weight, charged = torch.full_like(draw.reconstruction, self.weight(draw.step)), draw.kl
        if self.free_bits and draw.step is not None:
            # The mean of these values is the sum over dimensions of max(free_bits, mean KL of the dimension).
            assert isinstance(draw.posterior, DiagonalGaussian)  # see `prepare`
            kl_BD = draw.posterior.kl_by_dimension()
            charged = torch.where(kl_BD.mean(0) > self.free_bits, kl_BD, self.free_bits).sum(-1)
        loss = draw.reconstruction + weight * charged
        if self.entropy_weight:
            loss = loss + self.entropy_weight * draw.posterior.entropy()
        return {"loss": loss, "kl_weight": weight}
