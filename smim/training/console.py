"""The console output of a training: a progress bar and log lines."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from smim.progress import console, progress_bar


class Console:
    """A progress bar and log lines on stderr. Only the process with `visible` shows them."""

    def __init__(self, *, visible: bool) -> None:
        self.visible = visible
        self.bar = progress_bar(visible=visible, says_left=True)

    @contextmanager
    def counting(self, what: str, *, total: int) -> Iterator[Callable[[int], None]]:
        """Show a second progress bar while the block runs. Yields a function to report further finished items."""
        task = self.bar.add_task(what, total=total, left="")
        yield lambda done: self.bar.advance(task, done)
        self.bar.remove_task(task)

    def say(self, text: str) -> None:
        if self.visible:
            console.print(text, soft_wrap=True)


def step_line(means: dict[str, float], speed: dict[str, float], *, step: int, epoch: int, left: str) -> str:
    """Format the results since the last line: `means` of the loss's terms, the `speed`, and the time `left`."""
    shown = "  ".join(f"{name} {value:.2f}" for name, value in means.items())
    return (
        f"step {step}  epoch {epoch}  {shown}  {speed['tokens_per_second']:,.0f} tokens/s  "
        f"{speed['model_flops_utilisation']:.0%} of the machine's matrix rate  {left}"
    )


def validation_line(
    metrics: dict[str, Any], *, step: int, is_best: bool, unit: str, latent_dim: int, learning_rate: float
) -> str:
    """Format the results of a validation. They are in nats per `unit`, such as "a sentence of 20.1 tokens"."""
    return (
        f"validation after step {step}: loss {metrics['loss']:.3f}{' (best)' if is_best else ''}  "
        f"reconstruction {metrics['reconstruction']:.3f} nats {unit}  "
        f"KL {metrics['kl']:.1f}  on the clamp {metrics['clamped']:.0%}  active units "
        f"{metrics['active_units']} ({metrics['active_units_relative']} relative) "
        f"of {latent_dim}  learning rate {learning_rate:.2g}"
    )


def time_left(seconds: float, *, epoch: int | None, max_epochs: int, at_most: bool) -> str:
    """Format the remaining `seconds` of the `epoch` (counted from 1), or of the run if `epoch` is None.

    `at_most`: the run may end earlier.
    """
    left = f"{duration(seconds)} left"
    if epoch is not None:
        return f"{left} in epoch {epoch} of at most {max_epochs}"
    return f"at most {left}" if at_most else left


def fitting_line(
    steps: float, *, epoch_steps: int, minutes: float, step: int, most_steps: int, enough_steps: int
) -> str:
    """Format how many `steps` fit into `minutes`, for a run that is at `step` and ends at the latest at `most_steps`.

    It is a warning if `steps` is below `enough_steps`. A run makes at least one step.
    """
    whole, fit = most_steps - step, f"fit into {minutes:g} min"
    if steps >= whole:
        return f"all {whole:,} steps {fit}"
    number = max(1, int(steps))
    unit = 10 ** max(0, len(str(number)) - 2)  # keeps two significant digits
    counted = f"{number // unit * unit:,} {'more ' if step else ''}{'step' if number == 1 else 'steps'}"
    shown = f"about {counted}, {number / epoch_steps:.1f} epochs, {fit}"
    if number >= enough_steps:
        return shown
    return f"warning: only {shown}, which are too few for a useful model; increase train.max_minutes"


def duration(seconds: float) -> str:
    """Format a duration as seconds, or as hours and minutes; "?" if it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    if round(seconds) < 60:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
