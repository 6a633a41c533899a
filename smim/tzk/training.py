"""Training of the t-flow by maximum likelihood, and of knowledge types by MIM learning with a fixed t-flow.

Shapes: N sentences, B codes of a batch, T dimensions of a code, C of a knowledge's.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from smim.errors import SmimError, UserError, too_low
from smim.model.distributions import DiagonalGaussian
from smim.progress import track
from smim.tzk.knowledge import Knowledge, KnowledgeArgs
from smim.tzk.prior import CodePrior, PriorArgs

M = TypeVar("M", bound=nn.Module)

# The posteriors of sentences without a label, and of those with it; fields [N, T] each.
Labelled = tuple[DiagonalGaussian, DiagonalGaussian]

_VALIDATE_EVERY = 100
_MAX_GRADIENT = 10.0
_HELD_OUT = 0.1


@dataclass(frozen=True)
class FitArgs:
    """The settings of all trainings here. They use Adam, whose learning rate rises to `learning_rate`, then falls to 0.

    A batch is `batch_size` codes, newly drawn from their posteriors. A tenth of the sentences is held out, and the
    weights that are best on it are kept. `max_sentences`: the number of random sentences of the corpus in use; for a
    label, at most half of them with it, and half without.
    """

    num_optimizer_steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 1e-3
    max_sentences: int = 200_000
    seed: int = 0

    def __post_init__(self) -> None:
        problems = too_low(self, "fit", num_optimizer_steps=10, batch_size=2, max_sentences=20, seed=0)
        if not self.learning_rate > 0:
            problems.append(f"fit.learning_rate is {self.learning_rate}, but it must be above 0")
        if problems:
            raise UserError("; ".join(problems))


def rows_of(codes: DiagonalGaussian, rows: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(codes.mean[rows], codes.log_variance[rows])


def draw(codes: DiagonalGaussian, generator: torch.Generator, *, num: int | None = None) -> Tensor:
    """Draw a code from each posterior [N, T], or from `num` random ones (with replacement)."""
    if num is not None:
        codes = rows_of(codes, torch.randint(len(codes.mean), (num,), generator=generator))
    return codes.sample(torch.randn(codes.mean.shape, generator=generator))


def hold_out(codes: DiagonalGaussian, *, seed: int) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """Split randomly into nine tenths of the sentences, and a tenth (at least one sentence)."""
    order = torch.randperm(len(codes.mean), generator=torch.Generator().manual_seed(seed))
    num = max(1, round(_HELD_OUT * len(order)))
    return rows_of(codes, order[num:]), rows_of(codes, order[:num])


def fit_prior(train: DiagonalGaussian, valid: DiagonalGaussian, *, args: PriorArgs, fit: FitArgs) -> CodePrior:
    """Learn p(t) of draws from the sentences' posteriors, that is, their aggregate posterior."""
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        prior = CodePrior(train.mean.shape[1], args)
    prior.standardization.fit(train)
    held_out = draw(valid, torch.Generator().manual_seed(fit.seed))

    def loss(generator: torch.Generator) -> Tensor:
        return -prior.log_prob(draw(train, generator, num=fit.batch_size)).mean()

    return _fit(prior, loss, lambda: -prior.log_prob(held_out).mean(), fit=fit, name="the t-flow")


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
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        knowledge = Knowledge(prior.dim, args, frequency=frequency)

    def loss_of(codes_BT: Tensor, exists: bool, encoding: bool, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            point = prior.point(codes_BT)
        noise_BC = torch.randn(len(codes_BT), args.code_dim, generator=generator)
        return knowledge.loss(point, exists=exists, noise_BC=noise_BC, encoding=encoding).mean()

    def loss(generator: torch.Generator) -> Tensor:
        encoding = bool(torch.rand((), generator=generator) < 0.5)
        halves = [(e, draw(train[e], generator, num=fit.batch_size // 2)) for e in (False, True)]
        return torch.stack([loss_of(codes, e, encoding, generator) for e, codes in halves]).mean()

    def validation() -> Tensor:
        generator = torch.Generator().manual_seed(fit.seed)
        halves = [(e, draw(valid[e], generator)) for e in (False, True)]
        losses = [loss_of(codes, e, encoding, generator) for e, codes in halves for encoding in (False, True)]
        return torch.stack(losses).mean()

    return _fit(knowledge, loss, validation, fit=fit, name=name)


def _fit(
    module: M,
    loss: Callable[[torch.Generator], Tensor],
    validation: Callable[[], Tensor],
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
