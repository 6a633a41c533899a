"""Measure the errors of the estimators of entropy and mutual information.

    python benchmarks/estimators.py accuracy    against closed forms, at 20,000 points
    python benchmarks/estimators.py bias        of the entropy of N(0, I) against the number of points, with a plot

An error is the mean of (estimated term - exact term) over the queries. The exact term is -log p(z) or
log p(x, z) / p(x) p(z) at the same point. The error is therefore that of the estimator, without the chance of the draw.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
from scipy.special import logsumexp

from benchmarks import common
from smim.evaluation import estimators

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Sample:
    """Points x of a known distribution, and the exact term at each, whose mean over all draws is the truth."""

    x: np.ndarray
    exact: np.ndarray
    truth: float


@dataclass(frozen=True)
class Pairs(Sample):
    """Points x and z of a known joint distribution."""

    z: np.ndarray


S = TypeVar("S", bound=Sample)
Draw = Callable[[np.random.Generator, int], S]
Estimator = Callable[[S, np.ndarray], np.ndarray]
ENTROPY: dict[str, Estimator[Sample]] = {
    "Chebyshev": lambda s, queries: estimators.knn_entropy_terms(s.x, queries),
    "Euclidean": lambda s, queries: estimators.knn_entropy_terms(s.x, queries, metric="euclidean"),
    "decorrelated": lambda s, queries: estimators.decorrelated_entropy_terms(s.x, queries),
}
INFORMATION: dict[str, Estimator[Pairs]] = {
    "KSG": lambda s, queries: estimators.ksg_mutual_information_terms(s.x, s.z, queries=queries),
    "canonical": lambda s, queries: estimators.canonical_mutual_information_terms(s.x, s.z, queries=queries),
}


def accuracy(points: int = 20_000, queries: int = 2000, draws: int = 3) -> None:
    """Measure errors at known distributions, with `queries` points of each draw."""
    print_table("entropy", entropy_cases(), ENTROPY, points, queries, draws)
    print_table("mutual information", information_cases(), INFORMATION, points, queries, draws)


def print_table(
    what: str, cases: Mapping[str, Draw[S]], ways: Mapping[str, Estimator[S]], points: int, queries: int, draws: int
) -> None:
    print(f"{what:40}   exact  {'  '.join(f'{name:>18}' for name in ways)}  standard error")
    for name, draw in cases.items():
        samples = [draw(np.random.default_rng(seed), points) for seed in range(draws)]
        truth = float(np.mean([sample.truth for sample in samples]))
        errors = [error_of(way, samples, queries) for way in ways.values()]
        cells = [f"{each['value']:+7.3f} ({100 * each['value'] / truth:+6.1f} %)" for each in errors]
        spread = max(each["error"] for each in errors)
        print(f"{name:40} {truth:7.3f}  {'  '.join(cells)}  {spread:.3f}", flush=True)


def error_of(way: Estimator[S], samples: list[S], num_queries: int) -> common.Estimate:
    queries = np.arange(num_queries)
    return common.estimate([way(sample, queries) - sample.exact[queries] for sample in samples])


def entropy_cases() -> dict[str, Draw[Sample]]:
    cases: dict[str, Draw[Sample]] = {f"N(0, I), {dim}": partial(normal, dim=dim) for dim in (1, 2, 4, 8, 12, 16, 32)}
    cases |= {f"correlated, {dim}": partial(correlated, dim=dim) for dim in (4, 8, 16)}
    cases |= {f"Laplace, {dim}": partial(laplace, dim=dim) for dim in (8, 16)}
    return cases | {f"10 clusters, {dim}": partial(clusters, dim=dim) for dim in (8, 16)}


def information_cases() -> dict[str, Draw[Pairs]]:
    sizes = [(1, 1), (1, 3), (2, 2), (4, 4), (1, 7), (8, 8), (1, 15), (16, 16)]
    cases: dict[str, Draw[Pairs]] = {
        f"Gaussian, {x} + {z}, correlation {rho}": partial(gaussian_pairs, dim_x=x, dim_z=z, correlation=rho)
        for rho in (0.9, 0.5)
        for x, z in sizes
    }
    cases |= {f"the same, mixed, {dim} + {dim}": partial(mixed, dim=dim) for dim in (2, 4, 8, 16)}
    cases |= {f"Gaussian through sinh, tanh, {dim} + {dim}": partial(warped, dim=dim) for dim in (1, 2, 4, 8)}
    return cases | {f"10 clusters, {dim} + {dim}": partial(cluster_pairs, dim=dim) for dim in (2, 4, 8)}


def normal(rng: np.random.Generator, num: int, dim: int) -> Sample:
    points = rng.standard_normal((num, dim))
    return Sample(points, -log_normal(points), estimators.standard_normal_entropy(dim))


def correlated(rng: np.random.Generator, num: int, dim: int) -> Sample:
    sample, matrix = normal(rng, num, dim), mixing(dim)
    shift = np.linalg.slogdet(matrix)[1]
    return Sample(sample.x @ matrix.T, sample.exact + shift, sample.truth + shift)


def laplace(rng: np.random.Generator, num: int, dim: int) -> Sample:
    points = rng.laplace(size=(num, dim))
    return Sample(points, (np.abs(points) + math.log(2)).sum(axis=1), dim * (1 + math.log(2)))


def clusters(rng: np.random.Generator, num: int, dim: int) -> Sample:
    """Draw from ten Gaussians with covariance I. The truth is the mean of the draw."""
    points = centres(dim)[0, rng.integers(10, size=num)] + rng.standard_normal((num, dim))
    exact = math.log(10) - logsumexp(log_cluster(points, 0), axis=0)
    return Sample(points, exact, float(exact.mean()))


def gaussian_pairs(rng: np.random.Generator, num: int, dim_x: int, dim_z: int, correlation: float) -> Pairs:
    """Draw pairs in which x_i and z_i are correlated for i up to the smaller dimension, and independent otherwise."""
    x, z = rng.standard_normal((num, dim_x)), rng.standard_normal((num, dim_z))
    both, rest = min(dim_x, dim_z), 1 - correlation**2
    u = x[:, :both]
    z[:, :both] = v = correlation * u + math.sqrt(rest) * z[:, :both]
    squares = u**2 + v**2
    exact = (-0.5 * math.log(rest) - 0.5 * (squares - 2 * correlation * u * v) / rest + squares / 2).sum(1)
    return Pairs(x, exact, -0.5 * both * math.log(rest), z)


def mixed(rng: np.random.Generator, num: int, dim: int) -> Pairs:
    pairs, matrix = gaussian_pairs(rng, num, dim, dim, 0.9), mixing(dim)
    return replace(pairs, x=pairs.x @ matrix.T, z=pairs.z @ matrix.T)


def warped(rng: np.random.Generator, num: int, dim: int) -> Pairs:
    """Apply monotone maps to the coordinates, which do not change the information."""
    pairs = gaussian_pairs(rng, num, dim, dim, 0.9)
    return replace(pairs, x=np.sinh(pairs.x), z=np.tanh(pairs.z) + 0.1 * pairs.z)


def cluster_pairs(rng: np.random.Generator, num: int, dim: int) -> Pairs:
    """Draw x and z that share only the cluster. The truth is the mean of the draw."""
    cluster = rng.integers(10, size=num)
    x, z = (centres(dim)[i, cluster] + rng.standard_normal((num, dim)) for i in (0, 1))
    log_x, log_z = log_cluster(x, 0), log_cluster(z, 1)
    exact = logsumexp(log_x + log_z, axis=0) - logsumexp(log_x, axis=0) - logsumexp(log_z, axis=0) + math.log(10)
    return Pairs(x, exact, float(exact.mean()), z)


def log_normal(points: np.ndarray) -> np.ndarray:
    return -0.5 * (points**2 + _LOG_2PI).sum(axis=1)


def log_cluster(points: np.ndarray, i: int) -> np.ndarray:
    return np.stack([log_normal(points - centre) for centre in centres(points.shape[1])[i]])


def centres(dim: int) -> np.ndarray:
    """The centres of ten clusters that are far apart, in x and in z."""
    return 3 * np.random.default_rng(0).standard_normal((2, 10, dim))


def mixing(dim: int) -> np.ndarray:
    """An invertible matrix, the same in each draw: half the identity, half noise."""
    return np.eye(dim) + np.random.default_rng(0).standard_normal((dim, dim)) / math.sqrt(dim)


def bias(queries: int = 2000, output: Path = Path("estimators.png")) -> None:
    """Measure the error of the entropy of N(0, I) at growing numbers of points, over enough draws for `queries`."""
    picture, axes = plt.subplots(1, 2, figsize=(10, 4))
    counts = (500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
    for axis, dim in zip(axes, (16, 128), strict=True):
        truth = estimators.standard_normal_entropy(dim)
        for name, way in ENTROPY.items():
            curve = []
            for count in counts:
                of_each = min(count, queries)
                samples = [normal(np.random.default_rng(seed), count, dim) for seed in range(queries // of_each)]
                error = error_of(way, samples, of_each)
                print("{:4} {:6} {:14} {value:+8.3f} +- {error:.3f}".format(dim, count, name, **error), flush=True)
                curve.append(error["value"])
            axis.plot(counts, curve, marker=".", label=name)
        axis.axhspan(-0.02 * truth, 0.02 * truth, color="grey", alpha=0.2, label="2 % of the entropy")
        axis.axhline(0, color="black", linewidth=0.5)
        axis.set(
            title=f"N(0, I) in {dim} dimensions: {truth:.1f} nats",
            xlabel="points",
            ylabel="error in nats",
            xscale="log",
        )
    axes[0].legend()
    picture.savefig(output, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    common.main(__doc__, accuracy, bias)
