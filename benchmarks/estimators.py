"""How far the estimators of entropy and mutual information are from what they estimate, and how long they take.

    python benchmarks/estimators.py accuracy    against closed forms, at 20,000 points
    python benchmarks/estimators.py bias        of the entropy of N(0, I) against the number of points, as a picture
    python benchmarks/estimators.py speed       nearest neighbours: FAISS, a tree, and torch

An error is the mean of (estimated term - exact term) over the queries, the exact term being -log p(z) or
log p(x, z) / p(x) p(z) at the same point: what is left is the estimator's, without the luck of the draw.
"""

import argparse
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import matplotlib
import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import logsumexp

from smim.evaluation import estimators

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Sample:
    """Points drawn from a known distribution, and the exact term at each: its mean over all draws is the truth."""

    points: np.ndarray
    exact: np.ndarray
    truth: float


@dataclass(frozen=True)
class Pairs:
    x: np.ndarray
    z: np.ndarray
    exact: np.ndarray
    truth: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["accuracy", "bias", "speed"])
    parser.add_argument("--points", type=int, default=20_000, help="of accuracy and speed")
    parser.add_argument("--queries", type=int, default=2000, help="of each draw in accuracy; in all, in bias")
    parser.add_argument("--draws", type=int, default=3, help="of accuracy")
    parser.add_argument("--output", type=Path, default=Path("estimators.png"), help="of bias")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, commit {commit.strip()}")
    {"accuracy": accuracy, "bias": bias, "speed": speed}[args.which](args)


def accuracy(args: argparse.Namespace) -> None:
    print_heads("entropy", "Chebyshev", "Euclidean", "decorrelated")
    for name, draw_sample in entropy_cases(args.points):
        samples = [draw_sample(np.random.default_rng(seed)) for seed in range(args.draws)]
        entropy_row(name, samples, args.queries)
    print_heads("mutual information", "KSG", "canonical")
    for name, draw_pairs in information_cases(args.points):
        pairs = [draw_pairs(np.random.default_rng(seed)) for seed in range(args.draws)]
        information_row(name, pairs, args.queries)


def entropy_cases(num: int) -> list[tuple[str, Callable[[np.random.Generator], Sample]]]:
    cases = [(f"N(0, I), {dim}", lambda rng, dim=dim: normal(rng, num, dim)) for dim in (1, 2, 4, 8, 12, 16, 32)]
    cases += [(f"correlated, {dim}", lambda rng, dim=dim: correlated(rng, num, dim)) for dim in (4, 8, 16)]
    cases += [(f"Laplace, {dim}", lambda rng, dim=dim: laplace(rng, num, dim)) for dim in (8, 16)]
    return cases + [(f"10 clusters, {dim}", lambda rng, dim=dim: clusters(rng, num, dim)) for dim in (8, 16)]


def information_cases(num: int) -> list[tuple[str, Callable[[np.random.Generator], Pairs]]]:
    sizes = [(1, 1), (1, 3), (2, 2), (4, 4), (1, 7), (8, 8), (1, 15), (16, 16)]
    cases = [
        (f"Gaussian, {dims[0]} + {dims[1]}, correlation {correlation}", gaussian_pairs(num, *dims, correlation))
        for correlation in (0.9, 0.5)
        for dims in sizes
    ]
    cases += [(f"the same, mixed, {dim} + {dim}", mixed(gaussian_pairs(num, dim, dim, 0.9))) for dim in (2, 4, 8, 16)]
    cases += [(f"Gaussian through sinh, tanh, {dim} + {dim}", warped(num, dim)) for dim in (1, 2, 4, 8)]
    return cases + [(f"10 clusters, {dim} + {dim}", cluster_pairs(num, dim)) for dim in (2, 4, 8)]


def normal(rng: np.random.Generator, num: int, dim: int) -> Sample:
    points = rng.standard_normal((num, dim))
    return Sample(points, -log_normal(points), estimators.standard_normal_entropy(dim))


def correlated(rng: np.random.Generator, num: int, dim: int) -> Sample:
    sample, matrix = normal(rng, num, dim), mixing(dim)
    shift = np.linalg.slogdet(matrix)[1]
    return Sample(sample.points @ matrix.T, sample.exact + shift, sample.truth + shift)


def laplace(rng: np.random.Generator, num: int, dim: int) -> Sample:
    points = rng.laplace(size=(num, dim))
    return Sample(points, (np.abs(points) + math.log(2)).sum(axis=1), dim * (1 + math.log(2)))


def clusters(rng: np.random.Generator, num: int, dim: int) -> Sample:
    """Ten Gaussians of covariance I, their centres drawn from N(0, 9 I): far apart. The truth is the draw's mean."""
    centres = 3 * np.random.default_rng(0).standard_normal((10, dim))
    points = centres[rng.integers(10, size=num)] + rng.standard_normal((num, dim))
    exact = math.log(10) - logsumexp([log_normal(points - centre) for centre in centres], axis=0)
    return Sample(points, exact, float(exact.mean()))


def gaussian_pairs(num: int, dim_x: int, dim_z: int, correlation: float) -> Callable[[np.random.Generator], Pairs]:
    """x_i and z_i are correlated for i up to the smaller dimension, and independent otherwise."""

    def draw(rng: np.random.Generator) -> Pairs:
        x, z = rng.standard_normal((num, dim_x)), rng.standard_normal((num, dim_z))
        both, rest = min(dim_x, dim_z), 1 - correlation**2
        u = x[:, :both]
        z[:, :both] = v = correlation * u + math.sqrt(rest) * z[:, :both]
        exact = (-0.5 * math.log(rest) - 0.5 * (u**2 + v**2 - 2 * correlation * u * v) / rest + (u**2 + v**2) / 2).sum(
            1
        )
        return Pairs(x, z, exact, -0.5 * both * math.log(rest))

    return draw


def mixed(draw: Callable[[np.random.Generator], Pairs]) -> Callable[[np.random.Generator], Pairs]:
    def draw_mixed(rng: np.random.Generator) -> Pairs:
        pairs = draw(rng)
        x, z = pairs.x @ mixing(pairs.x.shape[1]).T, pairs.z @ mixing(pairs.z.shape[1]).T
        return Pairs(x, z, pairs.exact, pairs.truth)

    return draw_mixed


def warped(num: int, dim: int) -> Callable[[np.random.Generator], Pairs]:
    """Monotone maps of the coordinates, which leave the information as it is."""

    def draw(rng: np.random.Generator) -> Pairs:
        pairs = gaussian_pairs(num, dim, dim, 0.9)(rng)
        return Pairs(np.sinh(pairs.x), np.tanh(pairs.z) + 0.1 * pairs.z, pairs.exact, pairs.truth)

    return draw


def cluster_pairs(num: int, dim: int) -> Callable[[np.random.Generator], Pairs]:
    """x and z share the cluster and nothing else. The truth is the draw's mean."""

    def draw(rng: np.random.Generator) -> Pairs:
        centres_x, centres_z = 3 * np.random.default_rng(0).standard_normal((2, 10, dim))
        cluster = rng.integers(10, size=num)
        x = centres_x[cluster] + rng.standard_normal((num, dim))
        z = centres_z[cluster] + rng.standard_normal((num, dim))
        log_x = np.stack([log_normal(x - centre) for centre in centres_x])
        log_z = np.stack([log_normal(z - centre) for centre in centres_z])
        exact = logsumexp(log_x + log_z, axis=0) - logsumexp(log_x, axis=0) - logsumexp(log_z, axis=0) + math.log(10)
        return Pairs(x, z, exact, float(exact.mean()))

    return draw


def log_normal(points: np.ndarray) -> np.ndarray:
    return -0.5 * (points**2 + _LOG_2PI).sum(axis=1)


def mixing(dim: int) -> np.ndarray:
    """An invertible matrix, the same in each draw: half the identity, half noise."""
    return np.eye(dim) + np.random.default_rng(0).standard_normal((dim, dim)) / math.sqrt(dim)


def entropy_row(name: str, samples: list[Sample], num_queries: int) -> None:
    queries = np.arange(num_queries)
    errors = {
        "Chebyshev": [estimators.knn_entropy_terms(s.points, queries) - s.exact[queries] for s in samples],
        "Euclidean": [
            estimators.knn_entropy_terms(s.points, queries, metric="euclidean") - s.exact[queries] for s in samples
        ],
        "decorrelated": [estimators.decorrelated_entropy_terms(s.points, queries) - s.exact[queries] for s in samples],
    }
    print_row(name, float(np.mean([sample.truth for sample in samples])), errors)


def information_row(name: str, pairs: list[Pairs], num_queries: int) -> None:
    queries = np.arange(num_queries)
    plain, canonical = estimators.ksg_mutual_information_terms, estimators.canonical_mutual_information_terms
    errors = {
        "KSG": [plain(p.x, p.z, queries=queries) - p.exact[queries] for p in pairs],
        "canonical": [canonical(p.x, p.z, queries=queries) - p.exact[queries] for p in pairs],
    }
    print_row(name, float(np.mean([each.truth for each in pairs])), errors)


def print_heads(what: str, *estimator_names: str) -> None:
    print(f"{what:40}   exact  {'  '.join(f'{name:>18}' for name in estimator_names)}  standard error")


def print_row(name: str, truth: float, errors: dict[str, list[np.ndarray]]) -> None:
    joined = [np.concatenate(each) for each in errors.values()]
    cells = [f"{error.mean():+7.3f} ({100 * error.mean() / truth:+6.1f} %)" for error in joined]
    spread = max(error.std() / math.sqrt(len(error)) for error in joined)
    print(f"{name:40} {truth:7.3f}  {'  '.join(cells)}  {spread:.3f}", flush=True)


def bias(args: argparse.Namespace) -> None:
    """The error of the entropy of N(0, I) at growing numbers of points, in 16 and in 128 dimensions."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for axis, dim in zip(axes, (16, 128), strict=True):
        counts = (500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
        curves: dict[str, list[float]] = {}
        for count in counts:
            for name, (error, spread) in errors_at(count, dim, args.queries).items():
                truth = estimators.standard_normal_entropy(dim)
                print(f"{dim:4} {count:6} {name:20} {error:+8.3f} +- {spread:.3f}  {100 * error / truth:+6.2f} %")
                curves.setdefault(name, []).append(error)
        draw_curves(axis, dim, counts, curves)
    axes[0].legend()
    figure.savefig(args.output, dpi=120, bbox_inches="tight")


def errors_at(count: int, dim: int, num_queries: int) -> dict[str, tuple[float, float]]:
    """Error and standard error of each estimator, over as many draws as make up the number of queries."""
    queries = np.arange(min(count, num_queries))
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "plain, Chebyshev": lambda points: estimators.knn_entropy_terms(points, queries),
        "plain, Euclidean": lambda points: estimators.knn_entropy_terms(points, queries, metric="euclidean"),
        "decorrelated": lambda points: estimators.decorrelated_entropy_terms(points, queries),
    }
    errors: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for seed in range(num_queries // len(queries)):
        sample = normal(np.random.default_rng(seed), count, dim)
        for name, way in ways.items():
            errors[name].append(way(sample.points) - sample.exact[queries])
    joined = {name: np.concatenate(each) for name, each in errors.items()}
    return {name: (each.mean(), each.std() / math.sqrt(len(each))) for name, each in joined.items()}


def draw_curves(axis: plt.Axes, dim: int, counts: tuple[int, ...], curves: dict[str, list[float]]) -> None:
    truth = estimators.standard_normal_entropy(dim)
    for name, errors in curves.items():
        axis.plot(counts, errors, marker=".", label=name)
    axis.axhspan(-0.02 * truth, 0.02 * truth, color="grey", alpha=0.2, label="2 % of the entropy")
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set(
        title=f"N(0, I) in {dim} dimensions: {truth:.1f} nats", xlabel="points", ylabel="error in nats", xscale="log"
    )


def speed(args: argparse.Namespace) -> None:
    print(f"seconds for 500 queries among {args.points} draws from N(0, I), 4 neighbours, one thread")
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    for dim in (4, 8, 16, 32, 128, 512):
        points = np.random.default_rng(0).standard_normal((args.points, dim)).astype(np.float32)
        for metric, norm, kind in (("Chebyshev", math.inf, faiss.METRIC_Linf), ("Euclidean", 2.0, faiss.METRIC_L2)):
            cells = [f"{name} {time_of(way):7.3f}" for name, way in searches(points, norm, kind).items()]
            print(f"{dim:4} {metric}: {', '.join(cells)}", flush=True)


def searches(points: np.ndarray, norm: float, kind: int) -> dict[str, Callable[[], object]]:
    index = faiss.IndexFlat(points.shape[1], kind)
    index.add(points)
    tree, tensor = cKDTree(points), torch.from_numpy(points)

    def by_torch(tensor: torch.Tensor) -> object:
        mode = "donot_use_mm_for_euclid_dist"  # exact for points that are close together
        return torch.cdist(tensor[:500], tensor, p=norm, compute_mode=mode).topk(4, largest=False)

    return {
        "FAISS": lambda: index.search(points[:500], 4),
        "tree, fp64": lambda: tree.query(points[:500], 4, p=norm),
        "torch.cdist": lambda: by_torch(tensor),
        "torch.cdist, fp64": lambda: by_torch(tensor.double()),
    }


def time_of(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
