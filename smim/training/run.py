"""A training run: its parts, its position, and the files in its directory:

config.yaml  metrics.jsonl  status.json  logs/  checkpoints/step-*/  model/
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed

from smim import storage
from smim.errors import SmimError, UserError, storage_problem
from smim.model.args import ModelArgs
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.model.registry import make_model
from smim.objectives import Critic, Objective
from smim.processes import lost_process, resolve_precision
from smim.text.batches import epoch_batches
from smim.text.corpus import Corpus
from smim.training import checkpoint, checks, parallel
from smim.training.aggressive import Aggressive
from smim.training.args import Decides, TrainArgs
from smim.training.console import Console
from smim.training.ema import WeightAverage
from smim.training.graphs import GraphedTrainingStep
from smim.training.identity import check_identity, make_identity
from smim.training.initial import KEY, Initial
from smim.training.meaning import learn_meaning
from smim.training.metrics import Meter, MetricsLog
from smim.training.optimizer import make_optimizer
from smim.training.pace import Budget, Pace
from smim.training.schedule import make_schedule
from smim.training.step import TrainingStep
from smim.training.throughput import matrix_rate
from smim.vectors.corpus import VectorCorpus


class Interrupted(SmimError):
    """The run got a stop signal and has saved its state. The exit status is 128 + the signal, as in shells."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class Run:
    """The parts of a training run, after all checks, at the start or at the position of a checkpoint.

    The position is `step`, `epoch` and `batch_in_epoch`, all counted from 0, and `validated_step`, the last step with a
    validation. `started`: the `time.monotonic` value from which `max_minutes` counts; None means now.
    `initial`: the model with the initial weights; None means random weights.
    Raises `UserError` if parts do not fit together, or `run_dir` contains another run.
    """

    def __init__(
        self,
        corpus: Corpus | VectorCorpus,
        model_args: ModelArgs,
        objective: Objective,
        args: TrainArgs,
        *,
        accelerator: Accelerator,
        run_dir: Path,
        use: Mapping[str, Any] | None = None,
        started: float | None = None,
        initial: Initial | None = None,
    ) -> None:
        minutes = math.inf if args.max_minutes is None else args.max_minutes
        self.budget = Budget(60 * minutes, started=time.monotonic() if started is None else started)
        self.corpus, self.objective, self.args, self.use = corpus, objective, args, use
        self.accelerator, self.run_dir = accelerator, run_dir
        self.is_main = accelerator.is_main_process
        self.precision = resolve_precision(args.precision)
        self.train_split, self.valid_split = corpus.split("train"), corpus.split("valid")
        checks.check_kind(corpus, model_args)
        model_args = model_args.for_corpus(corpus)
        if initial:
            initial.check(corpus)
        limit = model_args.token_limit if args.too_long == "truncate" else None
        self.cut = min(filter(None, [args.max_length, limit]), default=None)
        self.valid_cut = limit
        model_args.check_split(self.train_split, cut=self.cut)
        model_args.check_split(self.valid_split, cut=self.valid_cut)
        checks.check_meaning(objective, has_initial=initial is not None)
        checks.check_additions(corpus, objective, self.train_split)
        checks.check_random_sentences(corpus, args, self.train_split)
        epoch_steps = epoch_batches(self.train_split, **self.batching())
        # For batches by tokens, the loss is divided by this mean. A batch's own number would favour long sentences.
        self.sentences_per_batch = len(self.train_split) / epoch_steps
        self.epoch_steps = min(args.overfit_batches or epoch_steps, epoch_steps)
        self.most_steps = int(min(args.max_steps or math.inf, args.max_epochs * self.epoch_steps))
        validated = len(self.valid_split) / self.sentences_per_batch
        self.pace = Pace(self.epoch_steps, batches_to_validate=validated, steps_a_save=args.checkpoint_every)
        settings = {"model": model_args, "objective": objective, "train": args}
        teacher_hash = None if corpus.teacher is None else corpus.teacher.hash
        self.identity = make_identity(corpus.input_hash, corpus.hash_of("train"), settings, teacher_hash)
        if initial:
            self.identity[KEY] = initial.hash
        self.step = self.epoch = self.batch_in_epoch = 0
        self.validated_step: int | None = None
        self.meter, self.log = Meter(), MetricsLog(run_dir / "metrics.jsonl", enabled=self.is_main)
        self.console = Console(visible=self.is_main)
        if limit is not None and not args.max_length:
            for split in (self.train_split, self.valid_split):
                if long := int((split.lengths > limit).sum()):
                    self.console.say(
                        f"{long:,} of {len(split):,} sentences of split {split.name} are cut after {limit:,} tokens "
                        "(model.max_length); train.too_long=error refuses them, corpus.max_words leaves them out"
                    )

        found, changed = self.checkpoint_to_resume(settings)
        set_seed(args.seed)
        self.model = make_model(model_args, input_size=corpus.input_size)
        objective.prepare(self.model)
        critic = objective.make_critic(self.model)
        checks.check_launch(self.train_split, args, self.model, objective, critic, accelerator)
        if objective.draws_observations and self.model.draws_slowly:
            self.console.say(
                f"warning: objective={objective.name} draws from the decoder in each step, which takes a pass for each "
                "pixel; objective=amim does not"
            )
        if found:
            with checkpoint.fitting(found):
                self.model.load_state_dict(checkpoint.load_tensors(found, "model"))
        elif initial:
            self.model.load_state_dict(initial.weights())
            objective.prepare(self.model)  # which may set weights
        else:
            if corpus.teacher is not None:
                words = (torch.tensor(each) for each in (corpus.teacher.pieces, corpus.teacher.counts))
                self.model.initialize_words(*words)
                if objective.second_view.epochs_alone:
                    how = {"max_length": self.cut, "seed": args.seed, "visible": self.is_main}
                    learn_meaning(self.model.to(accelerator.device), self.train_split, objective.second_view, **how)
            if num := self.model.num_initial_observations:
                self.model.initialize(self.random_training_batch(num))
        if objective.second_view.hold:
            self.model.hold_meaning()
        # Counted before ZeRO 3 shards the weights.
        self.num_parameters = self.model.num_parameters
        lengths = self.train_split.table.column("length")
        cut = lengths if self.cut is None else pc.min_element_wise(lengths, self.cut)
        self.flops_per_token = self.model.flops_per_token(pc.mean(cut).as_py())
        if args.compile:
            for part in self.model.compile_parts():
                part.compile(dynamic=True)
        way = parallel.WAYS.get(accelerator.distributed_type, parallel.Replicated)
        self.parallel: parallel.Replicated = way(
            self.make_step(critic),
            self.model,
            make_optimizer(self.model, args),
            accelerator=accelerator,
            grad_clip=args.grad_clip,
            critic=critic,
        )
        self.schedule = make_schedule(args, total_steps=self.most_steps)
        self.aggressive = Aggressive(objective.most_encoder_steps)
        self.average = None if args.ema_decay is None else WeightAverage(args.ema_decay)
        if self.average and self.parallel.sharded:
            raise UserError("train.ema_decay needs the whole weights on each process; use DDP, or leave it out")
        self.peak = matrix_rate(accelerator.device, self.precision) * accelerator.num_processes
        set_seed(args.seed + 1, device_specific=True)  # each process draws its own noise
        if found:
            with checkpoint.fitting(found):
                self.resume(found, changed)
        else:
            self.log.rewind(0)

    def batching(self) -> dict[str, Any]:
        """The settings of `training_order` and `epoch_batches`."""
        return self.args.batching() | {"max_length": self.cut}

    def make_step(self, critic: Critic | None) -> TrainingStep:
        """Make the training step, with CUDA graphs if `cuda_graphs` is set and the run allows them."""
        alone = self.accelerator.device.type == "cuda" and self.accelerator.distributed_type == DistributedType.NO
        whole = self.args.accumulation_steps == 1 and self.args.batch_size is not None and critic is None
        kept = not (self.objective.additions or self.objective.most_encoder_steps)
        graphable = self.model.graphable and self.objective.can_be_graphed and kept
        if self.args.cuda_graphs and alone and whole and graphable:
            assert self.args.batch_size is not None
            return GraphedTrainingStep(
                self.model, self.objective, precision=self.precision, batch_size=self.args.batch_size
            )
        network = critic.network if critic else None
        return TrainingStep(self.model, self.objective, precision=self.precision, critic=network)

    def random_training_batch(self, num: int) -> Observations:
        """Draw `num` training observations, the same on each process, with repeats if the split is smaller."""
        random = np.random.default_rng([self.args.seed, 0, 1])  # a key that differs from those of the epochs' orders
        rows = random.choice(len(self.train_split), min(num, len(self.train_split)), replace=False)
        return self.train_split.batch(np.resize(rows, num), max_length=self.cut)

    def checkpoint_to_resume(self, settings: dict[str, Any]) -> tuple[Path | None, set[str]]:
        """Return the checkpoint to resume from, and the settings that differ in it.

        Raises `UserError` if it belongs to another run.
        """
        root = self.run_dir / "checkpoints"
        saved = checkpoint.list_checkpoints(root)
        if self.args.resume == "never" and saved:
            raise UserError(
                f"{self.run_dir} already holds a run; add train.resume=auto to continue it, or change run.dir"
            )
        path = None
        if self.args.resume == "auto":
            path = checkpoint.newest_valid(root, warn=lambda text: self.console.say(f"warning: {text}"))
        elif self.args.resume != "never":
            path = Path(self.args.resume)
            checkpoint.verify(path)
        if path is None:
            return None, set()
        changed = check_identity(path, self.identity, settings)
        lengths = [said for key, said in changed.items() if self.args.decides(key.partition(".")[2]) is Decides.LENGTH]
        if lengths:
            cosine = "; the cosine continues as one of the new length" if self.args.schedule == "cosine" else ""
            self.console.say(f"continuing with another length: {'; '.join(lengths)}{cosine}")
        if others := [said for said in changed.values() if said not in lengths]:
            self.console.say(f"warning: continuing from {path} with other settings: {'; '.join(others)}")
        if left := [each.name for each in saved if each.name > path.name]:
            self.console.say(
                f"warning: the first save will remove the later {', '.join(left)} in {root}; copy them if you need them"
            )
        return path, set(changed)

    def resume(self, path: Path, changed: set[str]) -> None:
        """Restore everything from a checkpoint except the weights, which the model already has.

        Parts that depend on the `changed` settings restart (see `Decides`).
        """
        rank = self.accelerator.process_index
        state, random = checkpoint.load_state(path, rank=rank, world_size=self.accelerator.num_processes)
        anew = {each for name in changed for each in self.args.decides(name.removeprefix("train."))}
        if Decides.MEANS not in anew:
            self.parallel.load_optimizer_state(checkpoint.load_tensors(path, "optimizer"))
        if self.average and state["identity"].get("train.ema_decay") is None:
            self.average.update(self.model.named_parameters())
        elif self.average:
            self.average.load(checkpoint.load_tensors(path, "average"))
            with torch.device("meta"):
                make_model(self.model.args, input_size=self.model.input_size).load_state_dict(self.average.weights)
        if self.parallel.critic:
            self.parallel.load_critic_state(checkpoint.load_tensors(path, "critic"))
        if Decides.RATE in anew:
            state["schedule"] = {**self.schedule.state(), "best": state["schedule"]["best"]}
        if Decides.BATCHES in anew:
            state["batch_in_epoch"] = 0
        self.step, self.epoch, self.batch_in_epoch = state["step"], state["epoch"], state["batch_in_epoch"]
        self.validated_step = state["validated_step"]
        self.schedule.load(state["schedule"])
        if self.aggressive.most_steps:
            self.aggressive.load(state["aggressive"])
        if random is None:
            set_seed(self.args.seed + 1 + self.step, device_specific=True)
            self.console.say("the number of processes changed; the epoch continues with new training noise")
        else:
            checkpoint.restore_random_state(random)
            self.meter.load(state["meters"][rank], self.accelerator.device)
        self.log.rewind(state["log_lines"])
        self.console.say(f"resumed from {path}")

    def save(self) -> None:
        """Write a checkpoint of the current state."""
        tensors = {"model": self.parallel.weights(), "optimizer": self.parallel.optimizer_state()}
        if self.average:
            tensors["average"] = self.average.state()
        if self.parallel.critic:
            tensors["critic"] = self.parallel.critic_state()
        checkpoint.save(
            self.run_dir / "checkpoints",
            accelerator=self.accelerator,
            step=self.step,
            tensors=tensors,
            random=checkpoint.random_state(),
            meter=self.meter.state(),
            state={
                "step": self.step,
                "epoch": self.epoch,
                "batch_in_epoch": self.batch_in_epoch,
                "validated_step": self.validated_step,
                "schedule": self.schedule.state(),
                "log_lines": self.log.num_lines,
                "identity": self.identity,
                **({"aggressive": self.aggressive.state()} if self.aggressive.most_steps else {}),
            },
            keep=self.args.keep_checkpoints,
        )

    def model_to_keep(self) -> LatentVariableModel:
        """The model to validate and save: the trained model, or one with averaged or gathered weights."""
        if not (self.parallel.sharded or (self.average and self.step)):
            return self.model
        weights = self.average.weights if self.average else self.parallel.weights()
        with torch.random.fork_rng():  # initial weights are replaced at once, and must not change the random state
            model = make_model(self.model.args, input_size=self.model.input_size)
        model.load_state_dict(weights)
        return model.to(self.accelerator.device)

    def write_metrics(self, split: str, values: dict[str, Any]) -> None:
        """Write a line of `metrics.jsonl`, and send the values to the trackers."""
        head = {"step": self.step, "epoch": self.epoch + 1, "split": split}
        values = {**values, "learning_rate": self.schedule.rate(self.step)}
        self.log.write({**head, **values})
        self.accelerator.log({f"{split}/{name}": value for name, value in values.items()}, step=self.step)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the status of the block in `status.json`: running, finished, interrupted or failed, with the error."""
        self.write_status("running")
        try:
            yield
        except Exception as error:
            cause = lost_process(error, self.run_dir) or error
            status = "interrupted" if isinstance(cause, Interrupted) else "failed"
            try:
                self.write_status(status, message=str(cause), exit_status=getattr(cause, "exit_status", 1))
            except OSError as second:
                if storage_problem(second) is None:
                    raise
            raise cause from (None if cause is not error else error.__cause__)
        self.write_status("finished")

    def write_status(self, status: str, **details: Any) -> None:
        if self.is_main:
            storage.write_json(self.run_dir / "status.json", {"status": status, "step": self.step, **details})
