"""Settings of the training loop, `train.` on the command line."""

from dataclasses import dataclass, field

from smim.errors import UserError, nearest

OPTIMIZERS = ["adam", "sgd"]
PRECISIONS = ["auto", "fp32", "bf16"]
TRACKERS = ["tensorboard", "wandb"]


@dataclass(frozen=True)
class TrainArgs:
    """How a model is trained; the defaults are the thesis's for PTB (section 7.2).

    `batch_size`: sentences that one optimizer step sees over all processes and accumulation steps.
    `length_window`: sentences are sorted by length within so many batches; 1 mixes lengths in each batch.
    `shuffle_window`: sentences that are shuffled, and held in memory as row numbers, together; a corpus of
    more is visited in such groups, random stretches of it in each (about 50 bytes a sentence of the window).
    `max_length`: cut training sentences after so many tokens; null keeps them whole.
    `patience`: validations without improvement that are let pass before the rate is multiplied with
    `learning_rate_decay`; training ends when it falls below `min_learning_rate`.
    `checkpoint_every`, `log_every`: optimizer steps. `resume`: never, auto, or a checkpoint's path.
    """

    seed: int = 0
    max_epochs: int = 100
    max_steps: int | None = None
    batch_size: int = 20
    accumulation_steps: int = 1
    length_window: int = 100
    shuffle_window: int = 1_000_000
    max_length: int | None = None
    precision: str = "auto"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    grad_clip: float = 0.25
    learning_rate_decay: float = 0.25
    patience: int = 2
    min_learning_rate: float = 1e-8
    log_every: int = 100
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    resume: str = "never"
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])

    def __post_init__(self) -> None:
        problems = [
            f"train.{name} is {getattr(self, name)}, it must be at least 1"
            for name in (
                *("max_epochs", "batch_size", "accumulation_steps", "length_window", "shuffle_window"),
                *("max_steps", "max_length", "log_every", "checkpoint_every", "keep_checkpoints"),
            )
            if getattr(self, name) is not None and getattr(self, name) < 1
        ]
        problems += [
            f"train.{name} is {getattr(self, name)}, it must be above 0"
            for name in ("learning_rate", "grad_clip", "learning_rate_decay")
            if not getattr(self, name) > 0
        ]
        if self.learning_rate_decay >= 1:
            problems.append(f"train.learning_rate_decay is {self.learning_rate_decay}, it must be below 1")
        for name in ("seed", "patience", "min_learning_rate"):
            if getattr(self, name) < 0:
                problems.append(f"train.{name} is {getattr(self, name)}, it must not be negative")
        choices = [("optimizer", self.optimizer, OPTIMIZERS), ("precision", self.precision, PRECISIONS)]
        choices += [("trackers", tracker, TRACKERS) for tracker in self.trackers]
        for name, value, valid in choices:
            if value not in valid:
                problems.append(f"train.{name} is {value!r}; {nearest(value, valid)}")
        if problems:
            raise UserError("; ".join(problems))
