"""The training step as CUDA graphs.

A GRU's step consists of about a hundred small kernels. Single launches take much longer than the computation on the
GPU. A graph needs only one launch.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives import Objective, Terms
from smim.text.batch import Batch
from smim.training.step import TrainingStep

# A batch's length is rounded up to a multiple of this number of tokens: few graphs, little padding.
_LENGTHS_APART = 8


class GraphedTrainingStep(TrainingStep):
    """A training step that captures its forward and backward pass for each padded length, and then replays them.

    The model must be a `graphable` model of sentences. Batches of another size than `batch_size`, and steps at which
    the objective still changes, run without a graph. The next step overwrites the results and gradients of a step, so
    use them before.
    """

    def __init__(self, model: LatentVariableModel, objective: Objective, *, precision: str, batch_size: int) -> None:
        super().__init__(model, objective, precision=precision)
        self.batch_size = batch_size
        self.graphs: dict[int, _OfTensors] = {}
        self.memory: Any = None

    def forward(self, batch: Any, step: int) -> Terms:
        if len(batch) != self.batch_size or not self.objective.settled(step):
            return super().forward(batch, step)
        length = -(-batch.longest // _LENGTHS_APART) * _LENGTHS_APART
        inputs = _tensors(batch.padded_to(length))
        if length not in self.graphs:
            self.graphs[length] = self._capture(inputs, step)
        graph = self.graphs[length]
        loss, others = graph(*inputs)
        return {"loss": loss, **dict(zip(graph.names, others, strict=True))}

    def _capture(self, inputs: tuple[Tensor, ...], step: int) -> "_OfTensors":
        # All graphs share one memory pool, because steps run one after the other.
        self.memory = self.memory or torch.cuda.graph_pool_handle()
        samples = tuple(tensor.clone() for tensor in inputs)
        # Warm-up steps run on another stream than the replay, which is harmless here.
        warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match", UserWarning)
        # Warm-up steps draw random numbers. A resumed run would capture again, so they must not change the state.
        with torch.random.fork_rng():
            graph = _OfTensors(self, step)
            torch.cuda.make_graphed_callables(graph, samples, allow_unused_input=True, pool=self.memory)
        return graph


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    """The tensors of a batch, as arguments of `_batch`. `random` is left out, because superpositions have no graph."""
    view = () if batch.view is None else (batch.view,)
    pair = () if batch.pair is None else (batch.pair.tokens, batch.pair.lengths)
    return batch.rows, batch.tokens, batch.lengths, *view, *pair


def _batch(rows_B: Tensor, tokens_BT: Tensor, lengths_B: Tensor, *others: Tensor) -> Batch:
    """Make a batch from tensors. `others`: a teacher's vectors, or the tokens and lengths of pairs, or both."""
    view = others[0] if len(others) % 2 else None
    pair = Batch(rows_B, others[-2], others[-1], fixed_shape=True) if len(others) > 1 else None
    return Batch(rows_B, tokens_BT, lengths_B, fixed_shape=True, view=view, pair=pair)


class _OfTensors(nn.Module):
    """A training step as a function of tensors. Returns the loss [B], and the other terms stacked, without gradient."""

    def __init__(self, step: TrainingStep, number: int) -> None:
        super().__init__()
        self.step, self.number = step, number
        self.names: list[str] = []

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        batch = _batch(*tensors)
        terms = TrainingStep.forward(self.step, batch, self.number)
        loss = terms.pop("loss")
        self.names = list(terms)
        return loss, torch.stack([value.detach() for value in terms.values()])
