"""Learning-rate schedules: the thesis's plateau, cosine, and constant, each with a linear warm-up."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from smim.training.args import TrainArgs

# The largest share of warm-up steps in a run that ends after `max_minutes`.
_MOST_WARMUP = 0.05


@dataclass
class Schedule:
    """A constant learning rate, and the base class of all schedules. A checkpoint stores the fields in `kept`.

    With `max_minutes`, `total_steps` is an estimate that is updated at each step.
    """

    kept: ClassVar[tuple[str, ...]] = ("best",)
    args: TrainArgs
    total_steps: int | None
    learning_rate: float
    best: float = math.inf

    def rate(self, step: int) -> float:
        """The learning rate of optimizer step number `step`, counted from 0."""
        return self.rate_when_warm(step) * min(1.0, (step + 1) / max(1, self.warmup_steps))

    @property
    def warmup_steps(self) -> float:
        """The number of warm-up steps from the settings; with `max_minutes` at most a small share of all steps."""
        if self.args.max_minutes is None or self.total_steps is None:
            return self.args.warmup_steps
        return min(self.args.warmup_steps, _MOST_WARMUP * self.total_steps)

    def rate_when_warm(self, step: int) -> float:
        """The learning rate without the warm-up."""
        return self.learning_rate

    def update(self, loss: float) -> bool:
        """Update the schedule with a validation loss. Return True if it is the best so far."""
        is_best = loss < self.best
        self.best = min(loss, self.best)
        return is_best

    @property
    def finished(self) -> bool:
        """Whether the schedule ends the run."""
        return False

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint. JSON has no infinity, so None stands for it (no loss yet)."""
        values = {name: getattr(self, name) for name in self.kept}
        return {name: None if value == math.inf else value for name, value in values.items()}

    def load(self, state: dict[str, Any]) -> None:
        for name in self.kept:
            setattr(self, name, math.inf if state[name] is None else state[name])


@dataclass
class PlateauSchedule(Schedule):
    """A schedule that multiplies the learning rate by `learning_rate_decay` after `patience` + 1 bad validations.

    A validation is bad if it brings no new best loss. Only a decay resets the count, as in the authors' published
    trainer. The usual plateau schedule also resets it at each improvement.
    """

    kept = ("best", "learning_rate", "without_improvement")
    without_improvement: int = 0

    def update(self, loss: float) -> bool:
        if super().update(loss):
            return True
        self.without_improvement += 1
        if self.without_improvement > self.args.patience:
            self.learning_rate *= self.args.learning_rate_decay
            self.without_improvement = 0
        return False

    @property
    def finished(self) -> bool:
        return self.learning_rate < self.args.min_learning_rate


class CosineSchedule(Schedule):
    """A half cosine from `learning_rate`, after the warm-up, to `min_learning_rate` at `total_steps`."""

    def rate_when_warm(self, step: int) -> float:
        assert self.total_steps is not None
        warmup_steps, lowest = self.warmup_steps, self.args.min_learning_rate
        progress = min(1.0, max(0.0, (step - warmup_steps) / max(1, self.total_steps - warmup_steps)))
        return lowest + (self.learning_rate - lowest) * (1 + math.cos(math.pi * progress)) / 2


def make_schedule(args: TrainArgs, *, total_steps: int | None) -> Schedule:
    """Make the schedule of `args`. Only a cosine needs `total_steps`, the run's steps with the warm-up.

    With `overfit_batches` a plateau's rate stays constant, because the validation loss gets worse.
    """
    kinds = {"plateau": Schedule if args.overfit_batches else PlateauSchedule, "cosine": CosineSchedule}
    return kinds.get(args.schedule, Schedule)(args, total_steps, args.learning_rate)
