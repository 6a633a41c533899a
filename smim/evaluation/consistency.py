"""How well encoder, decoder and priors of a model in one dimension agree (thesis, appendix B), by sums over a grid.

Shapes: N points of the grid, for x and for z.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smim.evaluation.section import Definition, Metric, scalar
from smim.model.distributions import standard_normal_log_prob
from smim.objectives import Objective
from smim.objectives.mim import MIM
from smim.vector_model import VectorModel
from smim.vectors.batch import VectorBatch

_NUM = 1_201
_WIDTH = 1.5  # of the grid, in units of the anchors' extent


@dataclass(frozen=True)
class Densities:
    """Densities over the grid, fp64 [N] each, of the observation or of the code.

    `anchor` is P and `prior` is the model's prior, q(x) or p(z). `reconstruction` is what encoder and decoder make of
    draws from the anchor, one after the other. `from_anchor` and `from_prior` are what one of them makes of draws from
    the other space's anchor or prior.
    """

    points: np.ndarray
    anchor: np.ndarray
    prior: np.ndarray
    reconstruction: np.ndarray
    from_anchor: np.ndarray
    from_prior: np.ndarray

    def distance(self, first: str, second: str) -> float:
        """The total variation distance of two of the densities, from 0 to 1."""
        difference = np.abs(getattr(self, first) - getattr(self, second))
        return float(0.5 * difference.sum() * (self.points[1] - self.points[0]))


# The densities of the observation and of the code.
Pair = tuple[Densities, Densities]


def _mean_distance(first: str, second: str) -> Callable[[Pair], Metric]:
    return lambda pair: scalar(float(np.mean([each.distance(first, second) for each in pair])), n=2 * _NUM)


_KIND = "total variation distance, 0 to 1, mean of x and z: "
OF_CONSISTENCY = [
    Definition("reconstruction_distance", "", _KIND + "of each anchor from its reconstruction",
               _mean_distance("anchor", "reconstruction"), title="anchor, its reconstruction", better="lower",
               equation="Figure B.1 (a, b)"),
    Definition("anchor_distance", "",
               _KIND + "of each anchor from what encoder or decoder make of the other anchor",
               _mean_distance("anchor", "from_anchor"), title="anchor, made from the other anchor", better="lower",
               equation="Figure B.1 (c, d)"),
    Definition("prior_distance", "", _KIND + "of each prior from what encoder or decoder make of the other prior",
               _mean_distance("prior", "from_prior"), title="prior, made from the other prior", better="lower",
               equation="Figure B.1 (e, f)"),
    Definition("prior_anchor_distance", "", _KIND + "of each prior from its anchor",
               _mean_distance("prior", "anchor"), title="prior, its anchor", better="lower", equation="appendix B.1"),
]  # fmt: skip


@torch.no_grad()
def densities(
    model: VectorModel, objective: Objective, density: dict[str, Any] | None, data_prior: Path
) -> Pair | None:
    """Compute the densities of a model that `objective` trained, of the observation and of the code.

    None if they do not exist: x and z have one dimension each, `density`, the entry of the corpus's card, is that of
    the anchor P(x), and MIM has a density q(x). `data_prior`: the file of the weights of the mixture q(x), if the
    objective has one. Raises `UserError` if it is missing.
    """
    one = model.autoencoder.input_size == model.latent_dim == 1
    if not one or density is None or not isinstance(objective, MIM) or objective.data_prior == "marginal":
        return None
    autoencoder = model.autoencoder
    means, deviation = np.array(density["means"]), density["standard_deviation"]
    of_codes = np.array(objective.latent_anchor.means or [[0.0]])
    of_codes_deviation = objective.latent_anchor.standard_deviation
    extents = [_extent(means, deviation), _extent(of_codes, of_codes_deviation)]
    x, z = (torch.linspace(-extent, extent, _NUM, dtype=torch.float64)[:, None] for extent in extents)
    steps = [float(each[1] - each[0]) for each in (x, z)]
    prior_z = autoencoder.prior.log_prob(z.float()).double().exp()
    if objective.data_prior == "standard_normal":
        prior_x = standard_normal_log_prob(x).exp()
    else:
        prior_x = objective.load_data_prior(autoencoder, data_prior)(x.float()).double().exp()
    anchor_x = _mixture(x, means, deviation)
    anchor_z = _mixture(z, of_codes, of_codes_deviation) if objective.latent_anchor.means else prior_z
    batch = VectorBatch(torch.arange(_NUM), x.float())
    # Rows are conditions: `encoder[i]` is q(z|x_i), and `decoder[i]` is p(x|z_i).
    encoder = autoencoder.posterior(batch).log_prob_under_each(z).T.exp() * steps[0]
    decoder = autoencoder.decode(z.float()).log_prob_under_each(x).T.exp() * steps[1]
    return (
        _as_densities(x, anchor_x, prior_x, anchor_x @ encoder @ decoder, anchor_z @ decoder, prior_z @ decoder),
        _as_densities(z, anchor_z, prior_z, anchor_z @ decoder @ encoder, anchor_x @ encoder, prior_x @ encoder),
    )


def _extent(means: np.ndarray, deviation: float) -> float:
    return _WIDTH * float(np.abs(means).max() + 4 * deviation)


def _mixture(points: Tensor, means: np.ndarray, deviation: float) -> Tensor:
    """The density of Gaussians with equal weight at each point, fp64 [N]."""
    standardized = (points - torch.tensor(means.ravel(), dtype=torch.float64)) / deviation
    return torch.exp(-0.5 * standardized.square()).mean(-1) / (deviation * math.sqrt(2 * math.pi))


def _as_densities(points: Tensor, *each: Tensor) -> Densities:
    return Densities(points[:, 0].numpy(), *(density.numpy() for density in each))
