"""Learning-rate schedules: the thesis's plateau, a cosine, and a constant rate, each after a linear warm-up."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from smim.training.args import TrainArgs


@dataclass(kw_only=True)
class Schedule:
    """A constant rate, and what all schedules share; `kept` are the fields that a checkpoint keeps."""

    kept: ClassVar[tuple[str, ...]] = ("best",)
    learning_rate: float
    warmup_steps: int
    best: float = math.inf

    def rate(self, step: int) -> float:
        """The rate of optimizer step number `step`, counted from 0."""
        return self.rate_when_warm(step) * min(1.0, (step + 1) / max(1, self.warmup_steps))

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


@dataclass(kw_only=True)
class PlateauSchedule(Schedule):
    """Multiplies the rate with `decay` once `patience` + 1 validations brought no new best loss.

    The count goes on over improvements and starts anew only after a decay, as in the authors'
    published trainer; the common plateau schedule forgets it at each improvement.
    """

    kept = ("best", "learning_rate", "without_improvement")
    decay: float
    patience: int
    min_learning_rate: float
    without_improvement: int = 0

    def update(self, loss: float) -> bool:
        if super().update(loss):
            return True
        self.without_improvement += 1
        if self.without_improvement > self.patience:
            self.learning_rate *= self.decay
            self.without_improvement = 0
        return False

    @property
    def finished(self) -> bool:
        return self.learning_rate < self.min_learning_rate


@dataclass(kw_only=True)
class CosineSchedule(Schedule):
    """From `learning_rate`, after the warm-up, along half a cosine to `min_learning_rate` at `total_steps`."""

    min_learning_rate: float
    total_steps: int

    def rate_when_warm(self, step: int) -> float:
        steps = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, max(0.0, (step - self.warmup_steps) / steps))
        above = self.learning_rate - self.min_learning_rate
        return self.min_learning_rate + above * (1 + math.cos(math.pi * progress)) / 2


def make_schedule(args: TrainArgs, *, total_steps: int | None) -> Schedule:
    """The schedule that `args` ask for; `total_steps` of the run, warm-up included, matter to a cosine only.

    Overfitting a few batches makes the validation loss worse: a plateau's rate stays constant then.
    """
    if args.schedule == "plateau" and not args.overfit_batches:
        return PlateauSchedule(
            learning_rate=args.learning_rate,
            warmup_steps=args.warmup_steps,
            decay=args.learning_rate_decay,
            patience=args.patience,
            min_learning_rate=args.min_learning_rate,
        )
    if args.schedule != "cosine":
        return Schedule(learning_rate=args.learning_rate, warmup_steps=args.warmup_steps)
    assert total_steps is not None
    return CosineSchedule(
        learning_rate=args.learning_rate,
        warmup_steps=args.warmup_steps,
        min_learning_rate=args.min_learning_rate,
        total_steps=total_steps,
    )
