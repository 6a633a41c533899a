"""Settings of the training loop, `train.` on the command line."""

from dataclasses import dataclass, field
from typing import Any

from smim.errors import UserError, nearest, not_among, too_low

OPTIMIZERS = ["adam", "adamw", "sgd"]
SCHEDULES = ["plateau", "cosine", "constant"]
PRECISIONS = ["auto", "fp32", "bf16"]
TRACKERS = ["tensorboard", "wandb"]

_BATCHING = ("batch_size", "tokens_per_batch", "length_window", "shuffle_window", "max_length")
_DECIDES_LOSSES = (
    *("seed", *_BATCHING, "accumulation_steps", "overfit_batches", "precision", "optimizer", "learning_rate"),
    *("weight_decay", "adam_betas", "momentum", "grad_clip", "schedule", "warmup_steps", "learning_rate_decay"),
    *("patience", "ema_decay"),
)
# They say where the cosine ends; otherwise only how long a run goes on.
_DECIDES_COSINE = ("max_epochs", "max_steps", "min_learning_rate")


@dataclass(frozen=True)
class TrainArgs:
    """How a model is trained; the defaults are the thesis's for PTB (section 7.2).

    Data. `batch_size`: sentences that one optimizer step sees over all processes and accumulation steps.
    `tokens_per_batch` takes its place, which is None then: tokens of a step, padding and `<eos>` counted, over
    all processes and accumulation steps. `accumulation_steps`: parts that a process takes its share of a batch in.
    `length_window`: sentences are sorted by length within so many batches; 1 mixes lengths in each batch.
    `shuffle_window`: sentences that are shuffled, and held in memory as row numbers, together; a corpus of
    more is visited in such groups, random stretches of it in each (about 60 bytes a sentence of the window).
    `max_length`: cut training sentences after so many tokens; None keeps them whole.
    `overfit_batches`: train on the first so many batches of the first epoch, over and over, for debugging;
    a plateau's rate stays then.

    Optimizer. `weight_decay`: AdamW's is decoupled, the others' an L2 penalty; see `make_optimizer` for what it acts
    on. `adam_betas`: decay of the means of the gradient and of its square, Adam's and AdamW's. `momentum`: SGD's.
    `grad_clip`: L2 norm. `ema_decay`: share that an exponential average of the weights keeps at each step; the
    averaged weights are validated and saved as the model. None: no average.

    Schedule. `schedule`: plateau multiplies the rate with `learning_rate_decay` once more than `patience` validations
    brought no new best, and ends the run when it falls below `min_learning_rate`; cosine goes down to
    `min_learning_rate` at the run's end; constant stays. Each begins with `warmup_steps` optimizer steps of a rate
    that grows linearly.

    Run. `log_every`, `checkpoint_every`: optimizer steps. `keep_checkpoints`: the newest so many. `resume`: never,
    auto, or a checkpoint's path. `compile`: torch.compile of transformers. `cuda_graphs`: where one
    process trains a GRU on a GPU in batches of `batch_size`, the step is captured for each length and replayed.
    `profile_steps`: steps that torch's profiler records, after ten others, into `run.dir`/profile. `process_timeout`:
    seconds that a process waits for the others before the run ends with an error.
    """

    seed: int = 0
    max_epochs: int = 100
    max_steps: int | None = None
    batch_size: int | None = 20
    tokens_per_batch: int | None = None
    accumulation_steps: int = 1
    length_window: int = 100
    shuffle_window: int = 1_000_000
    max_length: int | None = None
    overfit_batches: int | None = None
    precision: str = "auto"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    adam_betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    momentum: float = 0.0
    grad_clip: float = 0.25
    ema_decay: float | None = None
    schedule: str = "plateau"
    warmup_steps: int = 0
    learning_rate_decay: float = 0.25
    patience: int = 2
    min_learning_rate: float = 1e-8
    log_every: int = 100
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    resume: str = "never"
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    compile: bool = False
    cuda_graphs: bool = False
    profile_steps: int = 0
    process_timeout: int = 1800

    def __post_init__(self) -> None:
        if self.tokens_per_batch is not None:
            object.__setattr__(self, "batch_size", None)
        problems = self._out_of_range()
        if self.batch_size is None and self.tokens_per_batch is None:
            problems.append("train.batch_size and train.tokens_per_batch are both null; give one of them")
        if self.min_learning_rate > self.learning_rate > 0:
            problems.append(
                f"train.min_learning_rate is {self.min_learning_rate}, it must not be above "
                f"train.learning_rate, {self.learning_rate}"
            )
        if self.momentum and self.optimizer != "sgd":
            problems.append(f"train.momentum is {self.momentum}, which train.optimizer={self.optimizer} does not have")
        problems += not_among(self, "train", optimizer=OPTIMIZERS, precision=PRECISIONS, schedule=SCHEDULES)
        unknown = [tracker for tracker in self.trackers if tracker not in TRACKERS]
        problems += [f"train.trackers has {tracker!r}; {nearest(tracker, TRACKERS)}" for tracker in unknown]
        if problems:
            raise UserError("; ".join(problems))

    def batching(self) -> dict[str, Any]:
        """The settings that `training_order` and `epoch_batches` make batches by."""
        return {name: getattr(self, name) for name in _BATCHING}

    def identity(self) -> dict[str, Any]:
        """Every setting that decides the losses: a run goes on only with the same ones."""
        names = _DECIDES_LOSSES + (_DECIDES_COSINE if self.schedule == "cosine" else ())
        return {name: getattr(self, name) for name in names}

    def _out_of_range(self) -> list[str]:
        at_least_one = (
            *("max_epochs", "max_steps", "batch_size", "tokens_per_batch", "accumulation_steps", "length_window"),
            *("shuffle_window", "max_length", "overfit_batches", "log_every", "checkpoint_every"),
            *("keep_checkpoints", "process_timeout"),
        )
        at_least_zero = (
            *("seed", "weight_decay", "momentum", "warmup_steps", "patience", "min_learning_rate"),
            "profile_steps",
        )
        problems = too_low(self, "train", **dict.fromkeys(at_least_one, 1), **dict.fromkeys(at_least_zero, 0))
        problems += [
            f"train.{name} is {getattr(self, name)}, it must be above 0"
            for name in ("learning_rate", "grad_clip", "learning_rate_decay", "ema_decay")
            if getattr(self, name) is not None and not getattr(self, name) > 0
        ]
        problems += [
            f"train.{name} is {getattr(self, name)}, it must be below 1"
            for name in ("learning_rate_decay", "momentum", "ema_decay")
            if getattr(self, name) is not None and getattr(self, name) >= 1
        ]
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            problems.append(f"train.adam_betas is {self.adam_betas}, it must be two numbers in [0, 1)")
        return problems
