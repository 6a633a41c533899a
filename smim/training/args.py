"""Settings of the training loop, `train.` on the command line."""

import operator
from dataclasses import dataclass, field, fields
from enum import Flag, auto
from typing import Any

from smim.errors import UserError, nearest, not_among

OPTIMIZERS = ["adam", "adamw", "sgd"]
SCHEDULES = ["plateau", "cosine", "constant"]
PRECISIONS = ["auto", "fp32", "bf16"]
TRACKERS = ["tensorboard", "wandb"]


class Decides(Flag):
    """What a setting decides, and so what a run that goes on with another value of it does.

    `NOTHING` of a run's losses, or only its `LENGTH`: `train.resume=auto` takes it (but another end of a cosine, which
    decides all rates). Everything else decides the losses, and only a checkpoint that is named is gone on from: with
    what it has (`LOSSES`), or with the epoch's batches (`BATCHES`), the schedule (`RATE`) or the optimizer's means
    (`MEANS`) begun anew.
    """

    NOTHING = 0
    LENGTH = auto()
    LOSSES = auto()
    BATCHES = auto()
    RATE = auto()
    MEANS = auto()


def setting(default: Any, decides: Decides, **bounds: Any) -> Any:
    """A field with what it `decides`, and its `bounds`: `least`, `above`, `below`, or the words that it is `among`."""
    return field(default=default, metadata={"decides": decides, **bounds})


_BOUNDS = {
    "least": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "below": (operator.lt, "below"),
}


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

    seed: int = setting(0, Decides.BATCHES, least=0)
    max_epochs: int = setting(100, Decides.LENGTH, least=1)
    max_steps: int | None = setting(None, Decides.LENGTH, least=1)
    batch_size: int | None = setting(20, Decides.BATCHES, least=1)
    tokens_per_batch: int | None = setting(None, Decides.BATCHES, least=1)
    accumulation_steps: int = setting(1, Decides.LOSSES, least=1)
    length_window: int = setting(100, Decides.BATCHES, least=1)
    shuffle_window: int = setting(1_000_000, Decides.BATCHES, least=1)
    max_length: int | None = setting(None, Decides.BATCHES, least=1)
    overfit_batches: int | None = setting(None, Decides.BATCHES | Decides.RATE, least=1)
    precision: str = setting("auto", Decides.LOSSES, among=PRECISIONS)
    optimizer: str = setting("adam", Decides.MEANS, among=OPTIMIZERS)
    learning_rate: float = setting(1e-3, Decides.RATE, above=0)
    weight_decay: float = setting(0.0, Decides.LOSSES, least=0)
    adam_betas: list[float] = field(default_factory=lambda: [0.9, 0.999], metadata={"decides": Decides.LOSSES})
    momentum: float = setting(0.0, Decides.MEANS, least=0, below=1)
    grad_clip: float = setting(0.25, Decides.LOSSES, above=0)
    ema_decay: float | None = setting(None, Decides.LOSSES, above=0, below=1)
    schedule: str = setting("plateau", Decides.RATE, among=SCHEDULES)
    warmup_steps: int = setting(0, Decides.LOSSES, least=0)
    learning_rate_decay: float = setting(0.25, Decides.LOSSES, above=0, below=1)
    patience: int = setting(2, Decides.LOSSES, least=0)
    min_learning_rate: float = setting(1e-8, Decides.LENGTH, least=0)
    log_every: int = setting(100, Decides.NOTHING, least=1)
    checkpoint_every: int = setting(1000, Decides.NOTHING, least=1)
    keep_checkpoints: int = setting(2, Decides.NOTHING, least=1)
    resume: str = setting("never", Decides.NOTHING)
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"], metadata={"decides": Decides.NOTHING})
    compile: bool = setting(False, Decides.NOTHING)
    cuda_graphs: bool = setting(False, Decides.NOTHING)
    profile_steps: int = setting(0, Decides.NOTHING, least=0)
    process_timeout: int = setting(1800, Decides.NOTHING, least=1)

    def __post_init__(self) -> None:
        if self.tokens_per_batch is not None:
            object.__setattr__(self, "batch_size", None)
        problems = [
            f"train.{each.name} is {value}, it must be {words} {each.metadata[bound]}"
            for each in fields(self)
            if (value := getattr(self, each.name)) is not None
            for bound, (holds, words) in _BOUNDS.items()
            if bound in each.metadata and not holds(value, each.metadata[bound])
        ]
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            problems.append(f"train.adam_betas is {self.adam_betas}, it must be two numbers in [0, 1)")
        if self.batch_size is None and self.tokens_per_batch is None:
            problems.append("train.batch_size and train.tokens_per_batch are both null; give one of them")
        if self.min_learning_rate > self.learning_rate > 0:
            problems.append(
                f"train.min_learning_rate is {self.min_learning_rate}, it must not be above "
                f"train.learning_rate, {self.learning_rate}"
            )
        if self.momentum and self.optimizer != "sgd":
            problems.append(f"train.momentum is {self.momentum}, which train.optimizer={self.optimizer} does not have")
        words = {each.name: each.metadata["among"] for each in fields(self) if "among" in each.metadata}
        problems += not_among(self, "train", **words)
        unknown = [tracker for tracker in self.trackers if tracker not in TRACKERS]
        problems += [f"train.trackers has {tracker!r}; {nearest(tracker, TRACKERS)}" for tracker in unknown]
        if problems:
            raise UserError("; ".join(problems))

    def batching(self) -> dict[str, Any]:
        """The settings that `training_order` and `epoch_batches` make batches by."""
        names = ("batch_size", "tokens_per_batch", "length_window", "shuffle_window", "max_length")
        return {name: getattr(self, name) for name in names}

    def decides(self, name: str) -> Decides:
        """What the setting of this name decides in this run: the length of a cosine is a matter of its losses."""
        known = self.__dataclass_fields__.get(name)
        decided = known.metadata["decides"] if known else Decides.LOSSES
        return Decides.LOSSES if decided is Decides.LENGTH and self.schedule == "cosine" else decided
