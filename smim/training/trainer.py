"""The training loop: epochs of steps, a validation after each epoch, and regular checkpoints."""

import math
import signal
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from smim.errors import SmimError
from smim.model.directory import read_config, save_model
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives import Terms
from smim.schema import changed
from smim.text.batch import with_random_words
from smim.text.batches import share_of_rank, training_order
from smim.training import checkpoint
from smim.training.console import fitting_line, step_line, time_left, validation_line
from smim.training.profiling import make_profiler
from smim.training.run import Interrupted, Run
from smim.training.schedule import PlateauSchedule
from smim.training.validation import validate

# A run that is stopped after fewer optimizer steps writes no model.
_LEAST_STEPS = 100
# The estimate of the total steps is printed after this many steps, or after a fifth of the time.
_STEPS_MEASURED = 30


class Trainer(Run):
    """A run with the training loop `fit`. The other methods follow roughly in the order in which `fit` calls them."""

    stop_signal = 0
    # The last step that fits into the run's time. All processes have the main process's estimate.
    last_step_in_time = math.inf
    said_what_fits = False

    def fit(self) -> None:
        """Train to the end of the schedule. Raises `Interrupted` after a signal, `SmimError` if training diverges."""
        task = self.console.bar.add_task("training", **self.shown())
        with make_profiler(self.run_dir / "profile", steps=self.args.profile_steps * self.is_main) as profiler:
            while not self.finished:
                for rows in self.batches_left():
                    if self.out_of_steps:
                        self.end_epoch(finished=False)
                        break
                    step_started = time.monotonic()
                    stopping = self.train_step(rows)
                    profiler.step()
                    seconds = time.monotonic() - step_started
                    self.meter.seconds += seconds
                    self.pace.add_step(seconds)
                    self.console.bar.update(task, **self.shown())
                    if self.step % self.args.log_every == 0:
                        self.report()
                    if stopping or self.step % self.args.checkpoint_every == 0:
                        save_started = time.monotonic()
                        self.save()
                        self.pace.save = time.monotonic() - save_started
                    if stopping:
                        self.leave_model()
                        raise Interrupted(
                            f"stopped by a signal at step {self.step}; its state is saved; train.resume=auto continues",
                            signal_number=self.stop_signal or signal.SIGTERM,
                        )
                else:
                    self.end_epoch(finished=True)

    @property
    def finished(self) -> bool:
        """True at the end of the schedule: by steps, by epochs, or by a plateau's minimum learning rate."""
        return (
            (self.out_of_steps and self.validated_step == self.step)
            or self.epoch >= self.args.max_epochs
            or self.schedule.finished
        )

    @property
    def out_of_steps(self) -> bool:
        """True at or after `train.max_steps` (a resumed run may start after it), or if no step fits into the time."""
        return self.step >= min(self.args.max_steps or math.inf, self.last_step_in_time)

    @property
    def to_epoch_end(self) -> int:
        """The remaining steps of this epoch, at least one. For batches by tokens it is an estimate."""
        return max(1, self.epoch_steps - self.batch_in_epoch)

    def batches_left(self) -> Iterator[np.ndarray]:
        """Yield the rows of each remaining global batch of this epoch."""
        order = training_order(
            self.train_split,
            **self.batching(),
            seed=self.args.seed,
            epoch=0 if self.args.overfit_batches else self.epoch,
        )
        return islice(order, self.batch_in_epoch, self.args.overfit_batches)

    def train_step(self, rows: np.ndarray) -> bool:
        """Do one optimizer step on this process's share of a global batch. Return True if the run must stop."""
        self.parallel.set_learning_rate(self.schedule.rate(self.step))
        encoder_steps = self.train_encoder(len(rows)) if self.aggressive.on else 0
        measured, losses = self.compute_gradients(rows)
        stopping, broken = self.agree(losses)
        if broken:
            self.fail(measured)
        if self.aggressive.on:
            self.keep_gradients(of_encoder=False)
        norm = self.parallel.step()
        if not math.isfinite(norm):
            raise self.diverged("the gradient's norm", norm, rows)
        logged = {"grad_norm": norm} | ({"encoder_steps": encoder_steps} if self.aggressive.most_steps else {})
        for seen, terms in measured:
            values = {name: torch.full_like(terms["loss"], value) for name, value in logged.items()}
            self.meter.add({**terms, **values}, seen)
        if self.average:
            self.average.update(self.model.named_parameters())
        self.step += 1
        self.batch_in_epoch += 1
        return stopping

    def train_encoder(self, num: int) -> int:
        """Train only the encoder, on random batches of `num` sentences (see `Aggressive`). Return the steps taken."""
        random = np.random.default_rng([self.args.seed, self.step, 2])  # no epoch's order has such a key

        def step() -> tuple[float, float]:
            rows = random.choice(len(self.train_split), min(num, len(self.train_split)), replace=False)
            measured, losses = self.compute_gradients(rows)
            self.keep_gradients(of_encoder=True)
            norm = self.parallel.step()
            if not math.isfinite(norm):
                raise self.diverged("the gradient's norm", norm, rows)
            tokens = sum(int(batch.lengths.sum()) + len(batch) for batch, _ in measured)
            sums = torch.tensor([float(losses.detach().sum()), tokens], dtype=torch.float64, device=losses.device)
            loss, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
            return loss, tokens

        return self.aggressive.train(step)

    def keep_gradients(self, *, of_encoder: bool) -> None:
        """Drop the gradients of all other weights, so that optimizers leave these weights and their state as is."""
        encoder = {*map(id, self.model.inference_parameters())}
        for parameter in self.model.parameters():
            if (id(parameter) in encoder) != of_encoder:
                parameter.grad = None

    def compute_gradients(self, rows: np.ndarray) -> tuple[list[tuple[Observations, Terms]], Tensor]:
        """Compute the gradients for a global batch. Return this process's parts of it, their terms, and all losses.

        A process without a row has no parts, and one loss of 0.
        """
        world_size = self.accelerator.num_processes
        # Gradients are averaged over processes. This factor makes the result the gradient of the global mean.
        scale = world_size / (self.sentences_per_batch if self.args.tokens_per_batch else len(rows))
        read = self.train_split.read(rows, key=(self.args.seed, self.step))
        share = share_of_rank(rows, read.lengths, rank=self.accelerator.process_index, world_size=world_size)
        parts = np.array_split(share, min(self.args.accumulation_steps, math.ceil(len(rows) / world_size)))
        measured: list[tuple[Observations, Terms]] = []
        for i, part in enumerate(parts):
            # A process without a row must take part too, with a gradient of zero.
            places = part if len(part) else [0]
            batch = read.batch(places, max_length=self.cut).to(self.accelerator.device)
            if self.args.random_sentences:
                batch = with_random_words(batch, self.args.random_sentences, self.model.input_size)
            with self.parallel.part(last=i == len(parts) - 1):
                terms = self.parallel.forward(batch, self.step)
                loss = _descended(terms).sum() * (scale if len(part) else 0.0)
                self.parallel.backward(loss)
            if len(part):
                measured.append((batch, terms))
        return measured, torch.cat([_descended(terms) for _, terms in measured] or [loss[None]])

    def agree(self, losses: Tensor) -> tuple[bool, bool]:
        """Return whether any process got a stop signal, and whether any has a loss that is NaN or infinite.

        All processes also adopt the main process's estimate of the steps (with the current one) that fit into the time.
        """
        fit = self.budget.steps_left(self.pace, to_epoch_end=self.to_epoch_end, now=time.monotonic())
        own = [float(self.stop_signal), float((~losses.isfinite()).sum()), fit if self.is_main else 0.0]
        if self.accelerator.num_processes > 1:
            flags = torch.tensor(own, dtype=torch.float64, device=losses.device)
            own = self.accelerator.reduce(flags, reduction="sum").tolist()
        stopping, broken, fit = own
        self.plan(fit)
        return stopping > 0, broken > 0

    def plan(self, fit: float) -> None:
        """Set the end of the run and of its schedule to `fit` more steps, which is infinite without a time limit."""
        self.last_step_in_time = self.step + fit
        if fit == math.inf:
            return
        self.schedule.total_steps = int(min(self.most_steps, self.last_step_in_time))
        minutes, left = self.args.max_minutes, self.budget.left(time.monotonic())
        assert minutes is not None
        if not self.said_what_fits and (self.pace.num_steps >= _STEPS_MEASURED or left < 0.8 * self.budget.seconds):
            self.said_what_fits = True
            begun = self.step - self.pace.num_steps
            self.console.say(
                fitting_line(
                    self.last_step_in_time - begun,
                    epoch_steps=self.epoch_steps,
                    minutes=minutes,
                    step=begun,
                    most_steps=self.most_steps,
                    enough_steps=_LEAST_STEPS,
                )
            )

    def shown(self) -> dict[str, Any]:
        """The progress bar's values: those of the epoch if a plateau may end the run soon, otherwise of the run."""
        if self.may_end_soon:
            return {"completed": self.batch_in_epoch, "total": self.epoch_steps, "left": self.time_left()}
        last_step = min(self.most_steps, self.last_step_in_time)
        return {"completed": self.step, "total": int(last_step), "left": self.time_left()}

    @property
    def may_end_soon(self) -> bool:
        """Whether only epochs limit the run, so that its plateau schedule usually ends it much earlier."""
        bounded = self.args.max_steps is not None or self.args.max_minutes is not None
        return isinstance(self.schedule, PlateauSchedule) and not bounded

    def time_left(self) -> str:
        """The estimated remaining time of the epoch or of the run, as text."""
        steps = self.to_epoch_end if self.may_end_soon else self.most_steps - self.step
        needed = self.pace.seconds_for(steps, to_epoch_end=self.to_epoch_end) if self.pace.num_steps else math.inf
        return time_left(
            min(needed, self.budget.left(time.monotonic())),
            epoch=self.epoch + 1 if self.may_end_soon else None,
            max_epochs=self.args.max_epochs,
            at_most=isinstance(self.schedule, PlateauSchedule),
        )

    def on_signal(self, number: int, frame: Any) -> None:
        """Stop after the current step and save the state. A second Ctrl-C stops at once, without saving."""
        if self.stop_signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.stop_signal = number

    def fail(self, measured: list[tuple[Observations, Terms]]) -> None:
        """End a run whose loss is not finite. Save the weights, which the step has not changed yet."""
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
            f"train.learning_rate (with train.resume=CHECKPOINT) or train.precision=fp32"
        )

    def report(self) -> None:
        """Write a line to the console and to `metrics.jsonl` for the steps since the last line."""
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
        self.console.say(step_line(means, speed, step=self.step, epoch=self.epoch + 1, left=self.time_left()))

    def end_epoch(self, *, finished: bool) -> None:
        """Validate, keep the model if it is the best, update the schedule, and save a checkpoint."""
        started = time.monotonic()
        model = self.model_to_keep()
        share = math.ceil(len(self.valid_split) / self.accelerator.num_processes)
        with self.console.counting("validation", total=share) as done:
            metrics = validate(
                model,
                self.objective,
                self.valid_split,
                accelerator=self.accelerator,
                seed=self.args.seed,
                max_length=self.valid_cut,
                critic=self.parallel.critic.network if self.parallel.critic else None,
                done=done,
            )
        if not math.isfinite(metrics["loss"]):
            raise SmimError(
                f"the validation loss is {metrics['loss']} at step {self.step}, so training diverged; "
                "try a lower train.learning_rate"
            )
        tokens, sentences = metrics.pop("tokens"), metrics.pop("sentences")
        metrics.pop("positions")
        length = f" of {tokens / sentences:.1f} tokens" if self.corpus.tokenizer else ""
        is_best = self.schedule.update(metrics["loss"])
        if self.aggressive.on and self.aggressive.update(metrics["mutual_information"]):
            self.console.say(
                f"the mutual information, {metrics['mutual_information']:.2f} nats, no longer grows; "
                "from now on each step trains all weights together"
            )
        self.validated_step = self.step
        self.write_metrics("valid", metrics)
        self.console.say(
            validation_line(
                metrics,
                step=self.step,
                is_best=is_best,
                unit=f"a {self.corpus.unit}{length}",
                latent_dim=self.model.args.latent_dim,
                learning_rate=self.schedule.rate(self.step),
            )
        )
        if self.is_main and (is_best or not self.has_validated_model):
            measured = {
                "valid_loss": metrics["loss"],
                "valid_reconstruction": metrics["reconstruction"],
                "code_deviation": metrics["code_deviation"],
            }
            self.keep(model, measured)
        if finished:
            self.epoch, self.batch_in_epoch = self.epoch + 1, 0
        self.save()
        self.pace.validations.append(time.monotonic() - started)
        self.agree(torch.zeros(1, device=self.accelerator.device))  # a signal takes effect after the next step

    @property
    def has_validated_model(self) -> bool:
        """Whether the run's directory has a validated model. After `resume=PATH`, it may be in another directory."""
        try:
            return "unfinished" not in read_config(self.run_dir / "model")["training"]
        except (SmimError, KeyError):
            return False

    def leave_model(self) -> None:
        """If there was no validation yet, save the current weights as the model, marked as unfinished."""
        if self.step < _LEAST_STEPS:
            return
        model = self.model_to_keep()
        if self.is_main and not self.has_validated_model:
            self.keep(model, {"valid_loss": None, "unfinished": True})
            self.console.say(f"{self.run_dir / 'model'} is the model after {self.step:,} steps; it was not validated")

    def keep(self, model: LatentVariableModel, measured: dict[str, Any]) -> None:
        """Write the run's model with its description."""
        training = {
            "objective": self.objective.name,
            "deterministic": self.objective.deterministic,
            "settings": changed(self.objective),
            "corpus": self.corpus.name,
            "sentences": len(self.train_split),
            "seed": self.args.seed,
            "step": self.step,
            "epoch": self.epoch + 1,
            **measured,
        }
        save_model(self.run_dir / "model", model, self.corpus.tokenizer, training=training, use=self.use)


def _descended(terms: Terms) -> Tensor:
    """The loss, plus the critic's loss if there is one, [B]."""
    return terms["loss"] + terms.get("critic_loss", 0.0)
