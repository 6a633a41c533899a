"""Metrics of models of vectors, as in sections 4.2 and 5.3.1 of the thesis, and of the distribution of their codes.

Sets of vectors are small, so every process computes everything, from the same noise.

Shapes: N vectors, X their dimensions, D latent dimensions, Q queries, K importance samples.
"""

import math
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from torch import Tensor

from smim import storage
from smim.errors import refuse, too_low
from smim.evaluation import estimators, plots
from smim.evaluation.classes import MOST_CLASSES, OF_CLASSES, Classes, read_by_classifiers
from smim.evaluation.consistency import OF_CONSISTENCY
from smim.evaluation.information import OF_POSTERIORS, mmd
from smim.evaluation.job import sample
from smim.evaluation.likelihood import RECONSTRUCTION
from smim.evaluation.plots import Plane
from smim.evaluation.representation import OF_LABELS, Neighbours
from smim.evaluation.section import Definition, Metric, Section, mean, measure, scalar
from smim.images import pictures
from smim.model.distributions import DiagonalGaussian, Posterior
from smim.model.vectors import VectorLatentVariableModel
from smim.text.corpus import CARD
from smim.vector_model import VectorModel
from smim.vectors.batch import VectorBatch
from smim.vectors.corpus import KIND, VectorCorpus, VectorSplit

_PLOT, _IMAGES = "vectors.png", "images.png"
_SHOWN = 10  # images of a picture's row
# Of the marginal likelihood: the largest number of codes at once, and the number of blocks in which they are decoded.
_ROWS_AT_ONCE = 100_000
_BLOCKS_OF_CODES = 16
# The largest number of pairs of a code and a posterior at once, where posteriors are no single Gaussians.
_PAIRS_AT_ONCE = 10**6
# Vectors that decide whether their numbers are continuous, and the most levels of numbers that are not.
_SOME, _MOST_LEVELS = 1_000, 256


@dataclass(frozen=True)
class VectorsArgs:
    """The settings of the group. `k`: neighbours for the estimate of mutual information and for the vote for a label.

    The thesis has 5 for both. `max_queries`: the number of random vectors over which the marginal likelihood, and
    metrics that compare each vector with all others, are averaged, and the number of samples that are classified.
    `importance_samples`: K of the marginal likelihood. `labelled`: training vectors whose label the SVM is given.
    """

    k: int = 5
    max_queries: int = 2_000
    importance_samples: int = 200
    labelled: int = 1_000

    def __post_init__(self) -> None:
        refuse(too_low(self, "eval.vectors", k=1, max_queries=3, importance_samples=2, labelled=2))


@dataclass(frozen=True)
class VectorJob:
    """The input of the metric group of vectors, like `Job` for sentences."""

    model: VectorModel
    corpus: VectorCorpus
    split: VectorSplit
    accelerator: Accelerator
    work: Path
    seed: int


# The input: the values that `measure_vectors` computes.
_OWN = [
    *OF_POSTERIORS,
    Definition("mutual_information_ksg", "nats",
               "mutual information I(x; z), z ~ q(z|x), estimated from nearest neighbours; only of continuous x",
               lambda c: c["ksg"],
               title="mutual information (KSG)", better="higher", equation="Kraskov et al. 2004, eq. 8"),
    Definition("marginal_nll", "nats", "-log E[p(x|z)], z ~ p(z), the model's own prior, by importance sampling",
               lambda c: -c["marginal"], title="NLL (marginal)", better="lower",
               zero_is_least=False),
    Definition("data_nll", "nats",
               "-log P(x) under the true density of the vectors; on average `marginal_nll` cannot be lower",
               lambda c: -c["density"]),
    Definition("rmse", "",
               "root of the mean square over vectors and dimensions of x - x', with draws x' ~ p(x|z), z ~ q(z|x)",
               lambda c: _rmse(c["difference"]), title="RMSE", better="lower"),
    Definition("rmse_mean", "", "`rmse` with x' = E[x|z] instead of the draw",
               lambda c: _rmse(c["difference_of_mean"]), better="lower"),
]  # fmt: skip
METRICS = [*_OWN, RECONSTRUCTION, *OF_LABELS, *OF_CLASSES, *OF_CONSISTENCY]


def evaluate(job: VectorJob, args: VectorsArgs, plots_dir: Path) -> Section:
    """Measure the job's vectors. Plot them if vectors and codes have two dimensions, or show some images."""
    metrics = measure_vectors(job.model, job.corpus, job.split, args, seed=job.seed)
    section = Section("Vectors", metrics, _notes(job, args))
    if "density" in job.corpus.card and job.model.latent_dim == job.corpus.input_size == 2:
        section.plots[_PLOT] = (
            "Above: level sets of the vectors' density in black, and reconstructions of evaluated vectors in red. "
            "Below: one standard deviation of N(0, I), dashed, and of some posteriors, in green"
        )
        if job.accelerator.is_main_process:
            values = {name: metric.value for name, metric in metrics.items()}
            shown = plane(job.model, job.split, title="", metrics=values, seed=job.seed)
            plots.planes([shown], plots_dir / _PLOT, log_density=partial(log_density, job.corpus))
    if shape := job.corpus.card.get("shape"):
        section.plots[_IMAGES] = (
            "Evaluated images; their reconstructions E[x|z], from draws z of q(z|x); samples E[x|z], from draws z of "
            "the model's own prior"
        )
        if job.accelerator.is_main_process:
            some = take(job.split, sample(len(job.split), _SHOWN, seed=job.seed))
            rows = zip(("images", "reconstructions", "samples"), images_of(job.model, some, seed=job.seed), strict=True)
            pictures.strips({"": dict(rows)}, plots_dir / _IMAGES, shape=shape)
    return section


@torch.no_grad()
def measure_vectors(
    model: VectorModel, corpus: VectorCorpus, split: VectorSplit, args: VectorsArgs, *, seed: int
) -> dict[str, Metric]:
    """Compute the metrics of a split's vectors. They are a function of the seed.

    Raises `SmimError` naming a metric that is NaN or infinite, and ValueError if an estimator cannot be used.
    """
    vectors, autoencoder = split.vectors, model.autoencoder
    posterior, z = encode(model, split, seed=seed)
    codes, queries = z.numpy(), sample(len(split), args.max_queries, seed=seed)
    log_likelihood = model.log_likelihood(vectors, z)
    drawn = queries if autoencoder.slow_sampling else np.arange(len(split))
    computed = {
        "mmd": mmd(codes[queries]),
        "difference": model.draw(z[drawn], seed=seed) - vectors[drawn],
        "difference_of_mean": model.decode(z[drawn], seed=seed) - vectors[drawn],
    }
    if _is_continuous(vectors):
        computed["ksg"] = estimators.ksg_mutual_information_terms(vectors, codes, args.k, queries=queries)
    if not model.deterministic:
        computed |= {
            "information": _information(z[queries], queries, posterior),
            # With two levels, the variances of z1 are those at the mean of z2.
            "moments": estimators.aggregate_moments(DiagonalGaussian(posterior.mean, posterior.log_variance)),
            "kl": autoencoder.prior.kl(posterior, z).double().numpy(),
            "clamped": (posterior.log_variance <= autoencoder.args.clamp).double().mean(-1).numpy(),
            "marginal": marginal_log_prob(
                autoencoder, vectors[queries], num_samples=args.importance_samples, seed=seed
            ),
        }
        if math.isfinite(log_det := computed["moments"].log_determinant_per_dimension()):
            computed["log_det"] = log_det
    if "density" in corpus.card:
        computed["density"] = log_density(corpus, vectors[queries])
    train_split = corpus.split("train")
    train = encode(model, train_split, seed=seed)[1].numpy()
    metrics = measure(_OWN, computed) | measure([RECONSTRUCTION], -log_likelihood)
    samples = None if autoencoder.slow_sampling else model.sample(args.max_queries, seed=seed)
    for column in split.label_columns:
        classes, numbers = np.unique(train_split.labels(column), return_inverse=True)
        voted, labels = Neighbours(train, numbers, k=args.k).classify(codes), np.array(split.labels(column))
        most_frequent = classes[np.bincount(numbers).argmax()]
        metrics |= measure(OF_LABELS, (classes[voted] == labels, most_frequent == labels), label=column)
        if len(classes) > MOST_CLASSES:
            continue
        places = {name: number for number, name in enumerate(classes)}
        known = Classes(numbers, np.array([places.get(each, len(classes)) for each in labels]), len(classes))
        read = read_by_classifiers(train, codes, known, labelled=args.labelled, seed=seed)
        if samples is not None:
            sampled = Neighbours(train_split.vectors, numbers, k=args.k).classify(samples)
            read |= {"counts": np.bincount(numbers), "sampled_counts": np.bincount(sampled, minlength=len(classes))}
        metrics |= measure(OF_CLASSES, read, label=column)
    return metrics


def describe_corpus(corpus: VectorCorpus, split: VectorSplit) -> dict[str, Any]:
    """Describe the evaluated vectors for a report. Each counts as a sentence of one token."""
    return {
        "name": corpus.name,
        "kind": KIND,
        "directory": str(corpus.directory),
        "split": split.name,
        "sentences": len(split),
        "tokens": len(split),
        "tokens_per_sentence": 1.0,
        "dimension": corpus.input_size,
        "hash": storage.sha256(corpus.directory / CARD),
    }


def encode(model: VectorModel, split: VectorSplit, *, seed: int) -> tuple[Posterior, Tensor]:
    """Compute q(z|x) of a split's vectors and a draw of z for each, fp32 [N, D]; for an autoencoder the mean.

    The draws are a function of the seed and the split's name.
    """
    posterior = model.posterior(split.vectors)
    if model.deterministic:
        return posterior, posterior.mean
    random = np.random.default_rng([seed, zlib.crc32(split.name.encode())])
    noise = random.standard_normal(tuple(posterior.mean.shape), dtype=np.float32)
    return posterior, posterior.sample(torch.from_numpy(noise))


@torch.no_grad()
def images_of(model: VectorModel, split: VectorSplit, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A split's images, their reconstructions E[x|z], z ~ q(z|x), and as many samples, fp32 [N, X] each.

    A sample is E[x|z], z ~ p(z). For bits these are probabilities of ones, as in footnote 4 of section 4.3.
    """
    _, codes = encode(model, split, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = model.autoencoder.prior.sample(len(split))
        return split.vectors, model.decode(codes, seed=seed), model.decode(drawn, seed=seed)


def take(split: VectorSplit, rows: np.ndarray) -> VectorSplit:
    """Make a split from some rows of a split, in ascending order."""
    return replace(split, table=split.table.take(pa.array(rows)))


@torch.no_grad()
def marginal_log_prob(
    autoencoder: VectorLatentVariableModel, vectors: np.ndarray, *, num_samples: int, seed: int
) -> np.ndarray:
    """Estimate log E_p(z)[p(x|z)] of each vector [N, X] by K importance samples, in nats, fp64 [N].

    Half of the samples are from q(z|x) and half from p(z). They are weighted as draws from the even mixture of both
    (Veach and Guibas 1995). If q is narrower than p(z|x), as MIM's may be, draws of q alone miss most of the integral.
    In expectation the estimate is too low; more samples reduce this bias (Burda et al. 2016).

    The memory depends on the model, but not on N or K, except for the K log weights of a vector.
    """
    at_once = min(_ROWS_AT_ONCE, _BLOCKS_OF_CODES * autoencoder.rows_at_once)
    blocks = np.array_split(vectors, min(len(vectors), math.ceil(len(vectors) * num_samples / at_once)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return np.concatenate([_marginal_block(autoencoder, block, num_samples, at_once) for block in blocks])


@torch.no_grad()
def plane(model: VectorModel, split: VectorSplit, *, title: str, metrics: dict[str, float], seed: int) -> Plane:
    """Make the plot of a two-dimensional model on a split, with its mutual information and RMSE as text."""
    posterior, codes = encode(model, split, seed=seed)
    information = round(metrics["mutual_information_ksg"], 2) + 0.0  # so that 0 is not shown as "-0.00"
    inset = f"MI {information:.2f}\nRMSE {metrics['rmse']:.3f}"
    # Of a mixture, the Gaussian of its moments.
    gaussians = DiagonalGaussian(posterior.mean, posterior.log_variance)
    return Plane(title, model.draw(codes, seed=seed), gaussians, inset)


def log_density(corpus: VectorCorpus, vectors: np.ndarray) -> np.ndarray:
    """Compute log P(x) of each vector [N, X] under the mixture from which the corpus was drawn, in nats, fp64 [N]."""
    density = corpus.card["density"]
    means = torch.tensor(density["means"], dtype=torch.float64)
    log_variance = torch.full_like(means, 2 * math.log(density["standard_deviation"]))
    return estimators.log_mixture_density(np.array(vectors), DiagonalGaussian(means, log_variance))


def _marginal_block(
    autoencoder: VectorLatentVariableModel, vectors: np.ndarray, num_samples: int, at_once: int
) -> np.ndarray:
    """Compute `marginal_log_prob` of a block of vectors, with at most `at_once` codes at a time."""
    posterior, of_vector = autoencoder.posterior(_batch(vectors)), torch.arange(len(vectors))
    share, log_weights = num_samples // 2 / num_samples, []
    for samples in torch.arange(num_samples).split(max(1, at_once // len(vectors))):
        rows, num_narrow = of_vector.repeat_interleave(len(samples)), int((samples < num_samples // 2).sum())
        repeated = posterior.take(rows)
        z = repeated.sample().view(len(vectors), len(samples), -1)
        if num_wide := len(samples) - num_narrow:
            z[:, num_narrow:] = autoencoder.prior.sample(len(vectors) * num_wide).view(len(vectors), num_wide, -1)
        z = z.flatten(0, 1)
        log_prior, log_posterior = autoencoder.prior.log_prob(z).double(), repeated.log_prob(z).double()
        log_proposal = torch.logaddexp(log_posterior + math.log(share), log_prior + math.log1p(-share))
        log_likelihood = autoencoder.in_blocks(
            lambda rows, z: autoencoder.log_likelihood(_batch(vectors[rows]), z).double(), rows, z
        )
        log_weights.append((torch.cat(log_likelihood) + log_prior - log_proposal).view(len(vectors), -1))
    return (torch.logsumexp(torch.cat(log_weights, 1), 1) - math.log(num_samples)).numpy()


def _information(z: Tensor, rows: np.ndarray, posterior: Posterior) -> np.ndarray:
    """Compute log q(z_i|x_i) - log mean_j q(z_i|x_j) for draws z [Q, D] from the posteriors of `rows`, fp64 [Q]."""
    if isinstance(posterior, DiagonalGaussian):
        return estimators.posterior_information_terms(z.numpy(), rows, posterior)[0]
    num, terms = len(posterior.mean), []
    of_codes = max(1, _PAIRS_AT_ONCE // num)
    for z_QD, rows_Q in zip(z.split(of_codes), torch.from_numpy(rows).split(of_codes), strict=True):
        log_prob_QN = posterior.log_prob_under_each(z_QD)
        terms.append(log_prob_QN[torch.arange(len(z_QD)), rows_Q] - log_prob_QN.logsumexp(1))
    return torch.cat(terms).numpy() + math.log(num)


def _is_continuous(vectors: np.ndarray) -> bool:
    """Whether the numbers are hardly ever equal. The distances of bits and grey levels say nothing to KSG."""
    some = vectors[:_SOME]
    return len(np.unique(some)) > min(_MOST_LEVELS, some.size // 2)


def _rmse(difference: np.ndarray) -> Metric:
    """Compute the root of the mean square over vectors and dimensions, with a standard error to first order."""
    squared = mean(np.square(difference.astype(np.float64)).mean(1))
    root = math.sqrt(squared.value)
    error = None if squared.standard_error is None or not root else squared.standard_error / (2 * root)
    return scalar(root, n=squared.n, standard_error=error)


def _batch(vectors: np.ndarray) -> VectorBatch:
    return VectorBatch(torch.arange(len(vectors)), torch.tensor(vectors))


def _notes(job: VectorJob, args: VectorsArgs) -> list[str]:
    codes = "the mean of q(z|x)" if job.model.deterministic else "one draw of z ~ q(z|x)"
    notes = [
        f"A code is {codes}. `rmse` uses one draw of x from the code, as in the thesis, and `rmse_mean` uses E[x|z]. "
        f"`mutual_information_ksg` uses k = {args.k} nearest neighbours, as in the thesis. It is far too low if x and "
        f"z have many dimensions, and is left out for bits and grey levels (docs/evaluation.md). `mutual_information` "
        f"is too low if it is close to its cap."
    ]
    if not job.model.deterministic:
        notes.append(
            f"`marginal_nll` uses {args.importance_samples} importance samples per vector, half of them from q(z|x) "
            f"and half from the prior. In expectation it is too high; more samples reduce this bias."
        )
    if job.model.autoencoder.args.decoder.likelihood == "bernoulli":
        notes.append("The values are treated as probabilities: -log p(x|z) is the sum of their cross entropies.")
    return notes
