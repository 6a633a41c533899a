"""The settings of the training loop (`train.` on the command line)."""

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
    """What a setting decides. This determines whether a run can resume from a checkpoint with another value.

    With `train.resume=auto`, a setting may change if it decides `NOTHING` about the losses, or only the `LENGTH` of the
    run. A cosine then continues as one of the new length. All other settings decide the losses. They may change only if
    `train.resume` names the checkpoint. Then a part restarts: the batches of the epoch (`BATCHES`), the schedule
    (`RATE`) or the optimizer's means of gradients (`MEANS`). With `LOSSES` no part restarts.
    """

    NOTHING = 0
    LENGTH = auto()
    LOSSES = auto()
    BATCHES = auto()
    RATE = auto()
    MEANS = auto()


@dataclass(frozen=True)
class TrainArgs:
    """The settings of training. Defaults are the thesis's for PTB (section 7.2). Raises `UserError` for wrong values.

    Length. The run ends at `max_epochs`, `max_steps` or `max_minutes`, whichever comes first. `max_minutes` is the time
    from the start (or the resume) of the run to its last validation. The cosine and the warm-up fit into it.

    Data. `batch_size`: sentences of one optimizer step, over all processes and accumulation steps. It is 20 if neither
    it nor `tokens_per_batch` is given. `tokens_per_batch` replaces it: tokens of one step with padding and `<eos>`,
    over all processes and accumulation steps. `accumulation_steps`: the number of parts into which a process splits its
    share of a batch. `length_window`: the number of batches within which sentences are sorted by length; 1 mixes
    lengths in each batch. `shuffle_window`: the number of sentences that are shuffled together (about 60 bytes of
    memory each). A larger corpus is read in such groups of random chunks. `max_length`: training sentences are cut
    after this number of tokens; None keeps them whole. `too_long`: sentences beyond the model's own `max_length` are
    cut (truncate, in validation too) or refused (error). `random_sentences`: the share of training sentences whose
    words are replaced by uniformly random ones. This improves how a superposition reproduces rare words and unusual
    sentences. `overfit_batches`: train only on the first batches of the first epoch, for debugging. The plateau
    schedule then keeps its learning rate.

    Optimizer. `weight_decay` is decoupled for AdamW and an L2 penalty for the others; `make_optimizer` says on what it
    acts. `adam_betas`: decay rates of the means of gradients and of their squares, for Adam and AdamW. `momentum`: for
    SGD. `grad_clip`: the maximum L2 norm. `ema_decay`: the decay of an exponential moving average of the weights. The
    averaged weights are validated and saved as the model. None means no average.

    Schedule. `schedule`: plateau multiplies the learning rate by `learning_rate_decay` after more than `patience`
    validations without a new best, and ends the run below `min_learning_rate`. cosine decays to `min_learning_rate` at
    the end of the run. constant does not decay. All begin with a linear warm-up of `warmup_steps` optimizer steps, with
    `max_minutes` at most a twentieth of the run.

    Run. `log_every`, `checkpoint_every`: optimizer steps. `keep_checkpoints`: the number of newest ones. `resume`:
    never, auto, or a checkpoint's path. `compile`: torch.compile of transformers. `cuda_graphs`: capture the step per
    length and replay it, if one process trains a GRU on a GPU in batches of `batch_size`. `profile_steps`: steps that
    torch's profiler records into `run.dir`/profile, after ten others. `process_timeout`: seconds that a process waits
    for others before the run fails.
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
            problems.append(f"train.adam_betas is {self.adam_betas}, but it must be two numbers in [0, 1)")
        if self.batch_size is not None and self.tokens_per_batch is not None:
            problems.append(
                f"train.batch_size is {self.batch_size} and train.tokens_per_batch is {self.tokens_per_batch}, but "
                "only one of them can be set; add train.tokens_per_batch=null, or train.batch_size=null"
            )
        if self.min_learning_rate > self.learning_rate > 0:
            problems.append(
                f"train.min_learning_rate is {self.min_learning_rate}, but it must not be above "
                f"train.learning_rate, {self.learning_rate}"
            )
        if self.momentum and self.optimizer != "sgd":
            problems.append(
                f"train.momentum is {self.momentum}, but train.optimizer={self.optimizer} has none; leave it out"
            )
        unknown = [tracker for tracker in self.trackers if tracker not in TRACKERS]
        problems += [f"train.trackers has {tracker!r}; {nearest(tracker, TRACKERS)}" for tracker in unknown]
        refuse(problems)

    def batching(self) -> dict[str, Any]:
        """The settings of `training_order` and `epoch_batches`."""
        names = ("batch_size", "tokens_per_batch", "length_window", "shuffle_window", "max_length")
        return {name: getattr(self, name) for name in names}

    def decides(self, name: str) -> Decides:
        """What the setting `name` decides in this run. Settings that this version does not know decide the losses."""
        known = self.__dataclass_fields__.get(name)
        decided = known.metadata["decides"] if known else Decides.LOSSES
        # This setting only ends a plateau, but it affects all learning rates of a cosine.
        return Decides.LOSSES if name == "min_learning_rate" and self.schedule == "cosine" else decided
