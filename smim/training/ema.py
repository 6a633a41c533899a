"""An exponential moving average of the weights, which often generalises better than the last ones."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

_NUM_UPDATES = "num_updates"


class WeightAverage:
    """average = d x average + (1 - d) x weights after each optimizer step, in fp32.

    At the n-th update, counted from 0, d is min(`decay`, (1 + n) / (10 + n)), TensorFlow's warm-up: without
    it the random weights that training began with would be most of the first 1 / (1 - `decay`) updates' average.
    `weights` are the averages by the parameter's name; parameters must be whole on each process.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Takes the weights after one more step; the first ones are the average themselves."""
        current = {name: parameter.detach().float() for name, parameter in named_parameters}
        if not self.weights:
            self.weights = {name: tensor.clone() for name, tensor in current.items()}
        else:
            self.weights = {name: self.weights[name].to(tensor.device) for name, tensor in current.items()}
            decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
            get_ema_multi_avg_fn(decay)(list(self.weights.values()), list(current.values()), self.num_updates)
        self.num_updates += 1

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: `weights`, and the number of updates under `num_updates`."""
        return {**self.weights, _NUM_UPDATES: torch.tensor(self.num_updates)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state` gave; its tensors are updated in place from now on."""
        self.weights = {name: tensor for name, tensor in state.items() if name != _NUM_UPDATES}
        self.num_updates = int(state[_NUM_UPDATES])
