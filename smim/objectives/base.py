"""What an objective is: a loss, as a function of a draw of codes.

Shapes: B observations, D latent dimensions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smim.errors import refuse
from smim.model.distributions import DiagonalGaussian
from smim.model.latent_variable_model import LatentVariableModel
from smim.schema import out_of_bounds

# Named values, each fp32 [B]. All have `loss`, `reconstruction`, `kl` and `clamped`; those with a critic `critic_loss`.
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """Observations x, their q(z|x), and a code z [B, D] for each: what a loss is a function of.

    `step` counts optimizer steps for annealed weights; None, as in validation, means their final value. `critic`: the
    network of `make_critic`.

    In nats [B], computed once, when a loss asks for it: `reconstruction` = -log p(x|z), `log_posterior` = log q(z|x),
    `log_prior` = log p(z), `kl` = KL(q(z|x) || p(z)), estimated at z where it has no closed form, and `elbo` =
    log p(x|z) p(z) / q(z|x), where z ~ q(z|x) a lower bound of log p(x).
    """

    model: LatentVariableModel
    batch: Any
    posterior: DiagonalGaussian
    z: Tensor
    step: int | None
    critic: nn.Module | None

    @cached_property
    def reconstruction(self) -> Tensor:
        return -self.model.log_likelihood(self.batch, self.z)

    @cached_property
    def log_posterior(self) -> Tensor:
        return self.posterior.log_prob(self.z)

    @cached_property
    def log_prior(self) -> Tensor:
        return self.model.prior.log_prob(self.z)

    @cached_property
    def kl(self) -> Tensor:
        # A closed form needs no log p(z), and a loss may have asked for it already.
        return self.model.prior.kl(self.posterior, self.z, log_prior=vars(self).get("log_prior"))

    @property
    def elbo(self) -> Tensor:
        return -self.reconstruction + self.log_prior - self.log_posterior


@dataclass(frozen=True)
class Critic:
    """A network that an objective trains beside the model, and its own optimizer; it is no part of the model."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Objective(ABC):
    """A loss for a latent variable model; its fields are its settings under `objective.`.

    `deterministic`: whether the code of x is the mean of q(z|x), whose variance is not trained. `draws_observations`:
    whether it trains on draws x ~ p(x|z) too. `can_be_graphed`: whether its terms have been captured in a CUDA graph,
    and were the same: nothing in them may wait for the GPU.
    """

    deterministic: ClassVar[bool] = False
    draws_observations: ClassVar[bool] = False
    can_be_graphed: ClassVar[bool] = False
    name: str

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "objective"))

    def prepare(self, model: LatentVariableModel) -> None:  # noqa: B027
        """Called once before training: freezes parameters that the loss does not depend on, which DDP refuses."""

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """The critic that the loss is given, on the CPU; None where the objective needs none."""
        return None

    def weight(self, step: int | None) -> float:
        """The weight that changes in training, after `step` optimizer steps: 1 at its end, and where `step` is None."""
        return 1.0

    def settled(self, step: int) -> bool:
        """Whether the loss is the same function of model and batch at all steps from this one on."""
        return self.weight(step) == 1.0

    @abstractmethod
    def loss(self, draw: Draw) -> Terms:
        """`loss` of each observation, in nats [B], and what else is to be logged, [B] each.

        `loss` must have no gradient in the critic's weights (`frozen`), and `critic_loss`, which an objective with a
        critic returns too, none in the model's: one backward pass serves both.
        """

    def terms(
        self,
        model: LatentVariableModel,
        batch: Any,
        *,
        step: int | None,
        noise: Tensor | None = None,
        critic: nn.Module | None = None,
    ) -> Terms:
        """The terms of a batch, at a draw of its codes: see `draw`."""
        return self.terms_of(self.draw(model, batch, step=step, noise=noise, critic=critic))

    def draw(
        self,
        model: LatentVariableModel,
        batch: Any,
        *,
        step: int | None,
        noise: Tensor | None,
        critic: nn.Module | None,
    ) -> Draw:
        """z ~ q(z|x) of each observation, or the mean where the objective is deterministic.

        `noise` ~ N(0, I) [B, D] makes the draw reproducible; whatever else is drawn comes from torch's generator.
        """
        posterior = model.posterior(batch)
        z = posterior.mean if self.deterministic else posterior.sample(noise)
        return Draw(model, batch, posterior, z, step, critic)

    def terms_of(self, draw: Draw) -> Terms:
        """The loss and its parts, and what tells of collapse: the KL and the share of clamped dimensions, [B] each."""
        terms = self.loss(draw)
        with torch.no_grad():
            return {
                "loss": terms["loss"],
                "reconstruction": draw.reconstruction,
                **terms,
                "kl": draw.kl.detach(),
                "clamped": (draw.posterior.log_variance <= draw.model.args.clamp).float().mean(-1),
            }


def frozen(critic: nn.Module, *inputs: Tensor) -> Tensor:
    """What the critic says, with a gradient in its inputs but none in its weights."""
    weights = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    return torch.func.functional_call(critic, weights, inputs)
