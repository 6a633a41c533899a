"""Settings of the training loop, `train.` on the command line."""

from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any

from smim.errors import nearest, refuse
from smim.schema import bounded, out_of_bounds

OPTIMIZERS = ["adam", "adamw", "sgd"]
SCHEDULES = ["plateau", "cosine", "constant"]
PRECISIONS = ["auto", "fp32", "bf16"]
TRACKERS = ["tensorboard", "wandb"]
_SENTENCES_A_BATCH = 20


class Decides(Flag):
    """What a setting decides, and so whether a run may go on from a checkpoint with another value.

    It may with `train.resume=auto` where the setting decides `NOTHING` of the losses, or only the `LENGTH` of the run.
    A cosine goes on as that of the new length. Every other setting decides the losses, and may be another only where
    the checkpoint is named. Then the rest goes on (`LOSSES`), but the batches of the epoch (`BATCHES`), the schedule
    (`RATE`) or the optimizer (`MEANS`, of gradients) begin anew.
    """

    NOTHING = 0
    LENGTH = auto()
    LOSSES = auto()
    BATCHES = auto()
    RATE = auto()
    MEANS = auto()


@dataclass(frozen=True)
class TrainArgs:
    """How a model is trained; the defaults are the thesis's for PTB (section 7.2).

    Length. The run ends at `max_epochs`, `max_steps` or `max_minutes`, whichever comes first. `max_minutes` counts
    from the start of the run, or of the resumed run, to its last validation; a cosine and the warm-up fit into it.

    Data. `batch_size`: sentences that one optimizer step sees over all processes and accumulation steps; 20 where
    neither it nor `tokens_per_batch` is given. `tokens_per_batch` takes its place, which is None then: tokens of a
    step, padding and `<eos>` counted, over all processes and accumulation steps. `accumulation_steps`: parts that a
    process takes its share of a batch in.
    `length_window`: sentences are sorted by length within so many batches; 1 mixes lengths in each batch.
    `shuffle_window`: sentences that are shuffled, and held in memory as row numbers, together; a corpus of
    more is visited in such groups, random stretches of it in each (about 60 bytes a sentence of the window).
    `max_length`: cut training sentences after so many tokens; None keeps them whole. `too_long`: what becomes of those
    with more than the model's own `max_length`: truncate, for validation too, or error. Preparation leaves them out.
    `random_sentences`: the share of training sentences whose words are drawn anew, each as likely as any other: a
    superposition gives back rare words and strange sentences better for it.
    `overfit_batches`: train on the first so many batches of the first epoch, over and over, for debugging;
    a plateau's rate stays then.

    Optimizer. `weight_decay`: AdamW's is decoupled, the others' an L2 penalty; see `make_optimizer` for what it acts
    on. `adam_betas`: decay of the means of the gradient and of its square, Adam's and AdamW's. `momentum`: SGD's.
    `grad_clip`: L2 norm. `ema_decay`: share that an exponential average of the weights keeps at each step; the
    averaged weights are validated and saved as the model. None: no average.

    Schedule. `schedule`: plateau multiplies the rate with `learning_rate_decay` once more than `patience` validations
    brought no new best, and ends the run when it falls below `min_learning_rate`; cosine goes down to
    `min_learning_rate` at the run's end; constant stays. Each begins with `warmup_steps` optimizer steps of a rate
    that grows linearly; of a run with `max_minutes` that is at most a twentieth.

    Run. `log_every`, `checkpoint_every`: optimizer steps. `keep_checkpoints`: the newest so many. `resume`: never,
    auto, or a checkpoint's path. `compile`: torch.compile of transformers. `cuda_graphs`: where one
    process trains a GRU on a GPU in batches of `batch_size`, the step is captured for each length and replayed.
    `profile_steps`: steps that torch's profiler records, after ten others, into `run.dir`/profile. `process_timeout`:
    seconds that a process waits for the others before the run ends with an error.
    """

    seed: int = bounded(0, decides=Decides.BATCHES, least=0)
    max_epochs: int = bounded(100, decides=Decides.LENGTH, least=1)
    max_steps: int | None = bounded(None, decides=Decides.LENGTH, least=1)
    max_minutes: float | None = bounded(None, decides=Decides.LENGTH, above=0)
    batch_size: int | None = bounded(None, decides=Decides.BATCHES, least=1)
    tokens_per_batch: int | None = bounded(None, decides=Decides.BATCHES, least=1)
    accumulation_steps: int = bounded(1, decides=Decides.LOSSES, least=1)
    length_window: int = bounded(100, decides=Decides.BATCHES, least=1)
    shuffle_window: int = bounded(1_000_000, decides=Decides.BATCHES, least=1)
    max_length: int | None = bounded(None, decides=Decides.BATCHES, least=1)
    too_long: str = bounded("truncate", decides=Decides.LOSSES, among=("truncate", "error"))
    random_sentences: float = bounded(0.0, decides=Decides.LOSSES, least=0, below=1)
    overfit_batches: int | None = bounded(None, decides=Decides.BATCHES | Decides.RATE, least=1)
    precision: str = bounded("auto", decides=Decides.LOSSES, among=PRECISIONS)
    optimizer: str = bounded("adam", decides=Decides.MEANS, among=OPTIMIZERS)
    learning_rate: float = bounded(1e-3, decides=Decides.RATE, above=0)
    weight_decay: float = bounded(0.0, decides=Decides.LOSSES, least=0)
    adam_betas: list[float] = field(default_factory=lambda: [0.9, 0.999], metadata={"decides": Decides.LOSSES})
    momentum: float = bounded(0.0, decides=Decides.MEANS, least=0, below=1)
    grad_clip: float = bounded(0.25, decides=Decides.LOSSES, above=0)
    ema_decay: float | None = bounded(None, decides=Decides.LOSSES, above=0, below=1)
    schedule: str = bounded("plateau", decides=Decides.RATE, among=SCHEDULES)
    warmup_steps: int = bounded(0, decides=Decides.LOSSES, least=0)
    learning_rate_decay: float = bounded(0.25, decides=Decides.LOSSES, above=0, below=1)
    patience: int = bounded(2, decides=Decides.LOSSES, least=0)
    min_learning_rate: float = bounded(1e-8, decides=Decides.LENGTH, least=0)
    log_every: int = bounded(100, decides=Decides.NOTHING, least=1)
    checkpoint_every: int = bounded(1000, decides=Decides.NOTHING, least=1)
    keep_checkpoints: int = bounded(2, decides=Decides.NOTHING, least=1)
    resume: str = bounded("never", decides=Decides.NOTHING)
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"], metadata={"decides": Decides.NOTHING})
    compile: bool = bounded(False, decides=Decides.NOTHING)
    cuda_graphs: bool = bounded(False, decides=Decides.NOTHING)
    profile_steps: int = bounded(0, decides=Decides.NOTHING, least=0)
    process_timeout: int = bounded(1800, decides=Decides.NOTHING, least=1)

    def __post_init__(self) -> None:
        if self.batch_size is None and self.tokens_per_batch is None:
            object.__setattr__(self, "batch_size", _SENTENCES_A_BATCH)
        problems = out_of_bounds(self, "train")
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            problems.append(f"train.adam_betas is {self.adam_betas}, it must be two numbers in [0, 1)")
        if self.batch_size is not None and self.tokens_per_batch is not None:
            problems.append(
                f"train.batch_size is {self.batch_size} and train.tokens_per_batch is {self.tokens_per_batch}, and a "
                "batch has one of them; add train.tokens_per_batch=null, or train.batch_size=null"
            )
        if self.min_learning_rate > self.learning_rate > 0:
            problems.append(
                f"train.min_learning_rate is {self.min_learning_rate}, it must not be above "
                f"train.learning_rate, {self.learning_rate}"
            )
        if self.momentum and self.optimizer != "sgd":
            problems.append(f"train.momentum is {self.momentum}, which train.optimizer={self.optimizer} does not have")
        unknown = [tracker for tracker in self.trackers if tracker not in TRACKERS]
        problems += [f"train.trackers has {tracker!r}; {nearest(tracker, TRACKERS)}" for tracker in unknown]
        refuse(problems)

    def batching(self) -> dict[str, Any]:
        """The settings that `training_order` and `epoch_batches` make batches by."""
        names = ("batch_size", "tokens_per_batch", "length_window", "shuffle_window", "max_length")
        return {name: getattr(self, name) for name in names}

    def decides(self, name: str) -> Decides:
        """What the setting of this name decides in this run; one that this version does not know decides the losses."""
        known = self.__dataclass_fields__.get(name)
        decided = known.metadata["decides"] if known else Decides.LOSSES
        # It ends a plateau; a cosine's every rate depends on it.
        return Decides.LOSSES if name == "min_learning_rate" and self.schedule == "cosine" else decided
