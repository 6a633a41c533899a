"""Measured times of a training, and estimates of how many steps fit into a time limit."""

import math
from dataclasses import dataclass, field

# The first steps are slower, because they compile and warm up.
UNSTEADY_STEPS = 5
# The approximate number of steps in the running mean of step times.
_RECENT_STEPS = 200
# An estimate before the first validation: its time per sentence, relative to training, which has a backward pass too.
_VALIDATION_SHARE = 0.5


@dataclass
class Pace:
    """Measured seconds of steps, saves and validations, and estimates from them.

    `epoch_steps`: steps per epoch. `batches_to_validate`: the size of the validation split in training batches.
    `steps_a_save`: optimizer steps between checkpoints. In the methods, `to_epoch_end` is the number of remaining steps
    of the current epoch. A validation follows each epoch, and the last step of the run.
    """

    epoch_steps: int
    batches_to_validate: float
    steps_a_save: int
    num_steps: int = 0
    mean_step: float = 0.0
    save: float = 0.0
    validations: list[float] = field(default_factory=list)

    def add_step(self, seconds: float) -> None:
        """Add the time of a step. Only the latest of the first, unsteady steps counts, until the first steady one."""
        self.num_steps += 1
        steady = max(1, self.num_steps - UNSTEADY_STEPS)
        self.mean_step += (seconds - self.mean_step) / min(steady, _RECENT_STEPS)

    @property
    def step(self) -> float:
        """Seconds per step, including its share of the time for checkpoints."""
        return self.mean_step + self.save / self.steps_a_save

    @property
    def validation(self) -> float:
        """Seconds of a validation with the save after it: the maximum of the last two, or an estimate."""
        if self.validations:
            return max(self.validations[-2:])
        return self.mean_step * self.batches_to_validate * _VALIDATION_SHARE + self.save

    def seconds_for(self, steps: float, *, to_epoch_end: int) -> float:
        """Estimate the seconds for `steps` more steps, with the validations between and after them."""
        if steps <= 0:
            return 0.0
        between = max(0, math.ceil((steps - to_epoch_end) / self.epoch_steps))
        return steps * self.step + (between + 1) * self.validation

    def steps_within(self, seconds: float, *, to_epoch_end: int) -> int:
        """The largest number of steps for which `seconds_for` does not exceed `seconds`."""
        step, validation = self.step, self.validation
        this_epoch = to_epoch_end * step + validation
        if seconds < this_epoch:
            return max(0, int((seconds - validation) / step))
        epochs, rest = divmod(seconds - this_epoch, self.epoch_steps * step + validation)
        return to_epoch_end + int(epochs) * self.epoch_steps + max(0, int((rest - validation) / step))


@dataclass
class Budget:
    """The time limit of a run: `seconds` after the clock value `started`. `now` is a value of the same clock.

    An estimate needs two steps. It also needs a steady step, unless a tenth of the time has passed.
    """

    seconds: float
    started: float

    def left(self, now: float) -> float:
        """The remaining seconds."""
        return self.started + self.seconds - now

    def steps_left(self, pace: Pace, *, to_epoch_end: int, now: float) -> float:
        """Estimate how many more steps fit, with validations. Infinite without a limit, or if it is too early."""
        left = self.left(now)
        if left == math.inf:
            return math.inf
        if left <= 0:
            return 0
        steady = pace.num_steps > UNSTEADY_STEPS
        if not steady and (pace.num_steps < 2 or left > 0.9 * self.seconds):
            return math.inf
        return pace.steps_within(left, to_epoch_end=to_epoch_end)
