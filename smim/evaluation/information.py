"""How much a code tells of its sentence, and how the codes lie: entropy, mutual information, KL, units in use.

Shapes: N sentences, Q queries, D latent dimensions.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from smim.errors import UserError, too_low
from smim.evaluation import estimators, plots
from smim.evaluation.estimators import AggregateMoments
from smim.evaluation.job import Job, select
from smim.evaluation.section import Figure, Section, mean, scalar
from smim.generation import SentenceModel
from smim.model.distributions import DiagonalGaussian
from smim.progress import track

_ROWS_AT_ONCE = 2048
_LEAST_FOR_MMD = 3
_COLLAPSED_BELOW = 0.1  # of what the mutual information could be at most


@dataclass
class InformationArgs:
    """`k` and `metric` (chebyshev, as in the authors' code, or euclidean) of the nearest-neighbour entropy.

    `max_queries`: entropy and mutual information are means over so many sentences, drawn at random, each of them
    against all others; `mmd_samples`: codes that are compared with as many draws from N(0, I).
    """

    k: int = 3
    metric: str = "chebyshev"
    max_queries: int = 10_000
    mmd_samples: int = 5_000

    def __post_init__(self) -> None:
        problems = too_low(self, "eval.information", k=1, max_queries=2, mmd_samples=_LEAST_FOR_MMD)
        if self.metric not in ("chebyshev", "euclidean"):
            problems.append(f"eval.information.metric is {self.metric!r}; valid: chebyshev, euclidean")
        if problems:
            raise UserError("; ".join(problems))


def evaluate(job: Job, args: InformationArgs, plots_dir: Path) -> Section:
    """Entropy of the codes, what they tell of the sentences, and how the posteriors lie to the prior."""
    num_sentences = len(job.split)
    figures, notes = _entropy(job, args)
    mean_or_posterior = job.posterior()
    if job.model.deterministic:
        no_variance = torch.full_like(mean_or_posterior.mean, -torch.inf)
        mean_or_posterior = DiagonalGaussian(mean_or_posterior.mean, no_variance)
    moments = estimators.aggregate_moments(mean_or_posterior)
    if not job.model.deterministic:
        figures |= _posterior_figures(job, args, figures.get("latent_entropy"), moments)
        notes.insert(0, _verdict(figures, job.model))
    log_det = moments.log_determinant_per_dimension()
    if math.isfinite(log_det):
        figures["log_det_covariance"] = scalar("log_det_covariance", log_det, n=num_sentences)
    else:
        notes.append("The aggregate covariance is singular: its log determinant is minus infinity.")
    if num_sentences >= _LEAST_FOR_MMD:
        figures["mmd"] = _mmd(job, args)
    if job.is_main:
        of_means = np.diag(moments.covariance_of_means)
        plots.latent_variance(of_means, moments.mean_variance, plots_dir / "latent_variance.png")
    caption = "Variance of the codes in each dimension: between sentences and within a posterior"
    return Section("Information", figures, notes, plots={"latent_variance.png": caption})


def _entropy(job: Job, args: InformationArgs) -> tuple[dict[str, Figure], list[str]]:
    """Nearest-neighbour entropy of the first draws of z, and what N(0, I) has; without it where the codes are few."""
    points, num_removed = estimators.distinct(job.codes())
    if len(points) <= args.k:
        return {}, [f"No entropy: with k = {args.k} it takes {args.k + 1} distinct codes, and these are {len(points)}."]
    gaussian = np.random.default_rng([job.seed, 3]).standard_normal(job.codes().shape, dtype=np.float32)
    normal = estimators.standard_normal_entropy(job.model.latent_dim)
    figures = {
        "latent_entropy": mean("latent_entropy", _entropy_terms(job, points, args)),
        "latent_entropy_normal": scalar("latent_entropy_normal", normal, n=len(gaussian)),
        "latent_entropy_normal_knn": mean("latent_entropy_normal_knn", _entropy_terms(job, gaussian, args)),
    }
    note = (
        f"The entropy is of {'the codes' if job.model.deterministic else 'one draw of z for each sentence'}, by "
        f"nearest neighbours (k = {args.k}, {args.metric}); {num_removed} exact repetitions were left out. In many "
        f"dimensions it is biased upwards unless the codes are clustered; docs/evaluation.md says by how much."
    )
    return figures, [note]


def _entropy_terms(job: Job, points: np.ndarray, args: InformationArgs) -> np.ndarray:
    """In nats, fp64 [Q]."""
    queries = job.sample(len(points), args.max_queries)
    share = job.share(len(queries))
    terms = np.empty(0)
    if len(share):
        metric = cast(estimators.Metric, args.metric)
        terms = estimators.knn_entropy_terms(points, queries[share], args.k, metric=metric)
    return job.gather(share, terms, total=len(queries))


def mutual_information_terms(job: Job, max_queries: int) -> np.ndarray:
    """log q(z_i|x_i) - log mean_j q(z_i|x_j) over all sentences j, in nats, fp64 [Q]."""
    queries = job.sample(len(job.split), max_queries)
    share, codes, posterior = job.share(len(queries)), job.codes(), job.posterior()
    terms = [
        estimators.posterior_information_terms(codes[rows], rows, posterior, device=job.model.autoencoder.device)[0]
        for rows in track(_blocks(queries[share]), "mutual information", visible=job.is_main)
    ]
    return job.gather(share, np.concatenate([np.empty(0), *terms]), total=len(queries))


@torch.no_grad()
def posterior_terms(job: Job) -> np.ndarray:
    """KL(q(z|x) || p(z)) and entropy of q(z|x) in nats, and the share of dimensions on the clamp; fp64 [N, 3].

    A KL without a closed form is that of the first draw of z.
    """
    posterior, codes, share = job.posterior(), job.codes(), job.share(len(job.split))
    autoencoder = job.model.autoencoder
    parts = [torch.empty(0, 3, dtype=torch.float64)]
    for rows in _blocks(share):
        own = select(posterior, rows, autoencoder.device)
        kl = autoencoder.prior.kl(own, torch.from_numpy(codes[rows]).to(autoencoder.device))
        clamped = (own.log_variance <= autoencoder.args.clamp).double().mean(-1)
        parts.append(torch.stack([kl.double(), own.entropy().double(), clamped], -1).cpu())
    return job.gather(share, torch.cat(parts), total=len(job.split))


def _posterior_figures(
    job: Job, args: InformationArgs, entropy: Figure | None, moments: AggregateMoments
) -> dict[str, Figure]:
    num_sentences = len(job.split)
    kl, posterior_entropy, clamped = posterior_terms(job).T
    figures = {
        "mutual_information": mean("mutual_information", mutual_information_terms(job, args.max_queries)),
        "mutual_information_cap": scalar("mutual_information_cap", math.log(num_sentences), n=num_sentences),
        "posterior_entropy": mean("posterior_entropy", posterior_entropy),
        "kl": mean("kl", kl),
        "active_units": scalar("active_units", moments.num_active_units(), n=num_sentences),
        "active_units_relative": scalar(
            "active_units_relative", moments.num_active_units_scale_free(), n=num_sentences
        ),
        "clamped": mean("clamped", clamped),
    }
    if entropy is None:
        return figures
    of_entropies = entropy.value - figures["posterior_entropy"].value
    errors = [entropy.standard_error, figures["posterior_entropy"].standard_error]
    error = math.hypot(*(error or 0.0 for error in errors))
    figures["mutual_information_knn"] = scalar(
        "mutual_information_knn", of_entropies, n=entropy.n, standard_error=error
    )
    return figures


def _verdict(figures: dict[str, Figure], model: SentenceModel) -> str:
    information, cap = figures["mutual_information"].value, figures["mutual_information_cap"].value
    active = int(figures["active_units_relative"].value)
    collapsed = information < _COLLAPSED_BELOW * cap or active == 0
    figures["collapsed"] = scalar("collapsed", float(collapsed), n=figures["kl"].n)
    return (
        f"**{'Collapsed' if collapsed else 'Not collapsed'}**: a code tells {information:.2f} nats of which "
        f"sentence of this set it is, of {cap:.2f} that can be measured (below a tenth counts as collapsed); the means "
        f"vary more than the posteriors do in {active} of {model.latent_dim} dimensions; KL to "
        f"{model.autoencoder.prior.description} is {figures['kl'].value:.1f} nats a sentence. This is about the "
        f"encoder; posterior overlap and reconstruction say what the decoder makes of a code."
    )


def _mmd(job: Job, args: InformationArgs) -> Figure:
    codes = job.codes()
    chosen = job.sample(len(codes), args.mmd_samples, stream=2)
    value, error = estimators.mmd_squared(codes[chosen], device=job.model.autoencoder.device)
    return scalar("mmd", value, n=len(chosen), standard_error=error)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, math.ceil(len(rows) / _ROWS_AT_ONCE)) if len(rows) else []
