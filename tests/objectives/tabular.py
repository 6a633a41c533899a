"""A model whose losses are exact: x one of a few symbols, one latent dimension, integrals over z as sums over a grid.

p(x|z) = softmax over the symbols of (slope_x z + offset_x), q(z|x) a Gaussian of the symbol. All in fp64.

Shapes: B symbols, X their number, Z points of the grid.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.priors import Prior, StandardNormal
from tests.models import vector_args

GRID = torch.linspace(-14, 14, 8001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])
DATA = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


@dataclass(frozen=True)
class Symbols:
    """B symbols; `rows` and `symbols` int64 [B]."""

    rows: Tensor
    symbols: Tensor

    @property
    def lengths(self) -> Tensor:
        return torch.ones_like(self.rows)

    @property
    def num_positions(self) -> int:
        return 2 * len(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> "Symbols":
        return Symbols(self.rows.to(device), self.symbols.to(device))


def draw(data_X: Tensor, num: int) -> Symbols:
    """Observations x ~ P(x)."""
    return Symbols(torch.arange(num), torch.multinomial(data_X, num, replacement=True))


class TabularModel(LatentVariableModel):
    """Tables of X numbers: mean and log variance of q(z|x), slope and offset of p(x|z)."""

    reparameterized = False

    def __init__(self, mean: Tensor, log_variance: Tensor, slope: Tensor, offset: Tensor, prior: Prior) -> None:
        super().__init__()
        self.args = vector_args(latent_dim=1)
        self.mean, self.log_variance, self.slope, self.offset = (
            nn.Parameter(table.double()) for table in (mean, log_variance, slope, offset)
        )
        self.prior = prior
        self.input_size = self.summary_dim = len(mean)

    def posterior(self, batch: Symbols) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean[batch.symbols, None], self.log_variance[batch.symbols, None])

    def log_likelihood(self, batch: Symbols, z_BD: Tensor) -> Tensor:
        return self.log_prob_of_all(z_BD).gather(1, batch.symbols[:, None])[:, 0]

    def log_prob_of_all(self, z_BD: Tensor) -> Tensor:
        """log p(x|z) of each symbol [B, X]."""
        return torch.log_softmax(z_BD * self.slope + self.offset, -1)

    @torch.no_grad()
    def sample(self, z_BD: Tensor, *, max_length: int = 100) -> Symbols:
        symbols = torch.multinomial(self.log_prob_of_all(z_BD).exp(), 1)[:, 0]
        return Symbols(torch.arange(len(symbols)), symbols)

    def summary(self, batch: Symbols) -> Tensor:
        return nn.functional.one_hot(batch.symbols, self.input_size).float()

    def freeze_variance(self) -> None:
        self.log_variance.requires_grad_(False)


def random_model() -> TabularModel:
    """Tables for the symbols of DATA from a fixed seed, under N(0, 1): encoder and decoder disagree."""
    random = torch.Generator().manual_seed(1)
    mean, log_variance, slope, offset = torch.randn(4, len(DATA), generator=random)
    return TabularModel(mean, 0.3 * log_variance - 1, slope, offset, StandardNormal(1))


class MixtureOfPosteriors(Prior):
    """p(z) = sum over x of P(x) N(z; mean_x, variance)."""

    def __init__(self, data_X: Tensor, mean_X: Tensor, variance: float) -> None:
        super().__init__()
        self.data_X, self.mean_X, self.variance = data_X, mean_X, variance

    def log_prob(self, z: Tensor) -> Tensor:
        log_prob_BX = -0.5 * ((z - self.mean_X).square() / self.variance + math.log(2 * math.pi * self.variance))
        return torch.logsumexp(log_prob_BX + self.data_X.log(), -1)

    def sample(self, num: int) -> Tensor:
        mean_B = self.mean_X[torch.multinomial(self.data_X, num, replacement=True)]
        return (mean_B + math.sqrt(self.variance) * torch.randn(num, dtype=torch.float64))[:, None]


def consistent_model(data_X: Tensor, *, variance: float = 0.3) -> TabularModel:
    """One whose q(z|x) P(x) and p(x|z) p(z) are the same joint distribution, for the data distribution P(x)."""
    mean_X = torch.linspace(-1, 1, len(data_X), dtype=torch.float64)
    # By Bayes' rule p(x|z) is proportional to P(x) N(z; mean_x, variance).
    offset_X = data_X.log() - mean_X.square() / (2 * variance)
    log_variance_X = torch.full_like(mean_X, math.log(variance))
    prior = MixtureOfPosteriors(data_X, mean_X, variance)
    return TabularModel(mean_X, log_variance_X, mean_X / variance, offset_X, prior)


@dataclass(frozen=True)
class Exact:
    """Expectations in nats, differentiable in the model's tables, for the data distribution `data_X`."""

    model: TabularModel
    data_X: Tensor

    @property
    def log_posterior(self) -> Tensor:
        """log q(z|x) [X, Z]."""
        standard = (GRID - self.model.mean[:, None]) / (0.5 * self.model.log_variance[:, None]).exp()
        return -0.5 * (standard.square() + self.model.log_variance[:, None] + math.log(2 * math.pi))

    @property
    def log_likelihood(self) -> Tensor:
        """log p(x|z) [X, Z]."""
        return self.model.log_prob_of_all(GRID[:, None]).T

    @property
    def log_prior(self) -> Tensor:
        """log p(z) [Z]."""
        return self.model.prior.log_prob(GRID[:, None])

    def over_encoder(self, values_XZ: Tensor) -> Tensor:
        """E over x ~ P(x), z ~ q(z|x)."""
        return (self.data_X[:, None] * self.log_posterior.exp() * values_XZ).sum() * STEP

    def over_decoder(self, values_XZ: Tensor) -> Tensor:
        """E over z ~ P(z), x ~ p(x|z)."""
        return ((self.log_prior + self.log_likelihood).exp() * values_XZ).sum() * STEP

    def over_samples(self, values_XZ: Tensor) -> Tensor:
        """E over M_S, eq. 3.8."""
        return 0.5 * (self.over_encoder(values_XZ) + self.over_decoder(values_XZ))

    @property
    def elbo(self) -> Tensor:
        """E over q(z|x) of log p(x|z) p(z) / q(z|x), for each x [X, 1]."""
        log_q = self.log_posterior
        return (log_q.exp() * (self.log_likelihood + self.log_prior - log_q)).sum(1, keepdim=True) * STEP

    @property
    def log_marginal(self) -> Tensor:
        """log q(x) of eq. 3.25 [X, 1]."""
        return torch.logsumexp(self.log_likelihood + self.log_prior, 1, keepdim=True) + math.log(STEP)

    def mim(self, log_data: Tensor, *, beta: float = 1.0) -> Tensor:
        """L_MIM (eq. 3.13) where log q(x) is `log_data` [X, 1], with the beta of chapter 4."""
        log_decoding, log_encoding = self.log_likelihood + self.log_prior, self.log_posterior + log_data
        return self.over_samples(-0.5 * (log_decoding + beta * log_encoding))

    def cross_entropy(self, log_data: Tensor) -> Tensor:
        """L_CE, eq. 3.11."""
        log_decoding, log_encoding = self.log_likelihood + self.log_prior, self.log_posterior + log_data
        return self.over_samples(math.log(2) - torch.logaddexp(log_decoding, log_encoding))

    def sample_entropy(self) -> Tensor:
        """H(M_S)."""
        log_encoding = self.log_posterior + self.data_X.log()[:, None]
        log_samples = torch.logaddexp(self.log_likelihood + self.log_prior, log_encoding) - math.log(2)
        return self.over_samples(-log_samples)

    def conditional_entropy(self) -> Tensor:
        """The part of R_H (eq. 3.9) that is not the anchors': the mean entropy of q(z|x) and p(x|z)."""
        return 0.5 * (self.over_encoder(-self.log_posterior) + self.over_decoder(-self.log_likelihood))
