"""Learning-rate schedules: the thesis's plateau, a cosine, and a constant rate, each after a linear warm-up."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from smim.training.args import TrainArgs

# The share of a run's steps that its warm-up takes, where the run ends by the clock.
_MOST_WARMUP = 0.05


@dataclass
class Schedule:
    """A constant rate, and what all schedules share; `kept` are the fields that a checkpoint keeps.

    `total_steps` of a run that ends by the clock is estimated anew at each step.
    """

    kept: ClassVar[tuple[str, ...]] = ("best",)
    args: TrainArgs
    total_steps: int | None
    learning_rate: float
    best: float = math.inf

    def rate(self, step: int) -> float:
        """The rate of optimizer step number `step`, counted from 0."""
        return self.rate_when_warm(step) * min(1.0, (step + 1) / max(1, self.warmup_steps))

    @property
    def warmup_steps(self) -> float:
        """The steps that are asked for; of a run that ends by the clock, at most a small share of all."""
        if self.args.max_minutes is None or self.total_steps is None:
            return self.args.warmup_steps
        return min(self.args.warmup_steps, _MOST_WARMUP * self.total_steps)

    def rate_when_warm(self, step: int) -> float:
        """The rate without the warm-up."""
        return self.learning_rate

    def update(self, loss: float) -> bool:
        """Takes a validation loss; True where it is the best so far."""
        is_best = loss < self.best
        self.best = min(loss, self.best)
        return is_best

    @property
    def finished(self) -> bool:
        """True where further training is in vain."""
        return False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; JSON has no infinity, so no loss yet is None."""
        values = {name: getattr(self, name) for name in self.kept}
        return {name: None if value == math.inf else value for name, value in values.items()}

    def load(self, state: dict[str, Any]) -> None:
        for name in self.kept:
            setattr(self, name, math.inf if state[name] is None else state[name])


@dataclass
class PlateauSchedule(Schedule):
    """Multiplies the rate with `decay` once `patience` + 1 validations brought no new best loss.

    The count goes on over improvements and starts anew only after a decay, as in the authors'
    published trainer; the common plateau schedule forgets it at each improvement.
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
    """From `learning_rate`, after the warm-up, along half a cosine to `min_learning_rate` at `total_steps`."""

    def rate_when_warm(self, step: int) -> float:
        assert self.total_steps is not None
        warmup_steps, lowest = self.warmup_steps, self.args.min_learning_rate
        progress = min(1.0, max(0.0, (step - warmup_steps) / max(1, self.total_steps - warmup_steps)))
        return lowest + (self.learning_rate - lowest) * (1 + math.cos(math.pi * progress)) / 2


def make_schedule(args: TrainArgs, *, total_steps: int | None) -> Schedule:
    """The schedule that `args` ask for; `total_steps` of the run, warm-up included, matter to a cosine only.

    Overfitting a few batches makes the validation loss worse: a plateau's rate stays constant then.
    """
    kinds = {"plateau": Schedule if args.overfit_batches else PlateauSchedule, "cosine": CosineSchedule}
    return kinds.get(args.schedule, Schedule)(args, total_steps, args.learning_rate)
