"""The base class of all objectives: a loss as a function of a draw of codes.

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
    """A loss for a latent variable model. Its fields are the settings under `objective.`.

    `deterministic`: the code of x is the mean of q(z|x), and the variance is not trained. `draws_observations`: the
    loss also uses draws x ~ p(x|z). `can_be_graphed`: the terms were captured in a CUDA graph and gave the same values;
    such terms must not wait for the GPU. `has_critic`: the loss can use a critic.

    `contrast`, `second_view` and `pairs` are terms that can be added to any objective.
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
                "objective.second_view.loss=head trains a network beside the model, but "
                f"objective={self.name} already has its own; use another loss, or another objective"
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
        """The additions whose weight is not 0, by the names of their settings."""
        return {name: part for name, part in self._all_additions().items() if part.weight}

    def prepare(self, model: LatentVariableModel) -> None:  # noqa: B027
        """Freeze the parameters that the loss does not use, because DDP refuses them. Called before training."""

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        """Make the critic that the loss receives, on the CPU; None if the objective needs none."""
        return self.second_view.make_head(model)

    def weight(self, step: int | None) -> float:
        """The annealed weight after `step` optimizer steps. Its final value is 1, which `step=None` returns."""
        return 1.0

    def settled(self, step: int) -> bool:
        """Whether annealing is complete: the loss is the same function of model and batch from this step on."""
        return self.weight(step) == 1.0

    @property
    def most_encoder_steps(self) -> int:
        """The largest number of steps that train only the encoder before each step (`smim.training.aggressive`)."""
        return 0

    @abstractmethod
    def loss(self, draw: Draw) -> Terms:
        """Return `loss` of each observation, in nats [B], and further terms to log, [B] each.

        An objective with a critic also returns `critic_loss`. One backward pass serves both losses. So `loss` must have
        no gradient in the critic's weights (see `frozen`), and `critic_loss` none in the model's weights.
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
        """Draw codes for a batch (see `draw`) and return the terms, [B] each."""
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
        """Draw z ~ q(z|x) for each observation, or take the mean if the objective is deterministic.

        `noise` ~ N(0, I) [B, D] makes the draw of z reproducible. All other draws use torch's generator.
        """
        posterior = model.posterior(batch)
        z = posterior.mean if self.deterministic else posterior.sample(noise)
        return Draw(model, batch, posterior, z, step, critic)

    def terms_of(self, draw: Draw) -> Terms:
        """Return the loss, its parts, and two signs of collapse: the KL and the share of clamped dimensions, [B] each.

        An addition is omitted if the batch lacks its data, as in a validation split without teacher vectors.
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
    """Apply the critic with a gradient in its inputs, but none in its weights."""
    weights = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    return torch.func.functional_call(critic, weights, inputs)
