"""What the tests of objectives share: small models of vectors, and means within their standard errors."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from smim.model.distributions import DiagonalGaussian
from smim.model.mlp import VectorAutoencoder
from smim.vectors.batch import VectorBatch
from tests.models import vector_args


def check_mean(values: Tensor, expected: Tensor | float) -> None:
    """The mean of independent rows is the expected one, within four standard errors."""
    values, expected = values.detach().double(), torch.as_tensor(expected).detach().double()
    standard_error = values.std(0) / math.sqrt(len(values))
    assert ((values.mean(0) - expected).abs() <= 4 * standard_error).all(), (values.mean(0), expected, standard_error)


def flat_gradient(value: Tensor, module: nn.Module) -> Tensor:
    """The gradient to all of a module's parameters, as one vector."""
    gradients = torch.autograd.grad(value, list(module.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def vector_model(likelihood: str = "gaussian") -> VectorAutoencoder:
    """Three dimensions, two latent ones, random weights."""
    return VectorAutoencoder(vector_args(latent_dim=2, hidden_dim=6, likelihood=likelihood), dimension=3)


def vectors(num: int) -> VectorBatch:
    return VectorBatch(torch.arange(num), torch.rand(num, 3))


def repeated(batch: VectorBatch, times: int) -> VectorBatch:
    """One vector, many times."""
    return VectorBatch(batch.rows.expand(times), batch.vectors.expand(times, -1))


def gaussian(parameters: DiagonalGaussian) -> Independent:
    """The same Gaussian, of torch.distributions."""
    return Independent(Normal(parameters.mean, parameters.standard_deviation), 1)
