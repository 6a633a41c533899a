"""The training step as CUDA graphs.

A GRU's step is some hundred small kernels: launching them one by one takes many times what a GPU needs to compute them.
A graph is launched at once.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives import Objective, Terms
from smim.text.batch import Batch
from smim.training.step import TrainingStep

# Tokens that a batch's length is rounded up to a multiple of: few graphs, little padding.
_LENGTHS_APART = 8


class GraphedTrainingStep(TrainingStep):
    """A training step that captures its forward and backward pass for each padded length, and then replays them.

    The model is a `graphable` one of sentences. Batches that are not of `batch_size` of them, and steps at which the
    objective still changes, run as they would without. What a step returns, gradients too, lies where the next one
    writes: it is to be used before.
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
        # Steps use the memory one after the other.
        self.memory = self.memory or torch.cuda.graph_pool_handle()
        samples = tuple(tensor.clone() for tensor in inputs)
        # They are tried out on another stream than the one that they are replayed on, which costs nothing here.
        warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match", UserWarning)
        # The steps that are tried out before take random numbers, which a run that goes on would lack.
        with torch.random.fork_rng():
            graph = _OfTensors(self, step)
            torch.cuda.make_graphed_callables(graph, samples, allow_unused_input=True, pool=self.memory)
        return graph


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    """What a batch holds, as `_batch` takes it, but for `random`: it is for superpositions, which have no graph."""
    view = () if batch.view is None else (batch.view,)
    pair = () if batch.pair is None else (batch.pair.tokens, batch.pair.lengths)
    return batch.rows, batch.tokens, batch.lengths, *view, *pair


def _batch(rows_B: Tensor, tokens_BT: Tensor, lengths_B: Tensor, *others: Tensor) -> Batch:
    """`others`: a teacher's vectors, or the tokens and lengths of pairs, or both."""
    view = others[0] if len(others) % 2 else None
    pair = Batch(rows_B, others[-2], others[-1], fixed_shape=True) if len(others) > 1 else None
    return Batch(rows_B, tokens_BT, lengths_B, fixed_shape=True, view=view, pair=pair)


class _OfTensors(nn.Module):
    """A training step of tensors: the loss [B], which alone has a gradient, and the other terms, stacked."""

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
