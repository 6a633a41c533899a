"""The information in codes and their distribution: entropy, mutual information, KL, active units.

Shapes: N sentences, Q queries, D latent dimensions.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smim.errors import refuse
from smim.evaluation import estimators, plots
from smim.evaluation.estimators import AggregateMoments
from smim.evaluation.job import Job, select
from smim.evaluation.section import Definition, Metric, Section, mean, measure, scalar
from smim.generation import SentenceModel
from smim.model.distributions import DiagonalGaussian
from smim.schema import bounded, out_of_bounds

_ROWS_AT_ONCE = 2048
_LEAST_FOR_MMD = 3
_OF_A_BATCH = 32  # sentences in a batch of He et al. 2019
_COLLAPSED_BELOW = 0.1  # share of the maximum mutual information, below which a code counts as collapsed


@dataclass(frozen=True)
class InformationArgs:
    """The settings of the group. `k` and `metric` (chebyshev as in the authors' code, or euclidean): of kNN entropies.

    `max_queries`: entropy and mutual information are means over this number of random sentences, each compared with all
    others. `mmd_samples`: the number of codes that the MMD compares with as many draws from N(0, I).
    """

    k: int = bounded(3, least=1)
    metric: str = bounded("chebyshev", among=estimators.NORMS)
    max_queries: int = bounded(10_000, least=2)
    mmd_samples: int = bounded(5_000, least=_LEAST_FOR_MMD)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "eval.information"))


def _cap(kl: np.ndarray) -> float:
    """The maximum of a mutual information estimate from N posteriors, in nats."""
    return math.log(len(kl))


def _difference(one: Metric, other: Metric) -> Metric:
    error = math.hypot(*(each.standard_error or 0.0 for each in (one, other)))
    return scalar(one.value - other.value, n=one.n, standard_error=error)


def _is_collapsed(information: np.ndarray, kl: np.ndarray, moments: AggregateMoments) -> bool:
    return information.mean() < _COLLAPSED_BELOW * _cap(kl) or moments.num_active_units_scale_free() == 0


# The input, for sentences or vectors: `information`, terms of I(x; z) [Q]; `kl`, `clamped` [N]; `moments`; `mmd`;
# `log_det`, if it is finite.
OF_POSTERIORS = [
    Definition("mutual_information", "nats",
               "how well a code identifies its item, E[log q(z|x) - log mean_j q(z|x_j)]; a collapsed code has 0",
               lambda c: c["information"], title="mutual information", better="higher",
               equation="InfoVAE, appendix B.2"),
    Definition("mutual_information_cap", "nats", "log N, the largest possible `mutual_information` of N items",
               lambda c: scalar(_cap(c["kl"]), n=len(c["kl"])), title="its cap, log N"),
    Definition("kl", "nats", "KL(q(z|x) || p(z)): how far the posterior of one item is from the model's own prior",
               lambda c: c["kl"], title="KL"),
    Definition("active_units", "dimensions",
               "number of dimensions in which the posterior mean varies between items: Var(mean) > 0.01",
               lambda c: scalar(c["moments"].num_active_units(), n=len(c["kl"])), better="higher",
               equation="Burda et al. 2016"),
    Definition("active_units_relative", "dimensions",
               "number of dimensions that the code uses: Var(mean) > mean posterior variance",
               lambda c: scalar(c["moments"].num_active_units_scale_free(), n=len(c["kl"])), title="active units",
               better="higher"),
    Definition("clamped", "", "share of posterior variances that equal the smallest variance the model allows",
               lambda c: c["clamped"]),
    Definition("mmd", "", "distance between the distribution of all codes and N(0, I): squared MMD, unbiased",
               lambda c: c["mmd"], title="MMD²", better="lower", equation="InfoVAE, section 4.1.3"),
    Definition("log_det_covariance", "nats/dimension",
               "log determinant of the aggregate posterior's covariance, divided by D: 0 for N(0, I)",
               lambda c: scalar(c["log_det"], n=c["moments"].count), equation="InfoVAE, section 4.2.1"),
]  # fmt: skip
# Also entropy terms of codes and of draws from N(0, I) [Q], the draws `normal` [N, D], and `posterior_entropy` [N].
METRICS = [
    Definition("latent_entropy", "nats",
               "entropy of the distribution of all codes, estimated from nearest neighbours (Kozachenko-Leonenko)",
               lambda c: c["code_entropy"], title="entropy", equation="Kraskov et al. 2004, eq. 20",
               zero_is_least=False),
    Definition("latent_entropy_normal", "nats", "exact entropy of N(0, I) in as many dimensions",
               lambda c: scalar(estimators.standard_normal_entropy(c["normal"].shape[1]), n=len(c["normal"])),
               title="N(0, I)"),
    Definition("latent_entropy_normal_knn", "nats", "the estimate of `latent_entropy` for as many draws from N(0, I)",
               lambda c: c["normal_entropy"]),
    *OF_POSTERIORS,
    Definition("mutual_information_in_batches", "nats",
               f"`mutual_information` among {_OF_A_BATCH} sentences of similar length, so at most "
               f"{math.log(_OF_A_BATCH):.2f}: what He et al. 2019 and later papers print",
               lambda c: c["in_batches"], better="higher", equation="He et al. 2019"),
    Definition("posterior_entropy", "nats", "mean entropy of q(z|x), the posterior of one sentence",
               lambda c: c["posterior_entropy"],
               title="entropy of q(z|x)", zero_is_least=False),
    Definition("mutual_information_knn", "nats",
               "mutual information without a cap: `latent_entropy` minus `posterior_entropy`",
               lambda c: _difference(mean(c["code_entropy"]), mean(c["posterior_entropy"])), title="by kNN entropy",
               better="higher", zero_is_least=False),
    Definition("collapsed", "",
               "1 if `mutual_information` is below a tenth of its cap or `active_units_relative` is 0, else 0",
               lambda c: scalar(_is_collapsed(c["information"], c["kl"], c["moments"]), n=len(c["kl"])),
               better="lower"),
]  # fmt: skip


def evaluate(job: Job, args: InformationArgs, plots_dir: Path) -> Section:
    """Compute the codes' entropy, their mutual information with sentences, and how the posteriors fit the prior."""
    codes, posterior = job.codes(), job.posterior()
    computed, note = _entropies(job, args)
    if job.model.deterministic:
        posterior = DiagonalGaussian(posterior.mean, torch.full_like(posterior.mean, -torch.inf))
    else:
        computed["kl"], computed["posterior_entropy"], computed["clamped"] = posterior_terms(job).T
        computed["information"] = mutual_information_terms(job, args.max_queries)
        computed["in_batches"] = information_in_batches(job)
    moments = computed["moments"] = estimators.aggregate_moments(posterior)
    notes = [note] if job.model.deterministic else [_collapse(computed, job.model), note]
    log_det = moments.log_determinant_per_dimension()
    if math.isfinite(log_det):
        computed["log_det"] = log_det
    else:
        notes.append("The covariance of the aggregate posterior is singular, so its log determinant is minus infinity.")
    if len(codes) >= _LEAST_FOR_MMD:
        chosen = job.sample(len(codes), args.mmd_samples, stream=2)
        computed["mmd"] = mmd(codes[chosen], device=job.model.autoencoder.device)
    if job.is_main:
        of_means = np.diag(moments.covariance_of_means)
        order, dimensions = np.argsort(-of_means), np.arange(len(of_means))
        plots.lines(
            {
                "between sentences, Var(E[z|x])": (dimensions, of_means[order]),
                "within a posterior, E[Var(z|x)]": (dimensions, moments.mean_variance[order]),
                "N(0, I)": (dimensions, np.ones(len(order))),
            },
            plots_dir / "latent_variance.png",
            xlabel="dimension, by variance of the means",
            ylabel="variance",
            yscale="log",
        )
    caption = "Variance of the codes in each dimension: between sentences and within a posterior"
    return Section("Information", measure(METRICS, computed), notes, plots={"latent_variance.png": caption})


def _entropies(job: Job, args: InformationArgs) -> tuple[dict[str, Any], str]:
    """Compute entropy terms of the first draws of z and of draws from N(0, I), in nats, [Q]; none for few codes."""
    points, num_removed = estimators.distinct(job.codes())
    if len(points) <= args.k:
        return {}, f"No entropy: for k = {args.k}, {args.k + 1} distinct codes are needed, but there are {len(points)}."
    normal = np.random.default_rng([job.seed, 3]).standard_normal(job.codes().shape, dtype=np.float32)

    def terms(points: np.ndarray) -> np.ndarray:
        queries = job.sample(len(points), args.max_queries)
        return job.compute(
            len(queries),
            lambda rows: estimators.knn_entropy_terms(points, queries[rows], args.k, metric=args.metric),
            at_once=len(queries),
        )

    note = (
        f"The entropy is that of {'the codes' if job.model.deterministic else 'one draw of z for each sentence'}, by "
        f"nearest neighbours (k = {args.k}, {args.metric}). {num_removed} exact repetitions were left out. In many "
        f"dimensions the estimate is too high, unless the codes are clustered. docs/evaluation.md shows by how much."
    )
    return {"code_entropy": terms(points), "normal_entropy": terms(normal), "normal": normal}, note


def mutual_information_terms(job: Job, max_queries: int) -> np.ndarray:
    """Compute log q(z_i|x_i) - log mean_j q(z_i|x_j) over all sentences j, in nats, fp64 [Q]."""
    queries = job.sample(len(job.split), max_queries)
    codes, posterior, device = job.codes(), job.posterior(), job.model.autoencoder.device

    def terms(places: np.ndarray) -> np.ndarray:
        rows = queries[places]
        return estimators.posterior_information_terms(codes[rows], rows, posterior, device=device)[0]

    return job.compute(len(queries), terms, at_once=_ROWS_AT_ONCE, description="mutual information")


def information_in_batches(job: Job) -> np.ndarray:
    """Compute the mean information in each of G batches of at most 32 similar lengths, in nats, fp64 [G]."""
    codes, posterior = job.codes(), job.posterior()
    order = np.argsort(job.split.lengths, kind="stable")
    batches = np.array_split(order, -(-len(order) // _OF_A_BATCH))

    def means(places: np.ndarray) -> np.ndarray:
        each = (select(posterior, batches[i], "cpu").information(torch.from_numpy(codes[batches[i]])) for i in places)
        return np.array([terms.mean() for terms in each])

    return job.compute(len(batches), means, at_once=_ROWS_AT_ONCE)


@torch.no_grad()
def posterior_terms(job: Job) -> np.ndarray:
    """Compute KL(q(z|x) || p(z)) and the entropy of q(z|x) in nats, and the share of clamped dimensions; fp64 [N, 3].

    Without a closed form, the KL is estimated at the first draw of z.
    """
    posterior, codes, autoencoder = job.posterior(), job.codes(), job.model.autoencoder

    def terms(rows: np.ndarray) -> Tensor:
        own = select(posterior, rows, autoencoder.device)
        kl = autoencoder.prior.kl(own, torch.from_numpy(codes[rows]).to(autoencoder.device))
        clamped = (own.log_variance <= autoencoder.args.clamp).double().mean(-1)
        return torch.stack([kl.double(), own.entropy().double(), clamped], -1)

    return job.compute(len(job.split), terms, at_once=_ROWS_AT_ONCE)


def mmd(codes: np.ndarray, *, device: torch.device | str = "cpu") -> Metric:
    """Compute the squared MMD between codes [N, D] and N(0, I), with its standard error."""
    value, error = estimators.mmd_squared(codes, device=device)
    return scalar(value, n=len(codes), standard_error=error)


def _collapse(computed: dict[str, Any], model: SentenceModel) -> str:
    information, kl, moments = computed["information"], computed["kl"], computed["moments"]
    return (
        f"**{'Collapsed' if _is_collapsed(information, kl, moments) else 'Not collapsed'}**: the mutual information "
        f"between a code and its sentence is {information.mean():.2f} nats; at most {_cap(kl):.2f} can be measured on "
        f"this set. Less than a tenth of this maximum counts as collapsed. The means vary more than the posteriors in "
        f"{moments.num_active_units_scale_free()} of {model.latent_dim} dimensions. The KL to "
        f"{model.autoencoder.prior.description} is {kl.mean():.1f} nats per sentence. This describes the "
        f"encoder. Posterior overlap and reconstruction show what the decoder does with a code."
    )
