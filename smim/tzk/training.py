"""Training of the t-flow by maximum likelihood, and of knowledge types by MIM learning, later or together with it.

Shapes: N sentences, B codes of a batch, T dimensions of a code, C of a knowledge's.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from smim.errors import SmimError
from smim.model.distributions import DiagonalGaussian
from smim.progress import track
from smim.tzk.args import FitArgs, GlowArgs, KnowledgeArgs, PriorArgs
from smim.tzk.knowledge import Knowledge
from smim.tzk.prior import CodePrior

if TYPE_CHECKING:
    from smim.tzk.images import Dequantised

M = TypeVar("M", bound=nn.Module)

# The posteriors of N sentences, fields [N, T], or N images.
Observations: TypeAlias = "DiagonalGaussian | Dequantised"
D = TypeVar("D", bound="DiagonalGaussian | Dequantised")

# Observations without a label, and with it.
Labelled: TypeAlias = "tuple[DiagonalGaussian, DiagonalGaussian] | tuple[Dequantised, Dequantised]"

# The mean loss of a new batch, and that of the held-out observations.
Loss = Callable[[torch.Generator], Tensor]
Validation = Callable[[], Tensor]

_VALIDATE_EVERY = 100
_MAX_GRADIENT = 10.0
_HELD_OUT = 0.1


def rows_of(observations: D, rows: Tensor) -> D:
    return replace(observations, **{each.name: getattr(observations, each.name)[rows] for each in fields(observations)})


def draw(observations: Observations, generator: torch.Generator, *, num: int | None = None) -> Tensor:
    """Draw a value of each observation [N, T], or of `num` random ones (with replacement)."""
    if num is not None:
        observations = rows_of(observations, torch.randint(_number(observations), (num,), generator=generator))
    return observations.sample(torch.randn(observations.mean.shape, generator=generator))


def hold_out(observations: D, *, seed: int, most: int | None = None) -> tuple[D, D]:
    """Split randomly into nine tenths, and a tenth (at least one, and not more than `most`)."""
    order = torch.randperm(_number(observations), generator=torch.Generator().manual_seed(seed))
    num = max(1, round(_HELD_OUT * len(order)))
    num = num if most is None else min(num, most)
    return rows_of(observations, order[num:]), rows_of(observations, order[:num])


def _number(observations: Observations) -> int:
    return len(getattr(observations, fields(observations)[0].name))


def fit_prior(train: D, valid: D, *, args: PriorArgs | GlowArgs, fit: FitArgs) -> CodePrior:
    """Learn p(t) of draws from the sentences' posteriors, that is, their aggregate posterior, or of images."""
    prior, loss, validation = _prior_to_fit(train, valid, args, fit)
    return _fit(prior, loss, validation, fit=fit, name="the t-flow")


def _prior_to_fit(train: D, valid: D, args: Any, fit: FitArgs) -> tuple[CodePrior, Loss, Validation]:
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        prior: CodePrior = args.make(train)
    held_out = draw(valid, torch.Generator().manual_seed(fit.seed))

    def loss(generator: torch.Generator) -> Tensor:
        return -prior.log_prob(draw(train, generator, num=fit.batch_size)).mean()

    return prior, loss, lambda: -prior.log_prob(held_out).mean()


def fit_knowledge(
    prior: CodePrior,
    train: Labelled,
    valid: Labelled,
    *,
    frequency: float,
    args: KnowledgeArgs,
    fit: FitArgs,
    name: str,
) -> Knowledge:
    """Learn the knowledge type of a label. Half of each batch are codes with it, half are codes without.

    `frequency`: the label's share of the corpus.
    """
    data = LabelData(name, frequency, 0, train, valid)
    knowledge, loss, validation = _knowledge_to_fit(prior, data, args, fit, jointly=False)
    return _fit(knowledge, loss, validation, fit=fit, name=name)


@dataclass(frozen=True)
class LabelData:
    """What a label is learned from: observations without it and with it.

    `frequency`: the label's share of the corpus. `number`: of all rows with it.
    """

    name: str
    frequency: float
    number: int
    train: Labelled
    valid: Labelled


def fit_jointly(
    train: D, valid: D, labels: Sequence[LabelData], *, args: Any, knowledge_args: KnowledgeArgs, fit: FitArgs
) -> tuple[CodePrior, list[Knowledge]]:
    """Learn p(t) and the labels together (section 8.3.2).

    The loss is -log p(t) for a batch of all observations, and for each label -1/2 (log p(k|t) + log p(t|k) + log p(k))
    for a batch with as many with the label as without. Eq. F.1 also subtracts half of log p(t) for each label. Here it
    is left out: p(t) would have no weight with two labels, and a negative one with more.
    """
    prior, loss_of_prior, validation_of_prior = _prior_to_fit(train, valid, args, fit)
    parts: list[tuple[Knowledge, Loss, Validation]] = [
        _knowledge_to_fit(prior, each, knowledge_args, fit, jointly=True) for each in labels
    ]
    module = nn.ModuleList([prior, *(knowledge for knowledge, _, _ in parts)])

    def loss(generator: torch.Generator) -> Tensor:
        return loss_of_prior(generator) + torch.stack([of_label(generator) for _, of_label, _ in parts]).sum()

    def validation() -> Tensor:
        return validation_of_prior() + torch.stack([of_label() for _, _, of_label in parts]).sum()

    _fit(module, loss, validation, fit=fit, name="the t-flow and the labels")
    return prior, [knowledge for knowledge, _, _ in parts]


def _knowledge_to_fit(
    prior: CodePrior, data: LabelData, args: KnowledgeArgs, fit: FitArgs, *, jointly: bool
) -> tuple[Knowledge, Loss, Validation]:
    """Make a knowledge type, its loss and its validation. `jointly`: the prior has a gradient, and p(t) is left out."""
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        knowledge = Knowledge(prior.dim, args, frequency=data.frequency, shapes=prior.shapes)

    def loss_of(codes_BT: Tensor, exists: bool, encoding: bool, draw_t: bool, generator: torch.Generator) -> Tensor:
        noise_BC = torch.randn(len(codes_BT), args.code_dim, generator=generator)
        if draw_t:
            with torch.no_grad():  # a gradient through the draw would reward a decoder of low entropy
                c_BC = knowledge.code_prior.sample(noise_BC)
                z_BT = knowledge.conditional(exists).sample(c_BC, torch.randn(codes_BT.shape, generator=generator))
                codes_BT = prior.standardization.restore(prior.flow.from_base(z_BT))
        with torch.set_grad_enabled(jointly and torch.is_grad_enabled()):
            point = prior.point(codes_BT)
        loss_B = knowledge.loss(point, exists=exists, noise_BC=noise_BC, encoding=encoding)
        return (loss_B + 0.5 * point.log_prior if jointly else loss_B).mean()

    def loss(generator: torch.Generator) -> Tensor:
        encoding = bool(torch.rand((), generator=generator) < 0.5)
        halves = [(e, draw(data.train[e], generator, num=fit.batch_size // 2)) for e in (False, True)]
        draw_t = fit.draw_t and not encoding
        return torch.stack([loss_of(codes, e, encoding, draw_t, generator) for e, codes in halves]).mean()

    def validation() -> Tensor:
        # Without `draw_t`, because a decoder of low entropy explains its own draws best.
        generator = torch.Generator().manual_seed(fit.seed)
        halves = [(e, draw(data.valid[e], generator)) for e in (False, True)]
        losses = [loss_of(codes, e, encoding, False, generator) for e, codes in halves for encoding in (False, True)]
        return torch.stack(losses).mean()

    return knowledge, loss, validation


def _fit(
    module: M,
    loss: Loss,
    validation: Validation,
    *,
    fit: FitArgs,
    name: str,
) -> M:
    generator = torch.Generator().manual_seed(fit.seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=fit.learning_rate)
    schedule = OneCycleLR(optimizer, fit.learning_rate, total_steps=fit.num_optimizer_steps)
    best, best_state = math.inf, deepcopy(module.state_dict())
    for step in track(range(1, fit.num_optimizer_steps + 1), f"training {name}"):
        optimizer.zero_grad()
        loss(generator).backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), _MAX_GRADIENT)
        if not torch.isfinite(norm):
            raise SmimError(f"the training of {name} diverged after {step - 1} steps; lower the learning rate")
        optimizer.step()
        schedule.step()
        if step % _VALIDATE_EVERY == 0 or step == fit.num_optimizer_steps:
            with torch.no_grad():
                value = float(validation())
            if value < best:
                best, best_state = value, deepcopy(module.state_dict())
    module.load_state_dict(best_state)
    return module.eval()
