"""What a model makes of vectors: the metrics of sections 4.2 and 5.3.1 of the thesis, and how its codes lie.

Sets of vectors are small: every process computes all of it, from the same noise.

Shapes: N vectors, X their dimensions, D latent dimensions, Q queries, K importance samples.
"""

import math
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from smim import storage
from smim.errors import refuse, too_low
from smim.evaluation import estimators, plots
from smim.evaluation.information import OF_POSTERIORS, mmd
from smim.evaluation.job import sample
from smim.evaluation.likelihood import RECONSTRUCTION
from smim.evaluation.plots import Plane
from smim.evaluation.representation import OF_LABELS, Neighbours
from smim.evaluation.section import Definition, Metric, Section, mean, measure, scalar
from smim.model.distributions import DiagonalGaussian
from smim.model.mlp import VectorAutoencoder
from smim.text.corpus import CARD
from smim.vector_model import VectorModel
from smim.vectors.batch import VectorBatch
from smim.vectors.corpus import KIND, VectorCorpus, VectorSplit

_PLOT = "vectors.png"
_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class VectorsArgs:
    """`k`: neighbours of the estimate of mutual information, and of the vote for a label; the thesis has 5 for both.

    `max_queries`: what compares each vector with all others, and the marginal likelihood, are means over so many
    vectors, drawn at random. `importance_samples`: K of the marginal likelihood.
    """

    k: int = 5
    max_queries: int = 2_000
    importance_samples: int = 200

    def __post_init__(self) -> None:
        refuse(too_low(self, "eval.vectors", k=1, max_queries=3, importance_samples=2))


@dataclass(frozen=True)
class VectorJob:
    """What the group of vectors is given, as `Job` is what those of sentences are given."""

    model: VectorModel
    corpus: VectorCorpus
    split: VectorSplit
    accelerator: Accelerator
    work: Path
    seed: int


# Of `measure_vectors`.
_OWN = [
    *OF_POSTERIORS,
    Definition("mutual_information_ksg", "nats", "I(x; z), z ~ q(z|x), by nearest neighbours", lambda c: c["ksg"],
               title="mutual information (KSG)", better="higher", equation="Kraskov et al. 2004, eq. 8"),
    Definition("marginal_nll", "nats", "-log E p(x|z), z from the model's prior, by importance sampling",
               lambda c: -c["marginal"], title="NLL (marginal)", better="lower",
               zero_is_least=False),
    Definition("data_nll", "nats",
               "-log P(x) under the density that the vectors were drawn from: the floor of `marginal_nll`",
               lambda c: -c["density"]),
    Definition("rmse", "",
               "root mean square difference, over dimensions too, between x and a draw from p(x|z), z ~ q(z|x)",
               lambda c: _rmse(c["difference"]), title="RMSE", better="lower"),
    Definition("rmse_mean", "", "`rmse` with E[x|z] in place of the draw",
               lambda c: _rmse(c["difference_of_mean"]), better="lower"),
]  # fmt: skip
METRICS = [*_OWN, RECONSTRUCTION, *OF_LABELS]


def evaluate(job: VectorJob, args: VectorsArgs, plots_dir: Path) -> Section:
    """The metrics of the job's vectors, how they were made, and a picture where all is of two dimensions."""
    metrics = measure_vectors(job.model, job.corpus, job.split, args, seed=job.seed)
    section = Section("Vectors", metrics, _notes(job, args))
    if "density" in job.corpus.card and job.model.latent_dim == job.corpus.input_size == 2:
        section.plots[_PLOT] = (
            "Above: level sets of the density of the vectors, and reconstructions of evaluated ones in red. "
            "Below: one standard deviation of N(0, I), dashed, and of some posteriors"
        )
        if job.accelerator.is_main_process:
            values = {name: metric.value for name, metric in metrics.items()}
            shown = plane(job.model, job.split, title="", metrics=values, seed=job.seed)
            plots.planes([shown], plots_dir / _PLOT, log_density=partial(log_density, job.corpus))
    return section


@torch.no_grad()
def measure_vectors(
    model: VectorModel, corpus: VectorCorpus, split: VectorSplit, args: VectorsArgs, *, seed: int
) -> dict[str, Metric]:
    """The metrics of a split's vectors, which are a function of the seed.

    Raises `SmimError` naming a metric that came out as NaN, and ValueError where an estimator cannot be used.
    """
    vectors, autoencoder = split.vectors, model.autoencoder
    posterior, z = encode(model, split, seed=seed)
    codes, queries = z.numpy(), sample(len(split), args.max_queries, seed=seed)
    log_likelihood = autoencoder.log_likelihood(_batch(vectors), z)
    computed = {
        "ksg": estimators.ksg_mutual_information_terms(vectors, codes, args.k, queries=queries),
        "mmd": mmd(codes[queries]),
        "difference": _drawn(model, z, seed) - vectors,
        "difference_of_mean": autoencoder.mean(z).numpy() - vectors,
    }
    if not model.deterministic:
        computed |= {
            "information": estimators.posterior_information_terms(codes[queries], queries, posterior)[0],
            "moments": estimators.aggregate_moments(posterior),
            "kl": autoencoder.prior.kl(posterior, z).double().numpy(),
            "clamped": (posterior.log_variance <= autoencoder.args.clamp).double().mean(-1).numpy(),
            "marginal": marginal_log_prob(
                autoencoder, vectors[queries], num_samples=args.importance_samples, seed=seed
            ),
        }
    if "density" in corpus.card:
        computed["density"] = log_density(corpus, vectors[queries])
    train_split = corpus.split("train")
    train = encode(model, train_split, seed=seed)[1].numpy()
    metrics = measure(_OWN, computed) | measure([RECONSTRUCTION], -log_likelihood.double().numpy())
    for column in split.label_columns:
        classes, numbers = np.unique(train_split.labels(column), return_inverse=True)
        voted, labels = Neighbours(train, numbers, k=args.k).classify(codes), np.array(split.labels(column))
        most_frequent = classes[np.bincount(numbers).argmax()]
        metrics |= measure(OF_LABELS, (classes[voted] == labels, most_frequent == labels), label=column)
    return metrics


def describe_corpus(corpus: VectorCorpus, split: VectorSplit) -> dict[str, Any]:
    """What a report says of the evaluated vectors, each of which counts as a sentence of one token."""
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


def encode(model: VectorModel, split: VectorSplit, *, seed: int) -> tuple[DiagonalGaussian, Tensor]:
    """q(z|x) of a split's vectors and a draw of z for each, fp32 [N, D], or an autoencoder's mean.

    The draws are a function of the seed and the split's name.
    """
    posterior = model.posterior(split.vectors)
    if model.deterministic:
        return posterior, posterior.mean
    random = np.random.default_rng([seed, zlib.crc32(split.name.encode())])
    noise = random.standard_normal(tuple(posterior.mean.shape), dtype=np.float32)
    return posterior, posterior.sample(torch.from_numpy(noise))


@torch.no_grad()
def marginal_log_prob(
    autoencoder: VectorAutoencoder, vectors: np.ndarray, *, num_samples: int, seed: int
) -> np.ndarray:
    """log E_p(z)[p(x|z)] of each vector [N, X], by K importance samples, in nats, fp64 [N].

    Half of the samples are from q(z|x) and half from p(z), weighted as draws from the even mixture of both (Veach and
    Guibas 1995): where q is narrower than p(z|x), as MIM's may be, its draws alone would miss most of the integral. In
    expectation the estimate is too low, and the less so the more samples (Burda et al. 2016).
    """
    blocks = np.array_split(vectors, math.ceil(len(vectors) * num_samples / _ROWS_AT_ONCE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return np.concatenate([_marginal_block(autoencoder, block, num_samples) for block in blocks])


@torch.no_grad()
def plane(model: VectorModel, split: VectorSplit, *, title: str, metrics: dict[str, float], seed: int) -> Plane:
    """What a model of two dimensions makes of a split, with what was measured of it written in."""
    posterior, codes = encode(model, split, seed=seed)
    information = round(metrics["mutual_information_ksg"], 2) + 0.0  # an estimate of nothing is not "-0.00"
    inset = f"MI {information:.2f}\nRMSE {metrics['rmse']:.3f}"
    return Plane(title, _drawn(model, codes, seed), posterior, inset)


def log_density(corpus: VectorCorpus, vectors: np.ndarray) -> np.ndarray:
    """log P(x) of each vector [N, X] under the mixture that the corpus was drawn from, in nats, fp64 [N]."""
    density = corpus.card["density"]
    means = torch.tensor(density["means"], dtype=torch.float64)
    log_variance = torch.full_like(means, 2 * math.log(density["standard_deviation"]))
    return estimators.log_mixture_density(np.array(vectors), DiagonalGaussian(means, log_variance))


def _marginal_block(autoencoder: VectorAutoencoder, vectors: np.ndarray, num_samples: int) -> np.ndarray:
    """`marginal_log_prob` of so few vectors that all of their samples fit into memory."""
    num, num_narrow = len(vectors), num_samples // 2
    batch = _batch(vectors.repeat(num_samples, axis=0))
    posterior = autoencoder.posterior(batch)
    z = posterior.sample().view(num, num_samples, -1)
    num_wide = num_samples - num_narrow
    z[:, num_narrow:] = autoencoder.prior.sample(num * num_wide).view(num, num_wide, -1)
    z = z.flatten(0, 1)
    log_prior, log_posterior = autoencoder.prior.log_prob(z).double(), posterior.log_prob(z).double()
    share = num_narrow / num_samples
    log_proposal = torch.logaddexp(log_posterior + math.log(share), log_prior + math.log1p(-share))
    log_weights = autoencoder.log_likelihood(batch, z).double() + log_prior - log_proposal
    return (torch.logsumexp(log_weights.view(num, num_samples), 1) - math.log(num_samples)).numpy()


def _drawn(model: VectorModel, codes: Tensor, seed: int) -> np.ndarray:
    """A draw of x' ~ p(x'|z) for each code, fp32 [N, X]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.autoencoder.sample(codes).vectors.numpy()


def _rmse(difference: np.ndarray) -> Metric:
    """Root of the mean square over vectors and dimensions; its standard error to first order."""
    squared = mean(np.square(difference.astype(np.float64)).mean(1))
    root = math.sqrt(squared.value)
    error = None if squared.standard_error is None or not root else squared.standard_error / (2 * root)
    return scalar(root, n=squared.n, standard_error=error)


def _batch(vectors: np.ndarray) -> VectorBatch:
    return VectorBatch(torch.arange(len(vectors)), torch.tensor(vectors))


def _notes(job: VectorJob, args: VectorsArgs) -> list[str]:
    codes = "the mean of q(z|x)" if job.model.deterministic else "one draw of z ~ q(z|x)"
    notes = [
        f"A code is {codes}; `rmse` is of one draw of x from it, as in the thesis, `rmse_mean` of E[x|z]. "
        f"`mutual_information_ksg` is by k = {args.k} nearest neighbours, as in the thesis: far too low where x and z "
        f"have many dimensions (docs/evaluation.md). `mutual_information` is too low where it nears its cap."
    ]
    if not job.model.deterministic:
        notes.append(
            f"`marginal_nll` is by {args.importance_samples} importance samples a vector, half of them from q(z|x) and "
            f"half from the prior; in expectation it is too high, by less the more samples there are."
        )
    if job.model.autoencoder.args.decoder.likelihood == "bernoulli":
        notes.append("The numbers are treated as probabilities: the likelihood of a grey value is its cross entropy.")
    return notes
