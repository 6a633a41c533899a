"""The thesis's learning-rate schedule."""

import math
from dataclasses import dataclass


@dataclass
class PlateauSchedule:
    """Multiplies the rate with `decay` once `patience` + 1 validations brought no new best loss.

    The count goes on over improvements and starts anew only after a decay, as in the authors'
    published trainer; the common plateau schedule forgets it at each improvement.
    """

    learning_rate: float
    decay: float
    patience: int
    best: float = math.inf
    without_improvement: int = 0

    def update(self, loss: float) -> bool:
        """Takes a validation loss; True where it is the best so far."""
        if loss < self.best:
            self.best = loss
            return True
        self.without_improvement += 1
        if self.without_improvement > self.patience:
            self.learning_rate *= self.decay
            self.without_improvement = 0
        return False

    def state(self) -> dict[str, float | int | None]:
        """What a checkpoint keeps; JSON has no infinity, so no loss yet is None."""
        return {
            "learning_rate": self.learning_rate,
            "best": None if math.isinf(self.best) else self.best,
            "without_improvement": self.without_improvement,
        }

    def load(self, state: dict) -> None:
        self.learning_rate = state["learning_rate"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.without_improvement = state["without_improvement"]
