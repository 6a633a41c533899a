"""The training loop: epochs of steps, a validation after each, and checkpoints between them."""

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
from smim.model.directory import save_model
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.objectives import Terms
from smim.schema import changed
from smim.text.batch import with_random_words
from smim.text.batches import share_of_rank, training_order
from smim.training import checkpoint
from smim.training.console import step_line, validation_line
from smim.training.profiling import make_profiler
from smim.training.run import Interrupted, Run
from smim.training.validation import validate

# After fewer optimizer steps a stop leaves no model.
_LEAST_STEPS = 100


class Trainer(Run):
    """Trains a run from its position to its end, `fit`: what follows is in the order of its calls."""

    stop_signal = 0

    def fit(self) -> None:
        """Trains to the end of the schedule; raises `Interrupted` after a signal, `SmimError` where it diverges."""
        started, first_step = time.monotonic(), self.step
        task = self.console.bar.add_task("training", total=self.total_steps, completed=self.step)
        with make_profiler(self.run_dir / "profile", steps=self.args.profile_steps * self.is_main) as profiler:
            while not self.finished:
                for rows in self.batches_left():
                    if self.out_of_steps:
                        self.end_epoch(finished=False)
                        break
                    step_started = time.monotonic()
                    stopping = self.train_step(rows)
                    self.console.bar.update(task, completed=self.step)
                    profiler.step()
                    self.meter.seconds += time.monotonic() - step_started
                    if self.step % self.args.log_every == 0:
                        seconds_a_step = (time.monotonic() - started) / (self.step - first_step)
                        self.report(seconds_left=seconds_a_step * (self.total_steps - self.step))
                    if stopping or self.step % self.args.checkpoint_every == 0:
                        self.save()
                    if stopping:
                        self.leave_model()
                        raise Interrupted(
                            f"stopped by a signal at step {self.step}, state saved; train.resume=auto goes on",
                            signal_number=self.stop_signal or signal.SIGTERM,
                        )
                else:
                    self.end_epoch(finished=True)

    @property
    def finished(self) -> bool:
        """True at the end of the schedule: steps, epochs, or a learning rate that fell too low."""
        return (
            (self.out_of_steps and self.validated_step == self.step)
            or self.epoch >= self.args.max_epochs
            or self.schedule.finished
        )

    @property
    def out_of_steps(self) -> bool:
        """True at `train.max_steps`, or past it: the checkpoint that the run went on from may be."""
        return self.args.max_steps is not None and self.step >= self.args.max_steps

    def batches_left(self) -> Iterator[np.ndarray]:
        """The rows of each global batch that is left of this epoch."""
        order = training_order(
            self.train_split,
            **self.batching(),
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
            batch = read.batch(places, max_length=self.cut).to(self.accelerator.device)
            if self.args.random_sentences:
                batch = with_random_words(batch, self.args.random_sentences, self.model.input_size)
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
        """Whether any process was asked to stop, and whether any has a loss that is NaN or infinite."""
        if self.accelerator.num_processes == 1:
            return self.stop_signal > 0, not losses.isfinite().all()
        flags = torch.stack([losses.new_tensor(float(self.stop_signal)), (~losses.isfinite()).sum()])
        flags = self.accelerator.reduce(flags, reduction="sum")
        stopping, broken = flags.tolist()
        return stopping > 0, broken > 0

    def on_signal(self, number: int, frame: Any) -> None:
        """Lets the step in progress end and the state be saved; a second Ctrl-C does not wait for that."""
        if self.stop_signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.stop_signal = number

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
        """A line of log and of `metrics.jsonl` for the steps since the last one."""
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
        self.console.say(step_line(means, speed, step=self.step, epoch=self.epoch + 1, seconds_left=seconds_left))

    def end_epoch(self, *, finished: bool) -> None:
        """Validates, keeps the model if it is the best, moves the schedule, and saves."""
        model = self.model_to_keep()
        metrics = validate(
            model,
            self.objective,
            self.valid_split,
            accelerator=self.accelerator,
            seed=self.args.seed,
            max_length=self.valid_cut,
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
        if is_best and self.is_main:
            measured = {
                "valid_loss": metrics["loss"],
                "valid_reconstruction": metrics["reconstruction"],
                "code_deviation": metrics["code_deviation"],
            }
            self.keep(model, measured)
        if finished:
            self.epoch, self.batch_in_epoch = self.epoch + 1, 0
        self.save()

    def leave_model(self) -> None:
        """Before the first validation, what has been learned so far becomes the model, said to be unfinished."""
        if self.validated_step is not None or self.step < _LEAST_STEPS:
            return
        model = self.model_to_keep()
        if self.is_main and not (self.run_dir / "model").exists():
            self.keep(model, {"valid_loss": None, "unfinished": True})
            self.console.say(f"{self.run_dir / 'model'} is what was learned in {self.step:,} steps, not validated yet")

    def keep(self, model: LatentVariableModel, measured: dict[str, Any]) -> None:
        """Writes the run's model, with what is known of it."""
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
    """The loss, and the critic's with it where there is one, [B]."""
    return terms["loss"] + terms.get("critic_loss", 0.0)
