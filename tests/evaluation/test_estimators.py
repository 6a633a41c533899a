"""Estimators against closed forms, and against the same computed directly.

The project's criterion is 2 % of the exact value on Gaussians, up to 16 dimensions, at 20,000 points. Where fewer
queries are asked than there are points, the expectation is the same and the noise is larger.
"""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from smim.evaluation import estimators
from smim.model.distributions import DiagonalGaussian

NUM_POINTS = 20_000
ALL = np.arange(NUM_POINTS)
SOME = np.arange(4000)
FEW = np.arange(2000)
METRICS = ("chebyshev", "euclidean")


def normal(dim: int, num: int = NUM_POINTS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, dim))


def mixing(dim: int) -> np.ndarray:
    """An invertible matrix that correlates everything with everything, at scales from 0.1 to 10."""
    noise = np.random.default_rng(dim).standard_normal((dim, dim))
    return np.diag(np.geomspace(0.1, 10, dim)) @ (np.eye(dim) + noise / math.sqrt(dim))


def gaussian_pair(dim_x: int, dim_z: int, correlation: float = 0.9) -> tuple[np.ndarray, np.ndarray, float]:
    """x_i and z_i are correlated up to the smaller dimension; and the information, exactly.

    At 0.9 the noise of 20,000 draws of log p(x, z) / p(x) p(z) is 0.8 % of the information; at 0.5 it would be 2.5 %,
    and no estimator could be asked for 2 %.
    """
    x, z = normal(dim_x, seed=1), normal(dim_z, seed=2)
    both = min(dim_x, dim_z)
    z[:, :both] = correlation * x[:, :both] + math.sqrt(1 - correlation**2) * z[:, :both]
    return x, z, -0.5 * both * math.log(1 - correlation**2)


def three_clusters() -> tuple[np.ndarray, np.ndarray]:
    """x and z in two dimensions that share the cluster, one of three far apart, and nothing else: log 3."""
    corners = 10 * np.array([[0, 0], [1, 0], [0.3, 1]])
    cluster = np.random.default_rng(5).integers(3, size=NUM_POINTS)
    return corners[cluster] + normal(2, seed=1), corners[cluster, ::-1] + normal(2, seed=2)


def gaussians(num: int, dim: int, log_variance: float, spread: float = 1.0, seed: int = 3) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    mean = spread * torch.randn(num, dim, generator=generator)
    return DiagonalGaussian(mean, log_variance + torch.rand(num, dim, generator=generator))


def draws(posterior: DiagonalGaussian, rows: np.ndarray) -> np.ndarray:
    of_rows = DiagonalGaussian(posterior.mean[rows], posterior.log_variance[rows])
    return of_rows.sample(torch.randn(of_rows.mean.shape, generator=torch.Generator().manual_seed(4))).numpy()


def direct_log_density(z: np.ndarray, mixture: DiagonalGaussian) -> np.ndarray:
    mean, log_variance = mixture.mean.double().numpy(), mixture.log_variance.double().numpy()
    squared = (z[:, None].astype(np.float64) - mean) ** 2 / np.exp(log_variance)
    return -0.5 * (squared + log_variance + math.log(2 * math.pi)).sum(axis=2)


# Entropy


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 2, 4, 8])
def test_entropy_of_a_standard_normal_is_within_two_percent(dim, metric):
    estimate = estimators.knn_entropy_terms(normal(dim), ALL, metric=metric).mean()
    assert estimate == pytest.approx(estimators.standard_normal_entropy(dim), rel=0.02)


def test_entropy_in_16_dimensions_is_within_two_percent_by_euclidean_distance_only():
    """The biases are 1.3 and 2.1 % (benchmarks/notes). The second is seen without the luck of the queries' -log p."""
    points, exact = normal(16), estimators.standard_normal_entropy(16)
    luck = 0.5 * (points[FEW] ** 2).sum(axis=1).mean() - 8
    euclidean = estimators.knn_entropy_terms(points, FEW, metric="euclidean").mean()
    chebyshev = estimators.knn_entropy_terms(points, FEW).mean()
    assert euclidean == pytest.approx(exact, rel=0.02)
    assert 0.016 < (chebyshev - luck) / exact - 1 < 0.026


@pytest.mark.parametrize("dim", [1, 2, 8, 16])
def test_decorrelated_entropy_of_a_correlated_gaussian_is_within_two_percent(dim):
    exact = estimators.standard_normal_entropy(dim) + np.linalg.slogdet(mixing(dim))[1]
    terms = estimators.decorrelated_entropy_terms(normal(dim) @ mixing(dim).T, ALL if dim < 8 else FEW)
    assert terms.mean() == pytest.approx(exact, rel=0.02)


def test_decorrelated_entropy_sees_what_is_not_gaussian():
    points = np.random.default_rng(0).laplace(size=(NUM_POINTS, 8))
    assert estimators.decorrelated_entropy_terms(points, FEW).mean() == pytest.approx(8 * (1 + math.log(2)), rel=0.02)
    exact = math.log(3) + estimators.standard_normal_entropy(2)
    assert estimators.decorrelated_entropy_terms(three_clusters()[0], ALL).mean() == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [3, 20])
def test_entropy_is_that_of_the_distances_to_all_other_points(dim, metric):
    """By eq. 20 of Kraskov et al. over a whole matrix of distances; a tree finds them in 3 dimensions, FAISS in 20."""
    points, queries = normal(dim, 300), np.array([7, 0, 299])
    distances = np.sort(cdist(points, points, metric), axis=1)[queries, 3]
    volume = 2**dim if metric == "chebyshev" else math.pi ** (dim / 2) / math.gamma(dim / 2 + 1)
    digammas = sum(1 / n for n in range(3, 300))  # digamma(300) - digamma(3)
    expected = digammas + math.log(volume) + dim * np.log(distances)
    assert estimators.knn_entropy_terms(points, queries, metric=metric) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [3, 20])
def test_entropy_far_from_the_origin_is_that_near_it_and_scale_adds_its_logarithm(dim, metric):
    points, rows = normal(dim, 2000), np.arange(500)
    near = estimators.knn_entropy_terms(points, rows, metric=metric)
    for shift in (100, 1e4):
        far = estimators.knn_entropy_terms(shift + 0.007 * points, rows, metric=metric)
        assert far == pytest.approx(near + dim * math.log(0.007), abs=1e-6)


def test_entropy_of_fp32_points_far_from_the_origin_is_that_of_their_values():
    points = (100 + 0.007 * normal(32, 1000)).astype(np.float32)
    for metric in METRICS:
        terms = estimators.knn_entropy_terms(points, np.arange(200), metric=metric)
        distances = np.sort(cdist(points.astype(np.float64)[:200], points.astype(np.float64), metric), axis=1)[:, 3]
        assert np.diff(terms - 32 * np.log(distances)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "terms", [estimators.knn_entropy_terms, estimators.decorrelated_entropy_terms], ids=lambda way: way.__name__
)
def test_queries_can_be_shared_out(terms):
    points = normal(20, 500)
    whole = terms(points, np.arange(500))
    assert np.concatenate([terms(points, np.arange(90)), terms(points, np.arange(90, 500))]) == pytest.approx(whole)


@pytest.mark.parametrize("dim", [3, 20])
def test_a_repeated_point_is_refused_by_number_until_it_is_removed(dim):
    points = normal(dim, 100)
    points[42] = points[17]
    with pytest.raises(ValueError, match="row 17 has a copy"):
        estimators.knn_entropy_terms(points, np.arange(100))
    kept, num_removed = estimators.distinct(points)
    assert num_removed == 1 and np.array_equal(kept, np.delete(points, 42, axis=0))
    assert np.isfinite(estimators.knn_entropy_terms(kept, np.arange(99))).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_points_that_are_not_finite_are_refused(bad):
    points, fine = normal(2, 50), normal(2, 50)
    points[3, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        estimators.knn_entropy_terms(points, np.arange(50))
    with pytest.raises(ValueError, match="NaN or infinity"):
        estimators.ksg_mutual_information_terms(fine, points)
    with pytest.raises(ValueError, match="NaN or infinity"):
        estimators.mmd_squared(points)


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="at least 4 points"):
        estimators.knn_entropy_terms(normal(2, 3), np.arange(3))
    assert np.isfinite(estimators.knn_entropy_terms(normal(20, 4), np.arange(4))).all()


def test_coordinates_without_a_density_are_refused():
    points = normal(3, 100)
    with pytest.raises(ValueError, match="linear combinations"):
        estimators.decorrelated_entropy_terms(np.hstack([points, points.sum(axis=1, keepdims=True)]), np.arange(9))
    points[:, 1] = 5
    with pytest.raises(ValueError, match="coordinate 1 is constant"):
        estimators.decorrelated_entropy_terms(points, np.arange(9))


# Mutual information by nearest neighbours


@pytest.mark.parametrize(("dim_x", "dim_z"), [(1, 1), (2, 2), (1, 3)])
def test_information_of_gaussians_in_few_dimensions_is_within_two_percent(dim_x, dim_z):
    x, z, exact = gaussian_pair(dim_x, dim_z)
    assert estimators.ksg_mutual_information_terms(x, z).mean() == pytest.approx(exact, rel=0.02)


def test_plain_information_is_a_third_too_low_in_8_and_8_dimensions():
    x, z, exact = gaussian_pair(8, 8)
    terms = estimators.ksg_mutual_information_terms(x, z, queries=np.arange(500))
    assert -0.45 < terms.mean() / exact - 1 < -0.30


@pytest.mark.parametrize(("dim_x", "dim_z", "correlation"), [(2, 2, 0.9), (4, 4, 0.99), (8, 8, 0.9), (1, 15, 0.99)])
def test_canonical_information_of_mixed_gaussians_is_within_two_percent(dim_x, dim_z, correlation):
    """0.99 where 4,000 queries at 0.9 would have a standard error of over 1 %."""
    x, z, exact = gaussian_pair(dim_x, dim_z, correlation)
    mixed = x @ mixing(dim_x).T, z @ mixing(dim_z).T
    terms = estimators.canonical_mutual_information_terms(*mixed, queries=ALL if dim_x == 2 else SOME)
    assert terms.mean() == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(
    "terms",
    [estimators.ksg_mutual_information_terms, estimators.canonical_mutual_information_terms],
    ids=lambda way: way.__name__,
)
def test_information_of_independent_variables_is_zero(terms):
    values = terms(normal(2, seed=1), normal(3, seed=2), queries=SOME)
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(SOME)) < 0.08


def test_information_that_is_not_in_the_covariance_is_found():
    """z = (x, x^2) and noise. Exactly, it is E log p(z|x) / p(z), with p(z) summed over a grid of x."""
    x = normal(1, seed=1)
    z = np.hstack([x, x**2]) + 0.5 * normal(2, seed=2)
    grid = np.linspace(-6, 6, 1201)[:, None]
    log_weight = -0.5 * grid[:, 0] ** 2 - math.log(np.exp(-0.5 * grid**2).sum())
    of_grid = -0.5 * cdist(z[SOME] / 0.5, np.hstack([grid, grid**2]) / 0.5, "sqeuclidean")
    of_own = -0.5 * (((z - np.hstack([x, x**2])) / 0.5) ** 2).sum(axis=1)
    exact = (of_own[SOME] - logsumexp(of_grid + log_weight, axis=1)).mean()
    for terms in (estimators.ksg_mutual_information_terms, estimators.canonical_mutual_information_terms):
        assert terms(x, z, queries=SOME).mean() == pytest.approx(exact, rel=0.02)
        assert terms(z, x, queries=FEW) == pytest.approx(terms(x, z, queries=FEW))


def test_ksg_counts_what_is_strictly_nearer_than_the_third_neighbour():
    x, z = normal(2, 200, seed=1), normal(20, 200, seed=2)
    of_x, of_z = cdist(x, x, "chebyshev"), cdist(z, z, "chebyshev")
    radius = np.sort(np.maximum(of_x, of_z), axis=1)[:, 3:4]
    digamma = np.concatenate([[np.nan], np.cumsum(1 / np.arange(1, 200)) - 0.5772156649015329])  # from digamma(2)
    digamma = np.concatenate([[np.nan, -0.5772156649015329], digamma[1:]])
    expected = digamma[3] + digamma[200] - digamma[(of_x < radius).sum(1)] - digamma[(of_z < radius).sum(1)]
    assert estimators.ksg_mutual_information_terms(x, z) == pytest.approx(expected)


def test_points_that_do_not_pair_up_or_repeat_are_refused():
    with pytest.raises(ValueError, match="x has 9 rows and z has 8"):
        estimators.ksg_mutual_information_terms(normal(2, 9), normal(2, 8))
    with pytest.raises(ValueError, match="copies at distance 0"):
        estimators.ksg_mutual_information_terms(np.ones((9, 1)), np.ones((9, 2)))


def test_canonical_information_sees_clusters_in_few_dimensions():
    terms = estimators.canonical_mutual_information_terms(*three_clusters(), queries=SOME)
    assert terms.mean() == pytest.approx(math.log(3), abs=3 * terms.std() / math.sqrt(len(SOME)))


# Densities of the aggregate posterior


@pytest.mark.parametrize(("dim", "log_variance", "shift"), [(3, -1.0, 0.0), (512, -10.0, 0.0), (512, -10.0, 100.0)])
def test_mixture_density_is_that_of_a_direct_sum(dim, log_variance, shift):
    mixture = gaussians(70, dim, log_variance)
    mixture = DiagonalGaussian(mixture.mean + shift, mixture.log_variance)
    z = draws(mixture, np.arange(40))
    expected = logsumexp(direct_log_density(z, mixture), axis=1) - math.log(70)
    assert estimators.log_mixture_density(z, mixture) == pytest.approx(expected, rel=1e-9)


def test_mixture_density_far_from_every_gaussian_does_not_underflow():
    z, mixture = normal(512, 5).astype(np.float32), gaussians(30, 512, -10.0)
    expected = logsumexp(direct_log_density(z, mixture), axis=1) - math.log(30)
    assert expected.max() < -1e6
    assert estimators.log_mixture_density(z, mixture) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_change_nothing(block):
    mixture, z = gaussians(64, 5, -2.0), normal(5, 33)
    rows = np.arange(33)
    assert estimators.log_mixture_density(z, mixture, block=block) == pytest.approx(
        estimators.log_mixture_density(z, mixture), rel=1e-12
    )
    terms, _ = estimators.posterior_information_terms(z, rows, mixture, block=block)
    assert terms == pytest.approx(estimators.posterior_information_terms(z, rows, mixture)[0], abs=1e-12)
    assert estimators.mmd_squared(z, block=block) == pytest.approx(estimators.mmd_squared(z), rel=1e-9)
    moments, other = estimators.aggregate_moments(mixture, block=block), estimators.aggregate_moments(mixture)
    assert moments.covariance == pytest.approx(other.covariance, abs=1e-12)
    assert moments.mean == pytest.approx(other.mean, abs=1e-12)


def test_mixtures_without_a_density_are_refused():
    one = DiagonalGaussian(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"the mixture \(0, 2\)"):
        estimators.log_mixture_density(np.zeros((1, 2)), DiagonalGaussian(one.mean[:0], one.mean[:0]))
    with pytest.raises(ValueError, match="z is"):
        estimators.log_mixture_density(np.zeros((1, 3)), one)
    with pytest.raises(ValueError, match="not finite"):
        estimators.log_mixture_density(np.zeros((1, 2)), DiagonalGaussian(one.mean, one.mean - math.inf))
    with pytest.raises(ValueError, match="not finite"):
        estimators.log_mixture_density(np.full((1, 2), np.nan), one)


def test_information_of_separate_posteriors_is_the_logarithm_of_their_number():
    posterior, rows = gaussians(50, 512, -10.0), np.arange(50)
    terms, cap = estimators.posterior_information_terms(draws(posterior, rows), rows, posterior)
    assert cap == pytest.approx(math.log(50))
    assert terms == pytest.approx(cap, abs=1e-6)


def test_information_of_equal_posteriors_is_zero():
    posterior, rows = gaussians(50, 16, 0.0, spread=0.0), np.arange(50)
    posterior = DiagonalGaussian(posterior.mean, posterior.log_variance[:1].expand(50, 16))
    terms, _ = estimators.posterior_information_terms(draws(posterior, rows), rows, posterior)
    assert terms == pytest.approx(0, abs=1e-9)


def test_information_of_a_linear_gaussian_channel_is_its_capacity():
    """x ~ N(0, I) and z = x + noise of variance 1/4: D/2 log 5."""
    posterior, rows = DiagonalGaussian(torch.from_numpy(normal(2, 4000)), torch.full((4000, 2), -math.log(4))), SOME
    terms, _ = estimators.posterior_information_terms(draws(posterior, rows), rows, posterior)
    assert terms.mean() == pytest.approx(math.log(5), rel=0.02)


# Divergence from the prior, and moments


def test_mmd_of_draws_from_the_prior_is_zero_within_its_error_and_of_others_is_not():
    value, standard_error = estimators.mmd_squared(normal(16, 2000))
    assert abs(value) < 3 * standard_error < 1e-3
    for points in (normal(16, 2000) + 0.3, 0.8 * normal(16, 2000), np.zeros((2000, 16)) + 1e-9 * normal(16, 2000)):
        value, standard_error = estimators.mmd_squared(points)
        assert value > 5 * standard_error


def test_mmd_of_a_shifted_normal_is_its_closed_form():
    """2 (D/(D+2))^(D/2) (1 - exp(-|shift|^2 / 2(D+2)))."""
    dim, shift = 8, 0.5
    value, standard_error = estimators.mmd_squared(normal(dim, 4000) + shift)
    expected = 2 * (dim / (dim + 2)) ** (dim / 2) * (1 - math.exp(-dim * shift**2 / (2 * (dim + 2))))
    assert abs(value - expected) < 3 * standard_error < 0.1 * expected


def test_the_standard_error_of_mmd_is_the_spread_over_draws():
    runs = [estimators.mmd_squared(normal(4, 200, seed) + 0.5) for seed in range(200)]
    values, errors = np.array(runs).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)


def test_moments_are_those_of_draws_from_all_posteriors():
    posterior = gaussians(40, 3, -1.0)
    moments = estimators.aggregate_moments(posterior)
    z = draws(posterior, np.tile(np.arange(40), 5000))
    assert moments.count == 40
    assert moments.mean == pytest.approx(z.mean(axis=0), abs=0.02)
    assert moments.covariance == pytest.approx(np.cov(z.T), abs=0.03)
    expected = np.linalg.slogdet(moments.covariance)[1] / 3
    assert moments.log_determinant_per_dimension() == pytest.approx(expected)


def test_of_two_posteriors_the_moments_are_exact_and_units_active_just_above_their_bounds():
    scales = torch.tensor([0.099, 0.101, 0.101, 0.001, 3.0], dtype=torch.float64)
    variances = torch.tensor([0.0097, 0.0103, 0.0101, 0.9e-6, 9.1])
    means, log_variance = torch.stack([5 - scales, 5 + scales]), variances.log().expand(2, 5)
    moments = estimators.aggregate_moments(DiagonalGaussian(means, log_variance))
    assert np.diag(moments.covariance_of_means) == pytest.approx(scales.square().numpy(), rel=1e-4)
    assert np.diag(moments.covariance) == pytest.approx((scales.square() + variances).numpy(), rel=1e-4)
    assert moments.covariance[0, 4] == pytest.approx(0.099 * 3, rel=1e-4)
    assert moments.num_active_units() == 3  # above 0.01: 0.0102, 0.0102 and 9
    assert moments.num_active_units_scale_free() == 3  # 0.0098 > 0.0097, 0.0102 > 0.0101 and 1e-6 > 0.9e-6


def test_active_units_with_a_threshold_depend_on_the_scale_and_without_do_not():
    deviation, log_variance = torch.tensor([0.5, 0.05, 0.0005]), torch.tensor([-10.0, -10.0, -10.0])
    means = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    moments = estimators.aggregate_moments(DiagonalGaussian(means * deviation, log_variance.expand(500, 3)))
    assert moments.num_active_units() == 1
    assert moments.num_active_units_scale_free() == 2


def test_log_determinant_is_minus_infinity_only_where_a_direction_is_missing():
    means, certain = torch.from_numpy(normal(4, 100)), torch.full((100, 4), -math.inf)

    def log_determinant(means: torch.Tensor, log_variance: torch.Tensor) -> float:
        return estimators.aggregate_moments(DiagonalGaussian(means, log_variance)).log_determinant_per_dimension()

    assert log_determinant(means[:3], certain[:3]) == -math.inf
    assert log_determinant(torch.cat([means[:, :3], means[:, :3].sum(1, keepdim=True)], 1), certain) == -math.inf
    assert log_determinant(means * torch.tensor([1, 1, 1, 0]), certain) == -math.inf
    assert math.isfinite(log_determinant(means[:3], certain[:3].clamp(min=-10)))
    scales = torch.tensor([1.0, 1e-6, 1e-12, 1e6])
    shift = 2 * float(scales.log().mean())
    assert log_determinant(means * scales, certain) == pytest.approx(log_determinant(means, certain) + shift)


def test_moments_of_nothing_or_of_nan_are_refused():
    with pytest.raises(ValueError, match="no posteriors"):
        estimators.aggregate_moments(DiagonalGaussian(torch.zeros(0, 2), torch.zeros(0, 2)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        estimators.aggregate_moments(DiagonalGaussian(torch.full((3, 2), math.nan), torch.zeros(3, 2)))
