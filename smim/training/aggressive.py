"""Aggressive training of the encoder (He et al. 2019, "Lagging Inference Networks", Algorithm 1).

Early in training q(z|x) lags behind p(z|x), so the VAE learns to ignore its code. Therefore each step is preceded by
steps that train only the encoder, on other random batches, until the bound stops improving. The step itself then trains
only the rest: decoder, embeddings and prior. At the first validation without a gain of mutual information, this ends,
and each step trains all weights together.
"""

import math
from collections.abc import Callable
from typing import Any

# He et al. compare means over ten batches.
_WINDOW = 10


class Aggressive:
    """Whether the encoder is trained first, and the `information` of the last validation, in nats.

    `most_steps`: the largest number of encoder steps before a step; 0 means never. 100 is that of He et al.
    """

    def __init__(self, most_steps: int) -> None:
        self.most_steps = most_steps
        self.on = most_steps > 0
        self.information = 0.0

    def train(self, step: Callable[[], tuple[float, float]]) -> int:
        """Call `step` until the loss per token no longer falls, and return the number of calls.

        `step` trains the encoder on one batch and returns the loss in nats and the tokens of this batch. The rule
        compares ten batches with the ten before. With `most_steps` below 20, nothing is compared.
        """
        before, loss, tokens = math.inf, 0.0, 0.0
        for number in range(1, self.most_steps + 1 if self.on else 1):
            of_batch, size = step()
            loss, tokens = loss + of_batch, tokens + size
            if number % _WINDOW == 0:
                if loss / tokens >= before:
                    return number
                before, loss, tokens = loss / tokens, 0.0, 0.0
        return self.most_steps if self.on else 0

    def update(self, information: float) -> bool:
        """Note the mutual information of a validation, in nats. Return True if this ends the aggressive training."""
        ends = self.on and information <= self.information
        self.on, self.information = self.on and not ends, information
        return ends

    def state(self) -> dict[str, Any]:
        return {"on": self.on, "information": self.information}

    def load(self, state: dict[str, Any]) -> None:
        self.on, self.information = state["on"], state["information"]
