"""An exponential moving average of the weights, which often generalises better than the final weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

_NUM_UPDATES = "num_updates"


class WeightAverage:
    """The moving average d x average + (1 - d) x weights after each optimizer step, in fp32.

    At the n-th update, counted from 0, d is min(`decay`, (1 + n) / (10 + n)). Without this warm-up (TensorFlow's), the
    initial weights would dominate the average in the first 1 / (1 - `decay`) updates.
    `weights` has the averages by the parameters' names. Each process must have the whole parameters.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Update the average with the weights after a step. The first call takes the weights themselves."""
        current = {name: parameter.detach().float() for name, parameter in named_parameters}
        if not self.weights:
            self.weights = {name: tensor.clone() for name, tensor in current.items()}
        else:
            self.weights = {name: self.weights[name].to(tensor.device) for name, tensor in current.items()}
            decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
            get_ema_multi_avg_fn(decay)(list(self.weights.values()), list(current.values()), self.num_updates)
        self.num_updates += 1

    def state(self) -> dict[str, Tensor]:
        """The state for a checkpoint: `weights`, and the number of updates under `num_updates`."""
        return {**self.weights, _NUM_UPDATES: torch.tensor(self.num_updates)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the result of `state`. Its tensors are updated in place from now on."""
        self.weights = {name: tensor for name, tensor in state.items() if name != _NUM_UPDATES}
        self.num_updates = int(state[_NUM_UPDATES])
