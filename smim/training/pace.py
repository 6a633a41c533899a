"""How long a training takes: what was measured of it, and how much of it fits into a time."""

import math
from dataclasses import dataclass, field

# The first steps compile and warm up.
UNSTEADY_STEPS = 5
# Steps that the mean time of a step is over, about.
_RECENT_STEPS = 200
# Before the first validation: a sentence's share of its time in that of a training step, which goes backward too.
_VALIDATION_SHARE = 0.5


@dataclass
class Pace:
    """Seconds that steps and validations take, as they are measured; the others follow from them.

    `epoch_steps`: steps of an epoch. `batches_to_validate`: the size of the validation split in batches of a step.
    `steps_a_save`: optimizer steps from one checkpoint to the next. A place in an epoch is said by `to_epoch_end`, the
    steps that are left of it. A validation is at the end of each epoch, and of the run.
    """

    epoch_steps: int
    batches_to_validate: float
    steps_a_save: int
    num_steps: int = 0
    mean_step: float = 0.0
    save: float = 0.0
    validations: list[float] = field(default_factory=list)

    def add_step(self, seconds: float) -> None:
        """Takes the time of a step. Of the unsteady ones the last alone counts, until a steady one takes its place."""
        self.num_steps += 1
        steady = max(1, self.num_steps - UNSTEADY_STEPS)
        self.mean_step += (seconds - self.mean_step) / min(steady, _RECENT_STEPS)

    @property
    def step(self) -> float:
        """Seconds of a step, with its share of a checkpoint."""
        return self.mean_step + self.save / self.steps_a_save

    @property
    def validation(self) -> float:
        """Seconds of a validation, and of saving after it: the longer of the last two, else by the time of a step."""
        if self.validations:
            return max(self.validations[-2:])
        return self.mean_step * self.batches_to_validate * _VALIDATION_SHARE + self.save

    def seconds_for(self, steps: float, *, to_epoch_end: int) -> float:
        """Seconds of so many more steps, with the validations after and between them."""
        if steps <= 0:
            return 0.0
        between = max(0, math.ceil((steps - to_epoch_end) / self.epoch_steps))
        return steps * self.step + (between + 1) * self.validation

    def steps_within(self, seconds: float, *, to_epoch_end: int) -> int:
        """The most steps that `seconds_for` is not above `seconds` for."""
        step, validation = self.step, self.validation
        this_epoch = to_epoch_end * step + validation
        if seconds < this_epoch:
            return max(0, int((seconds - validation) / step))
        epochs, rest = divmod(seconds - this_epoch, self.epoch_steps * step + validation)
        return to_epoch_end + int(epochs) * self.epoch_steps + max(0, int((rest - validation) / step))


@dataclass
class Budget:
    """When a run is to end: `seconds` after `started`, a reading of a clock. The readings of the same clock are given.

    Two steps are needed to tell how many fit, and steady ones unless a tenth of the time is over before.
    """

    seconds: float
    started: float

    def left(self, now: float) -> float:
        """Seconds until the end."""
        return self.started + self.seconds - now

    def steps_left(self, pace: Pace, *, to_epoch_end: int, now: float) -> float:
        """How many more steps fit, their validations included; infinite where that cannot be told yet."""
        left = self.left(now)
        if left == math.inf:
            return math.inf
        if left <= 0:
            return 0
        steady = pace.num_steps > UNSTEADY_STEPS
        if not steady and (pace.num_steps < 2 or left > 0.9 * self.seconds):
            return math.inf
        return pace.steps_within(left, to_epoch_end=to_epoch_end)
