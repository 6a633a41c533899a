"""Estimators of entropy, mutual information and divergences of latent codes, in nats, from samples and posteriors.

All work in blocks, so memory grows linearly with the number of points. An estimate is the mean of one term per query.
So a caller can compute its standard error, and distribute the queries over processes.

Shapes: N points, Q queries, D dimensions, M posteriors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor

from smim.model.distributions import DiagonalGaussian

NORMS = {"chebyshev": math.inf, "euclidean": 2.0}
# Up to this dimension a tree is several times faster. Above it, blocks of torch's distances are faster. With the
# Chebyshev metric FAISS takes 4.7 times as long (benchmarks/notes/2026-11-21-estimators.md).
_TREE_DIMENSIONS = 16
# These distances are fp32. So a few more neighbours than needed are found, and ranked again in fp64.
_SPARE_NEIGHBOURS = 8
_ROWS_AT_ONCE = 16384
_ROWS_OF_QUERIES = 256
_EVERY = slice(None)


def distinct(points: np.ndarray) -> tuple[np.ndarray, int]:
    """Remove exact repetitions from the rows of `points` [N, D]. Return the rest in order, and the number removed.

    A repeated point has the distance 0 to its copy, so its entropy term would have log 0. Memory: a sorted copy.
    """
    _, first = np.unique(points, axis=0, return_index=True)
    return points[np.sort(first)], len(points) - len(first)


def standard_normal_entropy(latent_dim: int) -> float:
    """Compute the differential entropy of N(0, I) in `latent_dim` dimensions, in nats."""
    return 0.5 * latent_dim * (math.log(2 * math.pi) + 1)


def knn_entropy_terms(points: np.ndarray, queries: np.ndarray, k: int = 3, *, metric: str = "chebyshev") -> np.ndarray:
    """Estimate the differential entropy of the distribution of `points` [N, D], in nats: a term per query, float64 [Q].

    The mean of the terms is the estimate of Kozachenko and Leonenko (Kraskov et al. 2004, eq. 20). `queries` are rows
    of `points`. k = 3 and the Chebyshev metric are those of the authors' code. The estimate is too high if the density
    changes within the distance of the k-th neighbour. On N(0, I) with 20,000 points it is 2.1 % too high in 16
    dimensions, and more in higher dimensions (benchmarks/notes). Correlated coordinates make it worse; see
    `decorrelated_entropy_terms`. Raises ValueError for values that are not finite, fewer than k + 1 points, and queries
    with copies.
    """
    _check(points, k)
    distances = _neighbour_distances(points, queries, k, metric)
    if not distances[:, 0].all():
        row = np.arange(len(points))[queries][np.argmin(distances[:, 0])]
        raise ValueError(f"row {row} has a copy at distance 0, and log 0 has no value: call distinct() first")
    return _entropy_of_distances(distances[:, -1], points.shape, k, metric)


def decorrelated_entropy_terms(points: np.ndarray, queries: np.ndarray, k: int = 3) -> np.ndarray:
    """Estimate the entropy like `knn_entropy_terms`, from entropies of coordinates. Less bias, except for clusters.

    H(z) = sum_d H(y_d) - I(y_1; ...; y_D) - log |det W| for the whitened y = W z, which is exact for any invertible W.
    These are marginals and copula (Ariel and Louzoun 2020), after whitening (Berrett, Samworth and Yuan 2019). The
    entropies are one-dimensional. The redundancy is estimated by eq. 8 of Kraskov et al. (2004), generalised to many
    variables, whose bias vanishes with the dependence. So the bias comes from dependence that whitening leaves: none
    for a Gaussian, much for well separated clusters in many dimensions, for which `knn_entropy_terms` is better. N must
    be far above D^2: with 2,000 points in 128 dimensions the sample covariance costs 2 nats.

    Raises ValueError like `knn_entropy_terms`, and for coordinates that are constant or linear combinations of others.
    """
    _check(points, k)
    white, log_determinant = _whiten(points)
    coordinates = _columns(white)
    terms = -log_determinant - _redundancy_terms(coordinates, queries, k)
    for coordinate in coordinates:
        distance = _neighbour_distances(coordinate, queries, k, "chebyshev")[:, -1]
        terms += _entropy_of_distances(_positive(distance), coordinate.shape, k, "chebyshev")
    return terms


def ksg_mutual_information_terms(
    x: np.ndarray, z: np.ndarray, k: int = 3, *, queries: np.ndarray | slice = _EVERY
) -> np.ndarray:
    """Estimate I(x; z) from the joint draws `x` [N, Dx] and `z` [N, Dz], in nats: a term per query, float64 [Q].

    The mean is algorithm 1 of Kraskov et al. (2004), eq. 8. By default all rows are queries. The estimate is too low
    for dependence in many dimensions. On Gaussians with correlation 0.9 and 20,000 points it is within 2 % up to 2 + 2
    dimensions, 8 % too low in 4 + 4, 38 % in 8 + 8 and 54 % in 1 + 15 (benchmarks/notes); see
    `canonical_mutual_information_terms`.

    Raises ValueError for values that are not finite, fewer than k + 1 points, unequal numbers of rows, and points
    with k copies.
    """
    _check_pairs(x, z, k)
    return _redundancy_terms([np.asarray(x, np.float64), np.asarray(z, np.float64)], queries, k)


def canonical_mutual_information_terms(
    x: np.ndarray, z: np.ndarray, k: int = 3, *, queries: np.ndarray | slice = _EVERY
) -> np.ndarray:
    """Estimate I(x; z) like `ksg_mutual_information_terms`, from canonical pairs. Less bias, except for clusters.

    Invertible maps of x and of z do not change I(x; z) (Kraskov et al. 2004). So both are transformed to canonical
    variates, in which x_i is correlated only with z_i. Let w be the pairs (x_i, z_i) and the coordinates without a
    partner. Then, by the grouping of redundancies (Stögbauer et al. 2004),

        I(x; z) = sum_i I(x_i; z_i) + I(w_1; w_2; ...) - I(x_1; x_2; ...) - I(z_1; z_2; ...).

    This holds for any distribution. All four are estimated by eq. 8 or its generalisation. The last three have many
    dimensions. They vanish for Gaussians, for which no bias is visible. They do not vanish for well separated clusters,
    for which the plain estimator is better. N must be far above Dx Dz; otherwise pairs are correlated by chance.

    Raises ValueError like the plain one, and for coordinates that are constant or linear combinations of others.
    """
    _check_pairs(x, z, k)
    white_x, white_z = _whiten(x)[0], _whiten(z)[0]
    left, _, right = np.linalg.svd(white_x.T @ white_z)
    xs, zs = _columns(white_x @ left), _columns(white_z @ right.T)
    pairs = [np.hstack(pair) for pair in zip(xs, zs, strict=False)]
    terms = _redundancy_terms([*pairs, *xs[len(pairs) :], *zs[len(pairs) :]], queries, k)
    terms -= _redundancy_terms(xs, queries, k) + _redundancy_terms(zs, queries, k)
    for pair in zip(xs, zs, strict=False):
        terms += _redundancy_terms(pair, queries, k)
    return terms


def log_mixture_density(
    z: np.ndarray, mixture: DiagonalGaussian, *, block: int = 1024, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Compute log (1/M) sum_j N(z_i; mean_j, diag(variance_j)) for each z [Q, D], in nats, float64 [Q].

    It works on `block` queries and `block` Gaussians at a time, in fp64. With log variances of -10 in 512 dimensions,
    products are about 1e7, and fp32 would have no digit after the decimal point.

    Raises ValueError if shapes do not fit, there is no Gaussian, or a density is not finite.
    """
    num = len(mixture.mean)
    if z.shape[1:] != mixture.mean.shape[1:] or not num:
        raise ValueError(f"z is {z.shape}, the mixture {tuple(mixture.mean.shape)}")
    centre = _mean(mixture.mean, block).to(device)
    log_density = np.empty(len(z))
    for rows in _blocks(len(z), block):
        query_QD = torch.as_tensor(z[rows]).to(device, torch.float64) - centre
        parts = []
        for columns in _blocks(num, block):
            mean_MD = mixture.mean[columns].to(device, torch.float64) - centre
            each = DiagonalGaussian(mean_MD, mixture.log_variance[columns].to(device))
            parts.append(each.log_prob_under_each(query_QD).logsumexp(1))
        log_density[rows] = torch.stack(parts).logsumexp(0).cpu().numpy() - math.log(num)
    if not np.isfinite(log_density).all():
        raise ValueError("a density is not finite: z or the Gaussians hold NaN, infinity, or a variance of zero")
    return log_density


def posterior_information_terms(
    z: np.ndarray,
    rows: np.ndarray,
    posterior: DiagonalGaussian,
    *,
    block: int = 1024,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, float]:
    """Estimate I(x; z) under q(z|x) for the M sentences of `posterior`, in nats. Return terms [Q], and the cap log M.

    A term is log q(z_i|x_i) - log (1/M) sum_j q(z_i|x_j), with z_i [Q, D] drawn from the posterior of row `rows[i]`
    (InfoVAE 2017, appendix B.2). x_i is one of the x_j, so no term exceeds log M. An estimate at the cap only shows
    that codes identify their sentences.

    Raises ValueError like `log_mixture_density`.
    """
    of_own = DiagonalGaussian(posterior.mean[rows].double(), posterior.log_variance[rows].double())
    own = of_own.log_prob(torch.as_tensor(z).double()).numpy()
    return own - log_mixture_density(z, posterior, block=block, device=device), math.log(len(posterior.mean))


def mmd_squared(points: np.ndarray, *, block: int = 1024, device: torch.device | str = "cpu") -> tuple[float, float]:
    """Estimate MMD^2 between the distribution of `points` [N, D] and N(0, I), and its standard error, without unit.

    InfoVAE 2017, section 4.1.3, with the kernel exp(-|x - y|^2 / 2D). About 2D is the median squared distance of two
    draws from N(0, I), so the kernel distinguishes distances in any dimension. Terms with the prior are integrals in
    closed form. The term among points is the unbiased U-statistic, so small values can be negative. The standard error
    is the jackknife's (Arvesen 1969). For points from N(0, I) it is about 1.4 times too large, because the U-statistic
    is degenerate.

    Raises ValueError for values that are not finite and fewer than 3 points.
    """
    _check(points, 2)
    num_points, dim = points.shape
    # E k(x, y) over y ~ N(0, I), and over both, for a kernel of variance D.
    norms = np.concatenate(
        [np.square(np.asarray(points[rows], np.float64)).sum(1) for rows in _blocks(num_points, block)]
    )
    to_prior = np.exp(dim / 2 * math.log(dim / (dim + 1)) - norms / (2 * (dim + 1)))
    of_prior = math.exp(dim / 2 * math.log(dim / (dim + 2)))
    among_others = (_kernel_sums(points, block, device) - 1) / (num_points - 1)
    # The mean over j != i of h(x_i, x_j) = k(x_i, x_j) - E k(x_i, y) - E k(x_j, y) + E k(y, y').
    terms = among_others - to_prior - (to_prior.sum() - to_prior) / (num_points - 1) + of_prior
    spread = np.square(terms - terms.mean()).sum()
    return float(terms.mean()), 2 / (num_points - 2) * math.sqrt((num_points - 1) / num_points * spread)


@dataclass(frozen=True)
class AggregateMoments:
    """The first and second moments of the aggregate posterior (1/M) sum_j q(z|x_j), in float64."""

    count: int
    mean: np.ndarray  # [D]
    covariance_of_means: np.ndarray  # [D, D], divided by M: the M posteriors are the whole mixture
    mean_variance: np.ndarray  # [D], of the posteriors

    @property
    def covariance(self) -> np.ndarray:
        """The covariance of the aggregate posterior [D, D]: that of the means, plus the mean of the variances."""
        return self.covariance_of_means + np.diag(self.mean_variance)

    def log_determinant_per_dimension(self) -> float:
        """Compute log det of the covariance divided by D, in nats: 0 for N(0, I) (InfoVAE 2017, section 4.2.1).

        It is minus infinity if some direction has no variance beyond rounding, such as for fewer than D means without
        posterior variance. This test uses correlations, so a coordinate with a small scale does not count as missing.
        """
        variance = np.diag(self.covariance)
        if not variance.all():
            return -math.inf
        correlation = self.covariance / np.sqrt(np.outer(variance, variance))
        if np.linalg.matrix_rank(correlation, hermitian=True) < len(variance):
            return -math.inf
        return float((np.log(variance).sum() + np.linalg.slogdet(correlation)[1]) / len(variance))

    def num_active_units(self) -> int:
        """The number of dimensions in which the means' variance is above 0.01 (Burda et al. 2016)."""
        return int((np.diag(self.covariance_of_means) > 0.01).sum())

    def num_active_units_scale_free(self) -> int:
        """The number of dimensions in which the means' variance is above the posteriors'. Independent of z's scale."""
        return int((np.diag(self.covariance_of_means) > self.mean_variance).sum())


def aggregate_moments(posterior: DiagonalGaussian, *, block: int = 1024) -> AggregateMoments:
    """Compute the moments of the mixture of all M posteriors, `block` rows at a time, in two passes.

    Raises ValueError without a posterior, and for values that are not finite (a log variance of -inf is allowed).
    """
    count = len(posterior.mean)
    if count == 0:
        raise ValueError("there are no posteriors")
    mean = _mean(posterior.mean, block)
    product = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    variance = torch.zeros_like(mean)
    for rows in _blocks(count, block):
        centred = posterior.mean[rows].double() - mean
        product += centred.T @ centred
        variance += posterior.log_variance[rows].double().exp().sum(0)
    if not (product.isfinite().all() and variance.isfinite().all()):
        raise ValueError("a posterior holds NaN or infinity")
    return AggregateMoments(count, mean.numpy(), (product / count).numpy(), (variance / count).numpy())


def _entropy_of_distances(distance: np.ndarray, shape: tuple[int, ...], k: int, metric: str) -> np.ndarray:
    """Apply eq. 20 of Kraskov et al. (2004) to the distance to the k-th neighbour among N points in D dimensions."""
    num_points, dim = shape
    log_unit_volume = dim * math.log(2) if metric == "chebyshev" else dim / 2 * math.log(math.pi) - gammaln(dim / 2 + 1)
    return digamma(num_points) - digamma(k) + log_unit_volume + dim * np.log(distance)


def _redundancy_terms(variables: Sequence[np.ndarray], queries: np.ndarray | slice, k: int) -> np.ndarray:
    """Estimate I(v_1; ...; v_m) = sum_i H(v_i) - H(v_1, ..., v_m) by eq. 8 of Kraskov et al. (2004) for m variables."""
    radius = _positive(_neighbour_distances(np.hstack(variables), queries, k, "chebyshev")[:, -1])
    terms = digamma(k) + (len(variables) - 1) * digamma(len(variables[0])) - np.zeros(len(radius))
    for variable in variables:
        # Points strictly nearer than the k-th neighbour. They include the query, so this is the n + 1 of eq. 8.
        inside = cKDTree(variable).query_ball_point(
            variable[queries], np.nextafter(radius, 0), p=math.inf, return_length=True
        )
        terms -= digamma(inside)
    return terms


def _neighbour_distances(points: np.ndarray, queries: np.ndarray | slice, k: int, metric: str) -> np.ndarray:
    """Compute fp64 distances from each query row to its k nearest other points, ascending: [Q, k]."""
    if points.shape[1] > _TREE_DIMENSIONS:
        return _distances_in_blocks(points, queries, k, metric)
    points = np.asarray(points, np.float64)
    # The nearest point is the query itself, or a copy of it.
    return cKDTree(points).query(points[queries], np.arange(2, k + 2), p=NORMS[metric])[0]


def _distances_in_blocks(points: np.ndarray, queries: np.ndarray | slice, k: int, metric: str) -> np.ndarray:
    centre = points.mean(axis=0, dtype=np.float64)  # far from the origin, fp32 distances would be inexact
    numbers = np.arange(len(points))[queries]
    distances = np.empty((len(numbers), k))
    for block in _blocks(len(numbers), _ROWS_OF_QUERIES):
        query = np.asarray(points[numbers[block]], np.float64)
        found = _nearest(points, query, centre, k + 1 + _SPARE_NEIGHBOURS, NORMS[metric])
        exact = np.linalg.norm(points[found] - query[:, None], ord=NORMS[metric], axis=2)
        exact[found == numbers[block, None]] = np.inf
        distances[block] = np.sort(exact, axis=1)[:, :k]
    return distances


def _nearest(points: np.ndarray, query: np.ndarray, centre: np.ndarray, num: int, norm: float) -> np.ndarray:
    """Find the rows of the `num` points (or all) nearest to each query, by fp32 distances: [Q, num]."""
    query_QD = torch.from_numpy((query - centre).astype(np.float32))
    nearest, found = torch.empty(len(query), 0), torch.empty(len(query), 0, dtype=torch.int64)
    for rows in _blocks(len(points), _ROWS_AT_ONCE):
        distance = torch.cdist(query_QD, torch.from_numpy((points[rows] - centre).astype(np.float32)), p=norm)
        new, place = distance.topk(min(num, distance.shape[1]), largest=False)
        nearest, found = torch.cat([nearest, new], 1), torch.cat([found, place + rows.start], 1)
        nearest, order = nearest.topk(min(num, nearest.shape[1]), largest=False)
        found = found.gather(1, order)
    return found.numpy()


def _whiten(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Compute y = W (points - mean) [N, D] with covariance I and y_d as close as possible to point_d, and log |det W|.

    W = C^(-1/2) diag(1/deviation), where C are the correlations (Kessy et al. 2018, ZCA-cor).
    """
    points = np.asarray(points, np.float64)
    deviation = points.std(axis=0)
    if not deviation.all():
        raise ValueError(f"coordinate {int(np.argmin(deviation))} is constant: leave it out")
    scaled = (points - points.mean(axis=0)) / deviation
    correlation = scaled.T @ scaled / len(points)
    if np.linalg.matrix_rank(correlation, hermitian=True) < len(correlation):
        raise ValueError("some coordinates are linear combinations of others: there is no density to speak of")
    eigenvalues, vectors = np.linalg.eigh(correlation)
    white = scaled @ (vectors / np.sqrt(eigenvalues)) @ vectors.T
    return white, float(-0.5 * np.log(eigenvalues).sum() - np.log(deviation).sum())


def _kernel_sums(points: np.ndarray, block: int, device: torch.device | str) -> np.ndarray:
    """Compute sum_j exp(-|x_i - x_j|^2 / 2D) over all points, including the point itself (1): [N]."""
    sums = np.zeros(len(points))
    for rows in _blocks(len(points), block):
        left = torch.as_tensor(points[rows]).to(device, torch.float64)
        for columns in _blocks(len(points), block):
            right = torch.as_tensor(points[columns]).to(device, torch.float64)
            kernel = torch.exp(torch.cdist(left, right).square() / (-2 * points.shape[1]))
            sums[rows] += kernel.sum(1).cpu().numpy()
    return sums


def _mean(values: Tensor, block: int) -> Tensor:
    """Compute the mean over rows, in fp64, of a tensor that may be memory-mapped."""
    parts = [values[rows].double().sum(0) for rows in _blocks(len(values), block)]
    return torch.stack(parts).sum(0) / len(values)


def _check(points: np.ndarray, k: int) -> None:
    if points.ndim != 2 or len(points) <= k:
        raise ValueError(f"at least {k + 1} points [N, D] are needed, and these are {points.shape}")
    if not all(np.isfinite(points[rows]).all() for rows in _blocks(len(points), _ROWS_AT_ONCE)):
        raise ValueError("the points hold NaN or infinity")


def _check_pairs(x: np.ndarray, z: np.ndarray, k: int) -> None:
    _check(x, k)
    _check(z, k)
    if len(x) != len(z):
        raise ValueError(f"x has {len(x)} rows and z has {len(z)}: they are to be drawn together")


def _positive(distance: np.ndarray) -> np.ndarray:
    if not distance.all():
        raise ValueError("a point has k copies at distance 0, and log 0 has no value: call distinct() first")
    return distance


def _columns(points: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(column)[:, None] for column in points.T]


def _blocks(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]
