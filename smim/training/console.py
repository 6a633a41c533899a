"""What a person sees of a training: a progress bar, and lines of log."""

import math
from typing import Any

from smim.progress import console, progress_bar


class Console:
    """A progress bar and lines on stderr; of several processes only the one that is `visible` shows them."""

    def __init__(self, *, visible: bool) -> None:
        self.visible = visible
        self.bar = progress_bar(visible=visible)

    def say(self, text: str) -> None:
        if self.visible:
            console.print(text, highlight=False, soft_wrap=True)


def step_line(means: dict[str, float], speed: dict[str, float], *, step: int, epoch: int, seconds_left: float) -> str:
    """What the steps since the last line came to: `means` of the loss's terms, and the `speed`."""
    shown = "  ".join(f"{name} {value:.2f}" for name, value in means.items())
    return (
        f"step {step}  epoch {epoch}  {shown}  {speed['tokens_per_second']:,.0f} tokens/s  "
        f"{speed['model_flops_utilisation']:.0%} of the machine's matrix rate  at most {duration(seconds_left)} left"
    )


def validation_line(
    metrics: dict[str, Any], *, step: int, is_best: bool, unit: str, latent_dim: int, learning_rate: float
) -> str:
    """What a validation found, in nats a `unit`: "a vector", "a sentence of 20.1 tokens"."""
    return (
        f"validation after step {step}: loss {metrics['loss']:.3f}{' (best)' if is_best else ''}  "
        f"reconstruction {metrics['reconstruction']:.3f} nats {unit}  "
        f"KL {metrics['kl']:.1f}  on the clamp {metrics['clamped']:.0%}  active units "
        f"{metrics['active_units']} ({metrics['active_units_relative']} relative) "
        f"of {latent_dim}  learning rate {learning_rate:.2g}"
    )


def duration(seconds: float) -> str:
    """Hours and minutes; "?" where they are not finite."""
    if not math.isfinite(seconds):
        return "?"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
