"""What an objective is: a loss, as a function of a draw of codes.

Shapes: B observations, D latent dimensions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smim.errors import refuse
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.contrast import Contrast
from smim.objectives.draw import Addition, Critic, Draw, Terms
from smim.objectives.pairs import Pairs
from smim.objectives.second_view import SecondView
from smim.schema import out_of_bounds


@dataclass(frozen=True)
class Objective(ABC):
    """A loss for a latent variable model; its fields are its settings under `objective.`.

    `deterministic`: whether the code of x is the mean of q(z|x), whose variance is not trained. `draws_observations`:
    whether it trains on draws x ~ p(x|z) too. `can_be_graphed`: whether its terms have been captured in a CUDA graph,
    and were the same: nothing in them may wait for the GPU. `has_critic`: whether its loss has a use for a critic.

    `contrast`, `second_view` and `pairs`: what may be added to the loss of each objective.
    """

    deterministic: ClassVar[bool] = False
    draws_observations: ClassVar[bool] = False
    can_be_graphed: ClassVar[bool] = False
    has_critic: ClassVar[bool] = False
    name: str
    contrast: Contrast = field(default_factory=Contrast)
    second_view: SecondView = field(default_factory=SecondView)
    pairs: Pairs = field(default_factory=Pairs)

    def __post_init__(self) -> None:
        parts = {"objective": self, **{f"objective.{name}": part for name, part in self._all_additions().items()}}
        problems = [problem for section, part in parts.items() for problem in out_of_bounds(part, section)]
        if self.has_critic and self.second_view.has_head:
            problems.append(
                "objective.second_view.loss=head trains a network beside the model, in the place that "
                f"objective={self.name} has for its own; use another loss, or another objective"
            )
        view = self.second_view
        if view.epochs_alone and (view.has_head or not view.weight):
            problems.append(
                f"objective.second_view.epochs_alone is {view.epochs_alone}; "
                "it needs a weight above 0, and another loss than head"
            )
        refuse(problems)

    def _all_additions(self) -> dict[str, Addition]:
        return {name: part for name, part in vars(self).items() if isinstance(part, Addition)}

    @property
    def additions(self) -> dict[str, Addition]:
        """Those that have a weight, by the names of their settings."""
        return {name: part for name, part in self._all_additions().items() if part.weight}

    def prepare(self, model: LatentVariableModel) -> None:  # noqa: B027
        """Called once before training: freezes parameters that the loss does not depend on, which DDP refuses."""

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """The critic that the loss is given, on the CPU; None where the objective needs none."""
        return self.second_view.make_head(model)

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
        """The loss and its parts, and what tells of collapse: the KL and the share of clamped dimensions, [B] each.

        An addition that lacks something in the batch, as in a validation split without it, is left out.
        """
        terms = self.loss(draw)
        for addition in self.additions.values():
            if not addition.lacks(draw.batch):
                added = addition.terms(draw)
                terms |= {**added, "loss": terms["loss"] + addition.weight * sum(added.values())}
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
