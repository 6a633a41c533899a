"""What an objective is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian
from smim.model.latent_variable_model import LatentVariableModel, Observations

# Named values, each fp32 [B]. All have `loss`, `reconstruction`, `kl` and `clamped`; those with a critic `critic_loss`.
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Critic:
    """A network that an objective trains beside the model, and its own optimizer; it is no part of the model."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Objective(ABC):
    """A loss for a latent variable model; its fields are its settings under `objective.`.

    `draws_observations`: whether it trains on draws x ~ p(x|z) too. `can_be_graphed`: whether its terms have been
    captured in a CUDA graph, and were the same: nothing in them may wait for the GPU.
    """

    draws_observations: ClassVar[bool] = False
    can_be_graphed: ClassVar[bool] = False
    name: str

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are not the defaults, for a model's card."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if name != "name" and value != default}

    def settled(self, step: int) -> bool:
        """Whether the loss is the same function of model and batch at all steps from this one on."""
        return True

    def prepare(self, model: LatentVariableModel) -> None:  # noqa: B027
        """Called once before training: freezes parameters that the loss does not depend on, which DDP refuses."""

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """The critic that `terms` is given, on the CPU; None where the objective needs none."""
        return None

    @abstractmethod
    def terms(
        self,
        model: LatentVariableModel,
        batch: Observations,
        *,
        step: int | None,
        noise: Tensor | None = None,
        critic: nn.Module | None = None,
    ) -> Terms:
        """The loss and its parts for each observation, in nats, [B] each.

        `step` counts optimizer steps for annealed weights; None, as in validation, means their final
        value. `noise` ~ N(0, I) [B, D] makes the draw of z ~ q(z|x) reproducible; whatever else is drawn comes
        from torch's generator. `critic`: the network of `make_critic`. `loss` must have no gradient in its weights
        (`frozen`), and `critic_loss` none in the model's: one backward pass serves both.
        """


def collapse_terms(model: LatentVariableModel, posterior: DiagonalGaussian, kl: Tensor) -> Terms:
    """What the collapse monitor watches: KL(q(z|x) || p(z)) and the share of clamped dimensions."""
    clamped = (posterior.log_variance <= model.args.clamp).float().mean(-1)
    return {"kl": kl.detach(), "clamped": clamped}


def frozen(critic: nn.Module, *inputs: Tensor) -> Tensor:
    """What the critic says, with a gradient in its inputs but none in its weights."""
    weights = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    return torch.func.functional_call(critic, weights, inputs)
