"""Flows and labels with random weights in two dimensions, where densities can be summed over a grid."""

import pytest
import torch
from torch import Tensor

from smim.model.distributions import DiagonalGaussian
from smim.tzk.args import KnowledgeArgs, PriorArgs
from smim.tzk.knowledge import Knowledge
from smim.tzk.prior import CodePrior
from tests.tzk.densities import Integral, randomize


@pytest.fixture
def prior() -> CodePrior:
    """Of codes in two dimensions around (3, -1), with a covariance and a bend."""
    prior = CodePrior(2, PriorArgs(num_coupling_layers=3, hidden_dim=8))
    mean = torch.randn(500, 2) @ torch.tensor([[0.5, 0.2], [0.0, 0.3]]) + torch.tensor([3.0, -1.0])
    prior.standardization.fit(DiagonalGaussian(mean, torch.full_like(mean, -3.0)))
    randomize(prior.flow, 0.2)
    return prior


@pytest.fixture
def knowledge() -> Knowledge:
    """A label over `prior` with a code of one dimension."""
    knowledge = Knowledge(2, KnowledgeArgs(code_dim=1, num_coupling_layers=2, hidden_dim=8), frequency=0.3)
    randomize(knowledge, 0.3, seed=1)
    return knowledge


@pytest.fixture
def grid() -> tuple[Tensor, float]:
    """Points [N, 2] around the codes of `prior`, and the area of each."""
    axis = torch.linspace(-6, 6, 241)
    points = torch.cartesian_prod(axis, axis) + torch.tensor([3.0, -1.0])
    return points, float(axis[1] - axis[0]) ** 2


@pytest.fixture
def integral(grid: tuple[Tensor, float]) -> Integral:
    """The sum over the grid of a density that is given as its logarithm at each point."""
    return lambda log_density: float(log_density.double().exp().sum()) * grid[1]
