"""Trains a sentence autoencoder.

    accelerate launch smim/train.py corpus=ptb model=gru objective=amim model.latent_dim=512
    accelerate launch smim/train.py experiment=ptb_smim_512 train.resume=auto
    accelerate launch --config_file launch/accelerate/cpu.yaml --num_processes 2 smim/train.py ...

Writes `config.yaml`, `metrics.jsonl`, `status.json`, `checkpoints/` and the best model so far,
`model/`, into `run.dir`. SIGTERM (or Ctrl-C) saves a checkpoint and leaves with status 143 (130); the same
command with `train.resume=auto` goes on from there. Every option: `python smim/train.py --cfg job`.
"""

import math
import signal
import time
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import DictConfig, OmegaConf
from torch import nn

from smim import config, storage
from smim.errors import SmimError, UserError, storage_problem
from smim.model.autoencoder import ModelArgs, SentenceAutoencoder
from smim.model.directory import save_model
from smim.objectives import Objective, Terms, objective_class
from smim.progress import console, progress_bar
from smim.text.batches import Batch, read_batch, training_order
from smim.text.corpus import Corpus, Split
from smim.training import checkpoint
from smim.training.args import TrainArgs
from smim.training.metrics import Meter, MetricsLog
from smim.training.processes import make_accelerator
from smim.training.schedule import PlateauSchedule
from smim.training.validation import validate


class Interrupted(SmimError):
    """The run was told to stop and has saved its state; leaves with 128 + the signal, as shells do."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class TrainingStep(nn.Module):
    """The objective as a module's forward pass, so that DDP sees the parameters that a step uses."""

    def __init__(self, model: SentenceAutoencoder, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch, step: int) -> Terms:
        return self.objective.terms(self.model, batch, step=step)


class Trainer:
    """One training run: its parts, its position, and what it writes."""

    def __init__(
        self,
        corpus: Corpus,
        model_args: ModelArgs,
        objective: Objective,
        args: TrainArgs,
        *,
        accelerator: Accelerator,
        run_dir: Path,
    ) -> None:
        self.corpus, self.objective, self.args = corpus, objective, args
        self.accelerator, self.run_dir = accelerator, run_dir
        self.train_split, self.valid_split = corpus.split("train"), corpus.split("valid")
        _check_length(self.train_split, model_args, cut=args.max_length)
        _check_length(self.valid_split, model_args, cut=None)

        set_seed(args.seed)
        self.model = SentenceAutoencoder(model_args, vocabulary_size=self.corpus.tokenizer.vocabulary_size)
        self.objective.prepare(self.model)
        self.optimizer = _make_optimizer(self.model, args)
        self.schedule = PlateauSchedule(args.learning_rate, args.learning_rate_decay, args.patience)
        self.stepper = accelerator.prepare(TrainingStep(self.model, self.objective))
        set_seed(args.seed + 1, device_specific=True)  # each process draws its own noise

        self.step = self.epoch = self.batch_in_epoch = 0
        self.validated_step: int | None = None
        self.meter, self.log = Meter(), MetricsLog(run_dir / "metrics.jsonl", enabled=self.is_main)
        self.stop_signal = 0
        self.bar = progress_bar(visible=self.is_main)
        # A run goes on only with what decides its losses; how long and how often it reports may change.
        self.identity = {
            "model": asdict(model_args),
            "objective": asdict(self.objective),
            "tokenizer": self.corpus.tokenizer.hash,
            "train": corpus.hash_of("train"),
            **{f"train.{name}": getattr(args, name) for name in _DECIDES_LOSSES},
        }

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def fit(self) -> None:
        """Trains to the end of the schedule, from wherever the run stands."""
        started = time.monotonic()
        first_step, interval_seconds = self.step, 0.0
        epoch_steps = math.ceil(len(self.train_split) / self.args.batch_size)
        total_steps = min(self.args.max_steps or math.inf, self.args.max_epochs * epoch_steps)
        task = self.bar.add_task("training", total=total_steps, completed=self.step)
        while not self.finished:
            order = training_order(
                self.train_split,
                batch_size=self.args.batch_size,
                length_window=self.args.length_window,
                shuffle_window=self.args.shuffle_window,
                seed=self.args.seed,
                epoch=self.epoch,
            )
            for rows in islice(order, self.batch_in_epoch, None):
                if self.step == self.args.max_steps:
                    break
                step_started = time.monotonic()
                self.train_step(rows)
                self.batch_in_epoch += 1
                self.bar.update(task, completed=self.step)
                interval_seconds += time.monotonic() - step_started
                if self.step % self.args.log_every == 0:
                    seconds_a_step = (time.monotonic() - started) / (self.step - first_step)
                    self.report(seconds=interval_seconds, seconds_left=seconds_a_step * (total_steps - self.step))
                    interval_seconds = 0.0
                stopping = self.should_stop()
                if stopping or self.step % self.args.checkpoint_every == 0:
                    self.save()
                if stopping:
                    raise Interrupted(
                        f"stopped by a signal at step {self.step}, state saved; train.resume=auto goes on from there",
                        signal_number=self.stop_signal or signal.SIGTERM,
                    )
            self.end_epoch(finished=self.batch_in_epoch == epoch_steps)

    @property
    def finished(self) -> bool:
        """True at the end of the schedule: steps, epochs, or a learning rate that fell too low."""
        return (
            (self.step == self.args.max_steps == self.validated_step)
            or self.epoch >= self.args.max_epochs
            or self.schedule.learning_rate < self.args.min_learning_rate
        )

    def train_step(self, rows: np.ndarray) -> None:
        """One optimizer step on a global batch, of which this process takes every world_size-th row."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate
        world_size = self.accelerator.num_processes
        share = rows[self.accelerator.process_index :: world_size]
        # A process without a row takes part in the reduction with a gradient of zero.
        scale = world_size / len(rows) if len(share) else 0.0
        parts = np.array_split(share if len(share) else rows[:1], self.args.accumulation_steps)
        parts = [part for part in parts if len(part)]
        for i, part in enumerate(parts):
            batch = read_batch(self.train_split, part, max_length=self.args.max_length)
            batch = batch.to(self.accelerator.device)
            with self.accelerator.no_sync(self.stepper) if i < len(parts) - 1 else nullcontext():
                terms = self.stepper(batch, self.step)
                # DDP averages gradients over processes: this makes them those of the global mean.
                self.accelerator.backward(terms["loss"].sum() * scale)
            if len(share):
                self.meter.add(terms, num_tokens=batch.lengths.sum())
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def report(self, *, seconds: float, seconds_left: float) -> None:
        """One line of log and of `metrics.jsonl` for the steps since the last one."""
        means = self.meter.read(self.accelerator)
        tokens, _ = means.pop("tokens"), means.pop("sentences")
        if not math.isfinite(means["loss"]):
            raise SmimError(
                f"the loss is {means['loss']} at step {self.step}; the last checkpoint is intact. "
                f"Try a lower train.learning_rate or train.precision=fp32"
            )
        self.write_metrics("train", {**means, "tokens_per_second": tokens / seconds, "seconds": seconds})
        shown = "  ".join(f"{name} {value:.2f}" for name, value in means.items())
        self.say(
            f"step {self.step}  epoch {self.epoch + 1}  {shown}  {tokens / seconds:,.0f} tokens/s  "
            f"at most {_duration(seconds_left)} left"
        )

    def end_epoch(self, *, finished: bool) -> None:
        """Validates, keeps the model if it is the best, moves the schedule, and saves."""
        metrics = validate(
            self.model, self.objective, self.valid_split, accelerator=self.accelerator, seed=self.args.seed
        )
        if not math.isfinite(metrics["loss"]):
            raise SmimError(f"the validation loss is {metrics['loss']} at step {self.step}; training diverged")
        tokens, sentences = metrics.pop("tokens"), metrics.pop("sentences")
        is_best = self.schedule.update(metrics["loss"])
        self.validated_step = self.step
        self.write_metrics("valid", metrics)
        self.say(
            f"validation after step {self.step}: loss {metrics['loss']:.3f}{' (best)' if is_best else ''}  "
            f"reconstruction {metrics['reconstruction']:.3f} nats a sentence of {tokens / sentences:.1f} tokens  "
            f"KL {metrics['kl']:.1f}  on the clamp {metrics['clamped']:.0%}  active units "
            f"{metrics['active_units']} ({metrics['active_units_relative']} relative) "
            f"of {self.model.args.latent_dim}  learning rate {self.schedule.learning_rate:.2g}"
        )
        if is_best and self.is_main:
            training = {
                "objective": self.objective.name,
                "corpus": self.corpus.name,
                "seed": self.args.seed,
                "step": self.step,
                "epoch": self.epoch + 1,
                "valid_loss": metrics["loss"],
                "valid_reconstruction": metrics["reconstruction"],
            }
            save_model(self.run_dir / "model", self.model, self.corpus.tokenizer, training=training)
        if finished:
            self.epoch, self.batch_in_epoch = self.epoch + 1, 0
        self.save()

    def write_metrics(self, split: str, values: dict[str, Any]) -> None:
        head = {"step": self.step, "epoch": self.epoch + 1, "split": split}
        values = {**values, "learning_rate": self.schedule.learning_rate}
        self.log.write({**head, **values})
        self.accelerator.log({f"{split}/{name}": value for name, value in values.items()}, step=self.step)

    def save(self) -> None:
        """Writes a checkpoint of this moment."""
        checkpoint.save(
            self.run_dir / "checkpoints",
            accelerator=self.accelerator,
            step=self.step,
            model=self.model,
            optimizer=self.optimizer,
            rank_state=checkpoint.RankState(random=checkpoint.random_state(), meter=self.meter.state()),
            state={
                "step": self.step,
                "epoch": self.epoch,
                "batch_in_epoch": self.batch_in_epoch,
                "validated_step": self.validated_step,
                "schedule": self.schedule.state(),
                "log_lines": self.log.num_lines,
                "identity": self.identity,
            },
            keep=self.args.keep_checkpoints,
        )

    def resume(self) -> None:
        """Puts the run where its checkpoint stands; raises `UserError` where it is another run's."""
        root = self.run_dir / "checkpoints"
        if self.args.resume == "never":
            if checkpoint.list_checkpoints(root):
                raise UserError(f"{self.run_dir} holds a run already; add train.resume=auto or change run.dir")
            self.log.rewind(0)
            return
        path: Path | None = Path(self.args.resume)
        if self.args.resume == "auto":
            path = checkpoint.newest_valid(root, warn=lambda text: self.say(f"warning: {text}"))
        else:
            checkpoint.verify(Path(self.args.resume))
        if path is None:
            self.log.rewind(0)
            return
        _check_identity(path, self.identity)
        state, rank_state = checkpoint.load(
            path, accelerator=self.accelerator, model=self.model, optimizer=self.optimizer
        )
        self.step, self.epoch, self.batch_in_epoch = state["step"], state["epoch"], state["batch_in_epoch"]
        self.validated_step = state["validated_step"]
        self.schedule.load(state["schedule"])
        if rank_state is None:
            set_seed(self.args.seed + 1 + self.step, device_specific=True)
            self.say("the number of processes changed: the epoch goes on, with fresh training noise")
        else:
            checkpoint.restore_random_state(rank_state.random)
            self.meter.load(rank_state.meter, self.accelerator.device)
        self.log.rewind(state["log_lines"])
        self.say(f"resumed from {path}")

    def on_signal(self, number: int, frame: Any) -> None:
        """Lets the step in progress end and the state be saved; a second Ctrl-C does not wait for that."""
        if self.stop_signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.stop_signal = number

    def should_stop(self) -> bool:
        """True on every process once any of them was told to stop."""
        if self.accelerator.num_processes == 1:
            return bool(self.stop_signal)
        flag = torch.tensor([float(self.stop_signal)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item())

    def say(self, text: str) -> None:
        if self.is_main:
            console.print(text, highlight=False, soft_wrap=True)

    def write_status(self, status: str, **details: Any) -> None:
        """`status.json`: running, finished, interrupted or failed, with the step and the message."""
        if self.is_main:
            storage.write_json(self.run_dir / "status.json", {"status": status, "step": self.step, **details})


_DECIDES_LOSSES = (
    *(
        "seed",
        "batch_size",
        "accumulation_steps",
        "length_window",
        "shuffle_window",
        "max_length",
        "precision",
        "optimizer",
    ),
    *("learning_rate", "grad_clip", "learning_rate_decay", "patience"),
)


def main(cfg: DictConfig) -> None:
    """Checks the configuration, then trains."""
    model_args, objective, args = config.make_all(
        cfg,
        model=lambda section: config.make(ModelArgs, section, "model"),
        objective=lambda section: config.make(objective_class(section.name), section, "objective"),
        train=lambda section: config.make(TrainArgs, section, "train"),
    )
    if cfg.corpus.dir is None:
        raise UserError("which corpus? give corpus=NAME or corpus.dir=DIR of a prepared corpus")
    run_dir = Path(cfg.run.dir or _default_run_dir(cfg))
    accelerator = make_accelerator(precision=args.precision, trackers=args.trackers, run_dir=run_dir)
    corpus = Corpus.open(cfg.corpus.dir)
    trainer = Trainer(corpus, model_args, objective, args, accelerator=accelerator, run_dir=run_dir)
    trainer.resume()
    if trainer.is_main:
        storage.write_text(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    accelerator.init_trackers("smim")
    signal.signal(signal.SIGTERM, trainer.on_signal)
    signal.signal(signal.SIGINT, trainer.on_signal)
    trainer.say(
        f"{trainer.model.num_parameters:,} parameters, {len(trainer.train_split):,} sentences, "
        f"{accelerator.num_processes} process(es) on {accelerator.device.type}, "
        f"{accelerator.mixed_precision.replace('no', 'fp32')}; writing to {run_dir}"
    )
    trainer.write_status("running")
    try:
        with trainer.bar:
            trainer.fit()
    except Exception as error:
        _record_failure(trainer, error)
        raise
    accelerator.end_training()
    trainer.write_status("finished")
    trainer.say(f"finished after {trainer.step} steps; best validation loss {trainer.schedule.best:.3f}; {run_dir}")


def _record_failure(trainer: Trainer, error: Exception) -> None:
    status = "interrupted" if isinstance(error, Interrupted) else "failed"
    try:
        trainer.write_status(status, message=str(error), exit_status=getattr(error, "exit_status", 1))
    except OSError as second:
        if storage_problem(second) is None:
            raise


def _default_run_dir(cfg: DictConfig) -> str:
    return f"runs/{Path(cfg.corpus.dir).name}_{cfg.objective.name}_{cfg.model.latent_dim}"


def _make_optimizer(model: nn.Module, args: TrainArgs) -> torch.optim.Optimizer:
    if args.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=args.learning_rate)
    return torch.optim.Adam(model.parameters(), lr=args.learning_rate, fused=True)


def _check_length(split: Split, model_args: ModelArgs, *, cut: int | None) -> None:
    """Refuses sentences that the model cannot hold before hours are spent on the others."""
    extremes = pc.min_max(split.table.column("length")).as_py()
    longest = min(extremes["max"], cut or math.inf)
    if extremes["min"] < 1:
        raise UserError(f"split {split.name!r} holds a sentence of no tokens; prepare the corpus without it")
    if longest > model_args.max_length:
        raise UserError(
            f"split {split.name!r} has a sentence of {longest} tokens, model.max_length is "
            f"{model_args.max_length}; raise it, or cut training sentences with train.max_length"
        )


def _check_identity(path: Path, identity: dict[str, Any]) -> None:
    saved = storage.read_json(path / "state.json")["identity"]
    different = [key for key in identity if identity[key] != saved.get(key)]
    if different:
        changes = "; ".join(f"{key}: {saved.get(key)} there, {identity[key]} here" for key in different)
        raise UserError(f"checkpoint {path} belongs to another run ({changes}); use another run.dir")


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


if __name__ == "__main__":
    config.run("train", main)
