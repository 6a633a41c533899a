"""What a model makes of vectors: the figures of sections 4.2 and 5.3.1 of the thesis, and how its codes lie.

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
import pyarrow as pa
import torch
from accelerate import Accelerator
from torch import Tensor

from smim import storage
from smim.errors import UserError, too_low
from smim.evaluation import estimators, pictures
from smim.evaluation.pictures import Plane
from smim.evaluation.representation import Neighbours
from smim.evaluation.section import Figure, Section, mean, scalar
from smim.model.distributions import DiagonalGaussian
from smim.model.mlp import VectorAutoencoder
from smim.text.corpus import CARD
from smim.vector_model import VectorModel
from smim.vectors.batch import VectorBatch
from smim.vectors.corpus import KIND, VectorCorpus, VectorSplit

_PLOT = "vectors.png"
_ROWS_AT_ONCE = 100_000


@dataclass
class VectorsArgs:
    """`k`: neighbours of the estimate of mutual information, and of the vote for a label; the thesis has 5 for both.

    `max_queries`: what compares each vector with all others, and the marginal likelihood, are means over so many
    vectors, drawn at random. `importance_samples`: K of the marginal likelihood.
    """

    k: int = 5
    max_queries: int = 2_000
    importance_samples: int = 200

    def __post_init__(self) -> None:
        if problems := too_low(self, "eval.vectors", k=1, max_queries=3, importance_samples=2):
            raise UserError("; ".join(problems))


@dataclass(frozen=True)
class VectorJob:
    """What the family of vectors is given, as `eval.job.Job` is what those of sentences are given."""

    model: VectorModel
    corpus: VectorCorpus
    split: VectorSplit
    accelerator: Accelerator
    work: Path
    seed: int

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process


@dataclass(frozen=True)
class Coded:
    """Vectors fp32 [N, X], q(z|x) of each, and one draw of z for each, fp32 [N, D]; an autoencoder's is its mean."""

    vectors: np.ndarray
    posterior: DiagonalGaussian
    codes: Tensor


def evaluate(job: VectorJob, args: VectorsArgs, plots_dir: Path) -> Section:
    """The figures of the job's vectors, how they were made, and a picture where all is of two dimensions."""
    figures = measure(job.model, job.corpus, job.split, args, seed=job.seed)
    section = Section("Vectors", figures, _notes(job, args))
    if "density" in job.corpus.card and job.model.latent_dim == job.corpus.input_size == 2:
        section.plots[_PLOT] = (
            "Above: level sets of the density of the vectors, and reconstructions of evaluated ones in red. "
            "Below: one standard deviation of N(0, I), dashed, and of some posteriors"
        )
        if job.is_main:
            values = {name: figure.value for name, figure in figures.items()}
            shown = plane(job.model, job.split, title="", figures=values, seed=job.seed)
            pictures.planes([shown], plots_dir / _PLOT, log_density=partial(log_density, job.corpus))
    return section


@torch.no_grad()
def measure(
    model: VectorModel, corpus: VectorCorpus, split: VectorSplit, args: VectorsArgs, *, seed: int
) -> dict[str, Figure]:
    """The figures of a split's vectors, which are a function of the seed.

    Raises `SmimError` naming a figure that came out as NaN, and ValueError where an estimator cannot be used.
    """
    coded = encode(model, split, seed=seed)
    queries = _queries(len(split), args.max_queries, seed)
    information = estimators.ksg_mutual_information_terms(coded.vectors, coded.codes.numpy(), args.k, queries=queries)
    mmd, error = estimators.mmd_squared(coded.codes.numpy()[queries])
    figures = {
        "mutual_information_ksg": mean("mutual_information_ksg", information),
        "mmd": scalar("mmd", mmd, n=len(queries), standard_error=error),
        **_reconstruction(model, coded, seed),
        **_accuracy(coded, split, encode(model, corpus.split("train"), seed=seed), corpus.split("train"), k=args.k),
    }
    if not model.deterministic:
        figures |= _posterior_figures(model, coded, queries)
        chosen, num_samples = coded.vectors[queries], args.importance_samples
        log_prob = marginal_log_prob(model.autoencoder, chosen, num_samples=num_samples, seed=seed)
        figures["marginal_nll"] = mean("marginal_nll", -log_prob)
    if "density" in corpus.card:
        figures["data_nll"] = mean("data_nll", -log_density(corpus, coded.vectors[queries]))
    return figures


def sample(split: VectorSplit, limit: int | None, *, seed: int) -> VectorSplit:
    """`limit` vectors of a split at random, or all of them."""
    if limit is None or len(split) <= limit:
        return split
    return VectorSplit(name=split.name, table=split.table.take(pa.array(_queries(len(split), limit, seed))))


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


def encode(model: VectorModel, split: VectorSplit, *, seed: int) -> Coded:
    """A split's vectors with their posteriors and codes; the draws are a function of the seed and the split's name."""
    posterior = model.posterior(split.vectors)
    if model.deterministic:
        return Coded(split.vectors, posterior, posterior.mean)
    random = np.random.default_rng([seed, zlib.crc32(split.name.encode())])
    noise = random.standard_normal(tuple(posterior.mean.shape), dtype=np.float32)
    return Coded(split.vectors, posterior, posterior.sample(torch.from_numpy(noise)))


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
def plane(model: VectorModel, split: VectorSplit, *, title: str, figures: dict[str, float], seed: int) -> Plane:
    """What a model of two dimensions makes of a split, with what was measured of it written in."""
    coded = encode(model, split, seed=seed)
    information = round(figures["mutual_information_ksg"], 2) + 0.0  # an estimate of nothing is not "-0.00"
    inset = f"MI {information:.2f}\nRMSE {figures['rmse']:.3f}"
    return Plane(title, _drawn(model, coded, seed), coded.posterior, inset)


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


def _reconstruction(model: VectorModel, coded: Coded, seed: int) -> dict[str, Figure]:
    """-log p(x|z), and how far a draw x' ~ p(x'|z), or its mean, is from x."""
    log_likelihood = model.autoencoder.log_likelihood(_batch(coded.vectors), coded.codes)
    means = model.autoencoder.mean(coded.codes).numpy()
    return {
        "reconstruction": mean("reconstruction", -log_likelihood.double().numpy()),
        "rmse": _rmse("rmse", _drawn(model, coded, seed) - coded.vectors),
        "rmse_mean": _rmse("rmse_mean", means - coded.vectors),
    }


def _drawn(model: VectorModel, coded: Coded, seed: int) -> np.ndarray:
    """A draw of x' ~ p(x'|z) for each code, fp32 [N, X]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.autoencoder.sample(coded.codes).vectors.numpy()


def _rmse(name: str, difference: np.ndarray) -> Figure:
    """Root of the mean square over vectors and dimensions; its standard error to first order."""
    squared = mean(name, np.square(difference.astype(np.float64)).mean(1))
    root = math.sqrt(squared.value)
    error = None if squared.standard_error is None or not root else squared.standard_error / (2 * root)
    return scalar(name, root, n=squared.n, standard_error=error)


def _accuracy(coded: Coded, split: VectorSplit, train: Coded, train_split: VectorSplit, *, k: int) -> dict[str, Figure]:
    """For each label column, how often the codes of the k nearest training vectors vote for the right label."""
    figures = {}
    for column in split.label_columns:
        classes, numbers = np.unique(train_split.labels(column), return_inverse=True)
        votes = classes[Neighbours(train.codes.numpy(), numbers, k=k).classify(coded.codes.numpy())]
        name, labels = f"knn_accuracy:{column}", np.array(split.labels(column))
        figures[name] = mean(name, votes == labels)
        name = f"majority_accuracy:{column}"
        figures[name] = mean(name, labels == classes[np.bincount(numbers).argmax()])
    return figures


def _posterior_figures(model: VectorModel, coded: Coded, queries: np.ndarray) -> dict[str, Figure]:
    posterior, num = coded.posterior, len(coded.vectors)
    terms, cap = estimators.posterior_information_terms(coded.codes.numpy()[queries], queries, posterior)
    moments = estimators.aggregate_moments(posterior)
    clamped = (posterior.log_variance <= model.autoencoder.args.clamp).double().mean(-1)
    return {
        "mutual_information": mean("mutual_information", terms),
        "mutual_information_cap": scalar("mutual_information_cap", cap, n=num),
        "kl": mean("kl", model.autoencoder.prior.kl(posterior, coded.codes).double().numpy()),
        "active_units": scalar("active_units", moments.num_active_units(), n=num),
        "active_units_relative": scalar("active_units_relative", moments.num_active_units_scale_free(), n=num),
        "clamped": mean("clamped", clamped.numpy()),
    }


def _queries(num: int, limit: int, seed: int) -> np.ndarray:
    """`limit` of the rows 0 .. num - 1 at random, or all where they are no more; ascending."""
    if num <= limit:
        return np.arange(num)
    return np.sort(np.random.default_rng(seed).choice(num, limit, replace=False))


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
        notes.append("The numbers are taken for probabilities: the likelihood of a grey value is its cross entropy.")
    return notes
