"""Trains a latent variable model: of sentences, or of vectors.

    accelerate launch smim/train.py corpus=ptb model=gru objective=amim model.latent_dim=512
    accelerate launch smim/train.py experiment=ptb_smim_512 train.resume=auto
    accelerate launch smim/train.py corpus=gmm model=mlp objective=mim
    accelerate launch --config_file launch/accelerate/cpu.yaml --num_processes 2 smim/train.py ...
    accelerate launch --config_file launch/accelerate/zero2.yaml --num_processes 8 smim/train.py ...

Writes `config.yaml`, `metrics.jsonl`, `status.json`, `checkpoints/` and the best model so far,
`model/`, into `run.dir`. SIGTERM (or Ctrl-C) saves a checkpoint and leaves with status 143 (130); the same
command with `train.resume=auto` goes on from there. Every option: `python smim/train.py --cfg job`.
"""

import math
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object, set_seed
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from smim import config, storage
from smim.corpora import open_corpus
from smim.errors import SmimError, UserError, storage_problem
from smim.lock import own
from smim.model.args import ModelArgs
from smim.model.directory import save_model
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.model.registry import make_args, make_model
from smim.objectives import Critic, Objective, Terms, objective_class
from smim.progress import console, progress_bar
from smim.text.batches import epoch_batches, share_of_rank, training_order
from smim.text.corpus import Corpus
from smim.training import checkpoint, checks, parallel
from smim.training.args import TrainArgs
from smim.training.ema import WeightAverage
from smim.training.graphs import GraphedTrainingStep
from smim.training.metrics import Meter, MetricsLog
from smim.training.optimizer import make_optimizer
from smim.training.processes import close, lost_process, make_accelerator, resolve_precision
from smim.training.profiling import make_profiler
from smim.training.schedule import make_schedule
from smim.training.step import TrainingStep
from smim.training.throughput import matrix_rate
from smim.training.validation import validate
from smim.vectors.corpus import VectorCorpus


class Interrupted(SmimError):
    """The run was told to stop and has saved its state; leaves with 128 + the signal, as shells do."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class Trainer:
    """One training run: its parts, its position, and what it writes. It stands where its checkpoint does."""

    def __init__(
        self,
        corpus: Corpus | VectorCorpus,
        model_args: ModelArgs,
        objective: Objective,
        args: TrainArgs,
        *,
        accelerator: Accelerator,
        run_dir: Path,
    ) -> None:
        self.corpus, self.objective, self.args = corpus, objective, args
        self.precision = resolve_precision(args.precision)
        self.accelerator, self.run_dir = accelerator, run_dir
        self.train_split, self.valid_split = corpus.split("train"), corpus.split("valid")
        checks.check_kind(corpus, model_args)
        model_args.check_split(self.train_split, cut=args.max_length)
        model_args.check_split(self.valid_split, cut=None)
        checks.check_processes(self.train_split, args, world_size=accelerator.num_processes)
        checks.check_draws(objective, accelerator)
        epoch_steps = epoch_batches(self.train_split, **args.batching())
        # Under a token budget each batch counts alike: by its own number of sentences short ones would weigh more.
        self.sentences_per_batch = len(self.train_split) / epoch_steps
        self.total_steps = min(args.max_steps or math.inf, args.max_epochs * (args.overfit_batches or epoch_steps))
        self.identity = checks.identity(corpus, model_args, objective, args)
        self.step = self.epoch = self.batch_in_epoch = 0
        self.validated_step: int | None = None
        self.meter, self.log = Meter(), MetricsLog(run_dir / "metrics.jsonl", enabled=self.is_main)
        self.stop_signal = 0
        self.bar = progress_bar(visible=self.is_main)

        found = self.checkpoint_to_resume()
        set_seed(args.seed)
        self.model = make_model(model_args, input_size=corpus.input_size)
        objective.prepare(self.model)
        critic = objective.make_critic(self.model)
        checks.check_critic(objective, critic, accelerator)
        if found:
            with checkpoint.fitting(found):
                self.model.load_state_dict(checkpoint.load_tensors(found, "model"))
        elif num := self.model.num_initial_observations:
            self.model.initialize(self.random_training_batch(num))
        # Before ZeRO 3 takes the weights apart.
        self.num_parameters = self.model.num_parameters
        lengths = self.train_split.table.column("length")
        cut = lengths if args.max_length is None else pc.min_element_wise(lengths, args.max_length)
        self.flops_per_token = self.model.flops_per_token(pc.mean(cut).as_py())
        if args.compile:
            checks.check_compile(self.model, accelerator.distributed_type)
            for part in self.model.compile_parts():
                part.compile(dynamic=True)
        self.parallel = parallel.prepare(
            self.make_step(critic),
            self.model,
            make_optimizer(self.model, args),
            accelerator=accelerator,
            grad_clip=args.grad_clip,
            critic=critic,
        )
        self.schedule = make_schedule(args, total_steps=int(self.total_steps))
        self.average = None
        if args.ema_decay is not None:
            checks.check_average(self.parallel.sharded)
            self.average = WeightAverage(args.ema_decay)
        self.peak = matrix_rate(accelerator.device, self.precision) * accelerator.num_processes
        set_seed(args.seed + 1, device_specific=True)  # each process draws its own noise
        if found:
            with checkpoint.fitting(found):
                self.resume(found)
        else:
            self.log.rewind(0)

    def make_step(self, critic: Critic | None) -> TrainingStep:
        """What is run forward and backward: as a CUDA graph where that can be, and is not forbidden."""
        alone = self.accelerator.device.type == "cuda" and self.accelerator.distributed_type == DistributedType.NO
        whole = self.args.accumulation_steps == 1 and self.args.batch_size is not None and critic is None
        graphable = self.model.graphable and self.objective.can_be_graphed
        if self.args.cuda_graphs and alone and whole and graphable:
            assert self.args.batch_size is not None
            return GraphedTrainingStep(
                self.model, self.objective, precision=self.precision, batch_size=self.args.batch_size
            )
        network = critic.network if critic else None
        return TrainingStep(self.model, self.objective, precision=self.precision, critic=network)

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def fit(self) -> None:
        """Trains to the end of the schedule, from wherever the run stands."""
        started = time.monotonic()
        first_step = self.step
        task = self.bar.add_task("training", total=self.total_steps, completed=self.step)
        with make_profiler(self.run_dir / "profile", steps=self.args.profile_steps * self.is_main) as profiler:
            while not self.finished:
                for rows in self.batches_left():
                    if self.out_of_steps:
                        break
                    step_started = time.monotonic()
                    stopping = self.train_step(rows)
                    self.bar.update(task, completed=self.step)
                    profiler.step()
                    self.meter.seconds += time.monotonic() - step_started
                    if self.step % self.args.log_every == 0:
                        seconds_a_step = (time.monotonic() - started) / (self.step - first_step)
                        self.report(seconds_left=seconds_a_step * (self.total_steps - self.step))
                    if stopping or self.step % self.args.checkpoint_every == 0:
                        self.save()
                    if stopping:
                        raise Interrupted(
                            f"stopped by a signal at step {self.step}, state saved; train.resume=auto goes on",
                            signal_number=self.stop_signal or signal.SIGTERM,
                        )
                else:
                    self.end_epoch(finished=True)
                    continue
                self.end_epoch(finished=False)

    @property
    def out_of_steps(self) -> bool:
        """True at `train.max_steps`, or past it: the checkpoint that the run went on from may be."""
        return self.args.max_steps is not None and self.step >= self.args.max_steps

    @property
    def finished(self) -> bool:
        """True at the end of the schedule: steps, epochs, or a learning rate that fell too low."""
        return (
            (self.out_of_steps and self.validated_step == self.step)
            or self.epoch >= self.args.max_epochs
            or self.schedule.finished
        )

    def random_training_batch(self, num: int) -> Observations:
        """Training observations by the seed, the same on each process; some of them again where there are fewer."""
        random = np.random.default_rng([self.args.seed, 0, 1])  # of numbers that no epoch's order takes
        rows = random.choice(len(self.train_split), min(num, len(self.train_split)), replace=False)
        return self.train_split.batch(np.resize(rows, num))

    def batches_left(self) -> Iterator[np.ndarray]:
        """The rows of each global batch that is left of this epoch."""
        order = training_order(
            self.train_split,
            **self.args.batching(),
            seed=self.args.seed,
            epoch=0 if self.args.overfit_batches else self.epoch,
        )
        return islice(order, self.batch_in_epoch, self.args.overfit_batches)

    def train_step(self, rows: np.ndarray) -> bool:
        """One optimizer step on a global batch, of which this process takes its share; True to stop after it."""
        world_size = self.accelerator.num_processes
        self.parallel.set_learning_rate(self.schedule.rate(self.step))
        # Gradients are averaged over processes: this makes them those of the global mean.
        scale = world_size / (self.sentences_per_batch if self.args.tokens_per_batch else len(rows))
        read = self.train_split.read(rows)
        share = share_of_rank(rows, read.lengths, rank=self.accelerator.process_index, world_size=world_size)
        parts = np.array_split(share, min(self.args.accumulation_steps, math.ceil(len(rows) / world_size)))
        measured: list[tuple[Observations, Terms]] = []
        for i, part in enumerate(parts):
            # A process without a row takes part with a gradient of zero.
            places = part if len(part) else [0]
            batch = read.batch(places, max_length=self.args.max_length).to(self.accelerator.device)
            with self.parallel.part(last=i == len(parts) - 1):
                terms = self.parallel.forward(batch, self.step)
                loss = _descended(terms).sum() * (scale if len(part) else 0.0)
                self.parallel.backward(loss)
            if len(part):
                measured.append((batch, terms))
        stopping, broken = self.agree(torch.cat([_descended(terms) for _, terms in measured] or [loss[None]]))
        if broken:
            self.fail(measured)
        norm = self.parallel.step()
        if not math.isfinite(norm):
            raise self.diverged("the gradient's norm", norm, rows)
        for seen, terms in measured:
            self.meter.add({**terms, "grad_norm": torch.full_like(terms["loss"], norm)}, seen)
        if self.average:
            self.average.update(self.model.named_parameters())
        self.step += 1
        self.batch_in_epoch += 1
        return stopping

    def agree(self, losses: Tensor) -> tuple[bool, bool]:
        """Whether any process was told to stop, and whether any has a loss that is NaN or infinite."""
        if self.accelerator.num_processes == 1:
            return self.stop_signal > 0, not losses.isfinite().all()
        flags = torch.stack([losses.new_tensor(float(self.stop_signal)), (~losses.isfinite()).sum()])
        flags = self.accelerator.reduce(flags, reduction="sum")
        stopping, broken = flags.tolist()
        return stopping > 0, broken > 0

    def fail(self, measured: list[tuple[Observations, Terms]]) -> None:
        """Ends a run whose loss is not finite, before the step spoils the weights, and saves what they are."""
        broken = [
            (row, loss)
            for batch, terms in measured
            for row, loss in zip(batch.rows, _descended(terms).detach(), strict=True)
        ]
        culprits = dict(gather_object([(int(row), float(loss)) for row, loss in broken if not loss.isfinite()]))
        weights = self.parallel.weights()
        if all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            self.save()
        raise self.diverged("the loss", next(iter(culprits.values())), np.array(sorted(culprits)))

    def diverged(self, what: str, value: float, rows: np.ndarray) -> SmimError:
        shown = ", ".join(map(str, rows[:20].tolist())) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")
        saved = checkpoint.list_checkpoints(self.run_dir / "checkpoints")
        return SmimError(
            f"{what} became {value} in step {self.step + 1} (epoch {self.epoch + 1}) on rows {shown} of split 'train'; "
            f"the weights before it are in {saved[-1] if saved else 'no checkpoint yet'}. Try a lower "
            f"train.learning_rate (train.resume=CHECKPOINT takes it) or train.precision=fp32"
        )

    def report(self, *, seconds_left: float) -> None:
        """One line of log and of `metrics.jsonl` for the steps since the last one."""
        seconds = self.meter.seconds
        means = self.meter.read(self.accelerator)
        tokens, sentences, positions = means.pop("tokens"), means.pop("sentences"), means.pop("positions")
        speed = {
            "tokens_per_second": tokens / seconds,
            "sentences_per_second": sentences / seconds,
            "model_flops_utilisation": self.flops_per_token * tokens / seconds / self.peak,
            "padding": 1 - (tokens + sentences) / positions,
            "seconds": seconds,
        }
        self.write_metrics("train", {**means, **speed})
        shown = "  ".join(f"{name} {value:.2f}" for name, value in means.items())
        self.say(
            f"step {self.step}  epoch {self.epoch + 1}  {shown}  {tokens / seconds:,.0f} tokens/s  "
            f"{speed['model_flops_utilisation']:.0%} of the machine's matrix rate  "
            f"at most {_duration(seconds_left)} left"
        )

    def end_epoch(self, *, finished: bool) -> None:
        """Validates, keeps the model if it is the best, moves the schedule, and saves."""
        model = self.model_to_keep()
        metrics = validate(
            model,
            self.objective,
            self.valid_split,
            accelerator=self.accelerator,
            seed=self.args.seed,
            critic=self.parallel.critic.network if self.parallel.critic else None,
        )
        if not math.isfinite(metrics["loss"]):
            raise SmimError(f"the validation loss is {metrics['loss']} at step {self.step}; training diverged")
        tokens, sentences = metrics.pop("tokens"), metrics.pop("sentences")
        metrics.pop("positions")
        length = f" of {tokens / sentences:.1f} tokens" if self.corpus.tokenizer else ""
        is_best = self.schedule.update(metrics["loss"])
        self.validated_step = self.step
        self.write_metrics("valid", metrics)
        self.say(
            f"validation after step {self.step}: loss {metrics['loss']:.3f}{' (best)' if is_best else ''}  "
            f"reconstruction {metrics['reconstruction']:.3f} nats a {self.corpus.unit}{length}  "
            f"KL {metrics['kl']:.1f}  on the clamp {metrics['clamped']:.0%}  active units "
            f"{metrics['active_units']} ({metrics['active_units_relative']} relative) "
            f"of {self.model.args.latent_dim}  learning rate {self.schedule.rate(self.step):.2g}"
        )
        if is_best and self.is_main:
            training = {
                "objective": self.objective.name,
                "settings": self.objective.changed,
                "corpus": self.corpus.name,
                "seed": self.args.seed,
                "step": self.step,
                "epoch": self.epoch + 1,
                "valid_loss": metrics["loss"],
                "valid_reconstruction": metrics["reconstruction"],
            }
            save_model(self.run_dir / "model", model, self.corpus.tokenizer, training=training)
        if finished:
            self.epoch, self.batch_in_epoch = self.epoch + 1, 0
        self.save()

    def model_to_keep(self) -> LatentVariableModel:
        """The model that is validated and saved: the trained one, or one of averaged or gathered weights."""
        if not (self.parallel.sharded or (self.average and self.step)):
            return self.model
        weights = self.average.weights if self.average else self.parallel.weights()
        with torch.random.fork_rng():  # what is drawn for weights that are replaced at once does not count
            model = make_model(self.model.args, input_size=self.model.input_size)
        model.load_state_dict(weights)
        return model.to(self.accelerator.device)

    def write_metrics(self, split: str, values: dict[str, Any]) -> None:
        head = {"step": self.step, "epoch": self.epoch + 1, "split": split}
        values = {**values, "learning_rate": self.schedule.rate(self.step)}
        self.log.write({**head, **values})
        self.accelerator.log({f"{split}/{name}": value for name, value in values.items()}, step=self.step)

    def save(self) -> None:
        """Writes a checkpoint of this moment."""
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

    def checkpoint_to_resume(self) -> Path | None:
        """The checkpoint that this run goes on from; raises `UserError` where it is another run's."""
        root = self.run_dir / "checkpoints"
        if self.args.resume == "never":
            if checkpoint.list_checkpoints(root):
                raise UserError(f"{self.run_dir} holds a run already; add train.resume=auto or change run.dir")
            return None
        if self.args.resume == "auto":
            path = checkpoint.newest_valid(root, warn=lambda text: self.say(f"warning: {text}"))
        else:
            path = Path(self.args.resume)
            checkpoint.verify(path)
        if path is not None:
            # A checkpoint that is named may be gone on from with other settings of the training.
            changed = checks.check_identity(path, self.identity, training_may_change=self.args.resume != "auto")
            if changed:
                self.say(f"warning: going on from {path} with other settings: {changed}")
            if left := [each.name for each in checkpoint.list_checkpoints(root) if each.name > path.name]:
                self.say(f"warning: the first save removes the later {', '.join(left)} of {root}; copy what is to stay")
        return path

    def resume(self, path: Path) -> None:
        """Puts everything but the weights, which the model has already, where the checkpoint stands."""
        state, rank_state = checkpoint.load_state(
            path, rank=self.accelerator.process_index, world_size=self.accelerator.num_processes
        )
        changed = {name for name in self.identity if state["identity"].get(name) != self.identity[name]}
        if changed.isdisjoint({"train.optimizer", "train.momentum"}):
            self.parallel.load_optimizer_state(checkpoint.load_tensors(path, "optimizer"))
        if self.average and state["identity"].get("train.ema_decay") is None:
            self.average.update(self.model.named_parameters())
        elif self.average:
            self.average.load(checkpoint.load_tensors(path, "average"))
            with torch.device("meta"):
                make_model(self.model.args, input_size=self.model.input_size).load_state_dict(self.average.weights)
        if self.parallel.critic:
            self.parallel.load_critic_state(checkpoint.load_tensors(path, "critic"))
        if not changed.isdisjoint({"train.learning_rate", "train.schedule", "train.overfit_batches"}):
            state["schedule"] = {**self.schedule.state(), "best": state["schedule"]["best"]}
        if not changed.isdisjoint({f"train.{name}" for name in ("seed", "overfit_batches", *self.args.batching())}):
            state["batch_in_epoch"] = 0  # the epoch's batches are others
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

    def say(self, text: str) -> None:
        if self.is_main:
            console.print(text, highlight=False, soft_wrap=True)

    def write_status(self, status: str, **details: Any) -> None:
        """`status.json`: running, finished, interrupted or failed, with the step and the message."""
        if self.is_main:
            storage.write_json(self.run_dir / "status.json", {"status": status, "step": self.step, **details})


def main(cfg: DictConfig) -> None:
    """Checks the configuration, then trains."""
    model_args, objective, args = config.make_all(
        cfg,
        model=make_args,
        objective=lambda section: config.make(objective_class(section.name), section, "objective"),
        train=lambda section: config.make(TrainArgs, section, "train"),
    )
    if cfg.corpus.dir is None:
        raise UserError("which corpus? give corpus=NAME or corpus.dir=DIR of a prepared corpus")
    run_dir = Path(cfg.run.dir or _default_run_dir(cfg))
    accelerator = make_accelerator(
        sharding=True,
        trackers=args.trackers,
        run_dir=run_dir,
        timeout=args.process_timeout,
    )
    with own(run_dir, accelerator):
        corpus = open_corpus(cfg.corpus.dir)
        trainer = Trainer(corpus, model_args, objective, args, accelerator=accelerator, run_dir=run_dir)
        if trainer.is_main:
            storage.write_text(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        accelerator.init_trackers("smim")
        signal.signal(signal.SIGTERM, trainer.on_signal)
        signal.signal(signal.SIGINT, trainer.on_signal)
        trainer.say(
            f"{trainer.num_parameters:,} parameters, {len(trainer.train_split):,} "
            f"{corpus.unit}s, {accelerator.num_processes} process(es) on "
            f"{accelerator.device.type}, {trainer.parallel.name}, {trainer.precision}; writing to {run_dir}"
        )
        trainer.write_status("running")
        try:
            with trainer.bar:
                trainer.fit()
        except Exception as error:
            told = lost_process(error, run_dir) or error
            _record_failure(trainer, told)
            raise told from (None if told is not error else error.__cause__)
        close(accelerator)
        trainer.write_status("finished")
        trainer.say(f"finished after {trainer.step} steps; best validation loss {trainer.schedule.best:.3f}; {run_dir}")


def _descended(terms: Terms) -> Tensor:
    """The loss, and the critic's with it where there is one, [B]."""
    return terms["loss"] + terms.get("critic_loss", 0.0)


def _record_failure(trainer: Trainer, error: Exception) -> None:
    status = "interrupted" if isinstance(error, Interrupted) else "failed"
    try:
        trainer.write_status(status, message=str(error), exit_status=getattr(error, "exit_status", 1))
    except OSError as second:
        if storage_problem(second) is None:
            raise


def _default_run_dir(cfg: DictConfig) -> str:
    return f"runs/{Path(cfg.corpus.dir).name}_{cfg.objective.name}_{cfg.model.latent_dim}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


if __name__ == "__main__":
    config.run("train", main)
