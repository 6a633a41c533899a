"""Upper bounds on the negative log likelihood of a set of sentences, in nats.

Each is the sum of the reconstruction error, -log p(x|z) with z ~ q(z|x), and the cost of z under a prior:

- MELBO (eq. 6.17): log N. Its prior is the aggregate posterior of the evaluated set itself. So it measures how well
  codes identify their sentence in that set.
- ELBO: KL(q(z|x) || p(z)), where p(z) is the model's own prior, N(0, I) or a learned one.
- Importance-weighted (Burda et al. 2016, eq. 8) under that prior: -log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x).
- Training prior: log q(z|x) - log p_train(z), where p_train is the mean of training sentences' posteriors.

Shapes: N sentences, R runs, S sentences of a sample, K importance samples.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from smim.errors import refuse
from smim.evaluation import plots
from smim.evaluation.estimators import log_mixture_density
from smim.evaluation.job import Job, blocks, log_prob_64, select, split_of_rows
from smim.evaluation.section import Definition, Metric, Section, Table, exponential, mean, measure, ratio
from smim.schema import bounded, out_of_bounds
from smim.text.batch import Batch
from smim.text.corpus import Split

_IMPORTANCE_GRID = (1, 5, 10, 50, 100, 500, 1000, 5000)
_MAX_LOG_PERPLEXITY = 600.0  # a perplexity above e^600 is left out: it is meaningless, and close to the limit of fp64
_FIRST_IMPORTANCE_DRAW = 100_000  # from here on, numbers of draws that MELBO's runs do not use
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class LikelihoodArgs:
    """The settings of the likelihood bounds. `num_samples`: N_z of eq. 6.17, latent draws per sentence and run.

    `importance_samples`: K draws for each of `importance_sentences` random sentences. `train_sentences`: the maximum
    number of training posteriors in p_train. 0 leaves out the importance-weighted or the training bound.
    """

    num_samples: int = bounded(1, least=1)
    importance_samples: int = bounded(500, least=0)
    importance_sentences: int = bounded(100, least=1)
    train_sentences: int = bounded(100_000, least=0)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "eval.likelihood"))


@dataclass(frozen=True)
class Bound:
    """A bound for each sentence in nats, fp64 [N] or [N, R]: of the words, and with `<eos>`.

    The sizes of the sentences are int64 [N]: `tokens` without `<eos>`, and `bytes` of UTF-8 without the line end.
    """

    words: np.ndarray
    with_eos: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray

    def __add__(self, cost: np.ndarray | float) -> "Bound":
        return replace(self, words=self.words + cost, with_eos=self.with_eos + cost)


def _perplexity(per_token: Metric) -> Metric:
    if per_token.value >= _MAX_LOG_PERPLEXITY:
        raise KeyError("no perplexity")
    return exponential(per_token)


def _of_bound(suffix: str, bound: str, equation: str, title: str) -> list[Definition]:
    """Define the metrics of a `Bound`, with names that end in `suffix`."""
    nll = f"`nll{suffix}`"
    return [
        Definition(f"nll{suffix}", "nats/sentence", f"{bound}, without `<eos>`",
                   lambda b: b.words, title=title, better="lower", equation=equation),
        Definition(f"ppl{suffix}", "", f"perplexity from {nll} per token, without `<eos>`",
                   lambda b: _perplexity(ratio(b.words, b.tokens)), better="lower", equation="section 6.3",
                   exponent_of=f"nats_per_token{suffix}"),
        Definition(f"ppl_thesis{suffix}", "",
                   f"perplexity from {nll} per token, with one `<eos>` per sentence, as in the thesis's tables",
                   lambda b: _perplexity(ratio(b.words, b.tokens + 1)), title="" if suffix else "PPL", better="lower",
                   exponent_of=f"nll{suffix}"),
        Definition(f"nll_with_eos{suffix}", "nats/sentence", f"{nll} with `<eos>`, so the length is not given",
                   lambda b: b.with_eos, better="lower", equation="eq. 6.2"),
        Definition(f"ppl_with_eos{suffix}", "",
                   f"perplexity from `nll_with_eos{suffix}` per token, with `<eos>`, as of language models",
                   lambda b: _perplexity(ratio(b.with_eos, b.tokens + 1)), better="lower",
                   exponent_of=f"nll_with_eos{suffix}"),
        Definition(f"nats_per_token{suffix}", "nats/token", f"{nll} per token, without `<eos>`",
                   lambda b: ratio(b.words, b.tokens), better="lower"),
        Definition(f"bits_per_byte{suffix}", "bits/byte",
                   f"`nll_with_eos{suffix}` in bits per byte of UTF-8; a sentence's line end counts as one byte",
                   lambda b: ratio(b.with_eos / math.log(2), b.bytes + 1), better="lower"),
    ]  # fmt: skip


# The metrics of each bound, by the suffix of their names.
BOUNDS = {
    suffix: _of_bound(suffix, *texts)
    for suffix, *texts in (
        ("", "MELBO, an upper bound on -log p(x): `reconstruction` + log N", "eq. 6.17", "NLL"),
        ("_elbo", "ELBO, an upper bound on -log p(x): `reconstruction` + KL to the model's own prior", "",
         "NLL under the prior (ELBO)"),
        ("_iw", "importance-weighted upper bound on -log p(x) under the model's own prior, at the largest K, for a "
         "sample of sentences", "Burda et al. 2016, eq. 8", "NLL under the prior (IW)"),
        ("_train_prior", "upper bound on -log p(x) under the aggregate posterior of training sentences", "",
         "NLL under training posteriors"),
    )
}  # fmt: skip
RECONSTRUCTION = Definition(
    "reconstruction", "nats", "-log p(x|z), z ~ q(z|x): uncertainty of the sentence or vector, given its code",
    lambda values: values, title="-log p(x|z)", better="lower",
)  # fmt: skip
METRICS = [RECONSTRUCTION, *(each for definitions in BOUNDS.values() for each in definitions)]


def evaluate(job: Job, args: LikelihoodArgs, plots_dir: Path) -> Section:
    """Compute bounds on the NLL of the job's sentences, perplexities, and how MELBO depends on the set's size."""
    reconstruction, kl = sentence_reconstruction(job, num_samples=args.num_samples)
    metrics = measure([RECONSTRUCTION], reconstruction.words)
    bounds = {"": ("MELBO", reconstruction + math.log(len(job.split)))}
    notes, tables = [_counted(reconstruction)], []
    if job.model.without_code:
        notes.append("A language model has no code. In place of the bounds under a prior is its exact -log p(x).")
        bounds = dict.fromkeys(("_elbo", "_iw"), ("exact", reconstruction))
    elif job.model.deterministic:
        notes.append("An autoencoder has no q(z|x). MELBO, its reconstruction error plus log N, is its only bound.")
    else:
        prior = job.model.autoencoder.prior.description
        bounds["_elbo"] = (f"ELBO, {prior}", reconstruction + kl[:, None])
        if args.importance_samples:
            rows = job.sample(len(job.split), args.importance_sentences)
            log_weights = importance_log_weights(job, rows, num_samples=args.importance_samples)
            words, with_eos = importance_bound(log_weights, args.importance_samples).T
            name = f"importance-weighted, {prior}, K = {args.importance_samples}, {len(rows)} sentences"
            bounds["_iw"] = (name, Bound(words, with_eos, reconstruction.tokens[rows], reconstruction.bytes[rows]))
            tables.append(_importance_table(log_weights))
        if args.train_sentences and job.split.name == "train":
            notes.append("There is no bound under training posteriors, because the training sentences are evaluated.")
        elif args.train_sentences and job.train_split is not None:
            cost, size = train_prior_cost(job, train_sentences=args.train_sentences)
            name = f"aggregate posterior of {size:,} training sentences"
            words, with_eos = reconstruction.words[:, 0] + cost, reconstruction.with_eos[:, 0] + cost
            bounds["_train_prior"] = (name, replace(reconstruction, words=words, with_eos=with_eos))
    for suffix, (_, bound) in bounds.items():
        metrics |= measure(BOUNDS[suffix], bound)
    if job.is_main:
        per_sentence = {name: bound.words.reshape(len(bound.words), -1).mean(1) for name, bound in bounds.values()}
        plots.histograms(
            {name: {"": values} for name, values in per_sentence.items()},
            plots_dir / "nll_histograms.png",
            xlabel="nats per sentence",
        )
    captions = {
        "melbo_by_set_size.png": "MELBO of K sentences: mean and standard deviation over all subsets of K sentences, "
        "extrapolated with the same reconstruction error (as Figure D.2)",
        "nll_histograms.png": "Bounds of single sentences (as Figures D.3 to D.5). Dashed lines are means",
    }
    if job.model.without_code:
        del captions["melbo_by_set_size.png"]
    elif job.is_main:
        plots.melbo_by_set_size({"": reconstruction.words.mean(1)}, plots_dir / "melbo_by_set_size.png")
    names = {suffix: name for suffix, (name, _) in bounds.items()}
    return Section("Likelihood", metrics, notes, [_bounds_table(names, metrics), *tables], captions)


@torch.no_grad()
def sentence_reconstruction(job: Job, *, num_samples: int) -> tuple[Bound, np.ndarray]:
    """Compute -log p(x|z), its mean over `num_samples` draws in each run [N, R], and KL(q(z|x) || p(z)) [N], in nats.

    Without a closed form, the KL is the mean of estimates from all these draws.
    """
    autoencoder, rows, values = job.model.autoencoder, [], []
    for batch, posterior in job.batches("likelihood"):
        terms = []
        for number in range(job.num_runs * num_samples):
            z = job.draw(posterior, batch.rows, number=number)
            with job.decoding():
                log_prob = autoencoder.log_prob(batch, z)
            kl = autoencoder.prior.kl(posterior, z)
            terms.append(torch.stack([-log_prob.words, -log_prob.with_eos, kl], -1).double())
        rows.append(batch.rows)
        values.append(torch.stack(terms, 1).unflatten(1, (job.num_runs, num_samples)).mean(2))
    words, with_eos, kl = np.moveaxis(job.gather(rows, values, total=len(job.split)), 2, 0)
    return Bound(words, with_eos, *sizes_of(job.split)), kl.mean(1)


@torch.no_grad()
def importance_log_weights(job: Job, rows: np.ndarray, *, num_samples: int) -> np.ndarray:
    """Compute log p(x|z_k) p(z_k) / q(z_k|x) of some sentences, fp64 [S, K, 2]: of the words, and with `<eos>`.

    The draws differ from those of `sentence_reconstruction`. The job's `tokens_per_batch` limits the memory.
    """
    device, posteriors = job.model.autoencoder.device, job.posterior()
    draws = np.arange(_FIRST_IMPORTANCE_DRAW, _FIRST_IMPORTANCE_DRAW + num_samples)

    def of_sentence(place: np.ndarray) -> Tensor:
        row = rows[place]
        posterior, batch = select(posteriors, row, device), job.split.batch(row).to(device)
        weights = []
        for numbers in blocks(draws, max(1, job.tokens_per_batch // (int(batch.lengths[0]) + 1))):
            z = torch.cat([job.draw(posterior, row, number=int(number)) for number in numbers])
            repeated = Batch(batch.rows.expand(len(z)), batch.tokens.expand(len(z), -1), batch.lengths.expand(len(z)))
            with job.decoding():
                log_prob = job.model.autoencoder.log_prob(repeated, z)
            log_ratio = job.model.autoencoder.prior.log_prob(z) - posterior.log_prob(z)
            weights.append(torch.stack([log_prob.words, log_prob.with_eos], -1).double() + log_ratio.double()[:, None])
        return torch.cat(weights)[None]

    return job.compute(len(rows), of_sentence, at_once=1, description="importance weights")


def importance_bound(log_weights: np.ndarray, num_samples: int) -> np.ndarray:
    """Compute -log of the mean weight of `num_samples` draws, averaged over disjoint groups: [S, K, ...] to [S, ...].

    The bound does not increase with `num_samples`, if each number divides the next one.
    """
    groups = log_weights.shape[1] // num_samples
    grouped = log_weights[:, : groups * num_samples].reshape(len(log_weights), groups, num_samples, -1)
    bound = -(np.logaddexp.reduce(grouped, axis=2) - math.log(num_samples)).mean(1)
    return bound.reshape(len(log_weights), *log_weights.shape[2:])


@torch.no_grad()
def train_prior_cost(job: Job, *, train_sentences: int) -> tuple[np.ndarray, int]:
    """Compute log q(z|x) - log p_train(z) of each sentence at the first run's first draw, fp64 [N], and p_train's size.

    p_train is the mean of the posteriors of up to `train_sentences` training sentences, without an approximation.
    """
    train = job.train_split
    assert train is not None
    chosen = job.sample(len(train), train_sentences)
    mixture = job.posterior(split_of_rows(train, chosen, name="train_prior"))
    posteriors = job.posterior()

    def cost(rows: np.ndarray) -> np.ndarray:
        posterior = select(posteriors, rows, job.model.autoencoder.device)
        z = job.draw(posterior, rows, number=0)
        return log_prob_64(posterior, z).cpu().numpy() - log_mixture_density(z.cpu().numpy(), mixture)

    return job.compute(len(job.split), cost, at_once=_ROWS_AT_ONCE, description="training prior"), len(chosen)


def sizes_of(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Count each sentence's tokens (of the split's tokenizer) and bytes of text, int64 [N] each."""
    text_bytes = pc.binary_length(split.table.column("text")).to_numpy()
    return split.lengths.astype(np.int64), text_bytes.astype(np.int64)


def _counted(counted: Bound) -> str:
    return (
        f"There are {len(counted.tokens):,} sentences with {counted.tokens.sum():,} tokens (without `<eos>`) and "
        f"{counted.bytes.sum():,} bytes of UTF-8. `ppl` divides by the tokens, `ppl_thesis` by the tokens and one "
        f"`<eos>` per sentence. Bits per byte include `<eos>`, which counts as a line end of one byte. "
        f"An `<unk>` costs as much as one word, for any spelling in the text."
    )


def _bounds_table(names: dict[str, str], metrics: dict[str, Metric]) -> Table:
    columns = {"nll": "nats/sentence", "nll_with_eos": "with `<eos>`", "nats_per_token": "nats/token", "ppl": "ppl",
               "bits_per_byte": "bits/byte"}  # fmt: skip
    rows = []
    for suffix, name in names.items():
        cells = [metrics.get(column + suffix) for column in columns]
        shown = ["> e^600" if cell is None else f"{cell.value:.5g}" for cell in cells]
        rows.append([name, *shown])
    return Table("Upper bounds on the negative log likelihood", ["prior or bound", *columns.values()], rows)


def _importance_table(log_weights: np.ndarray) -> Table:
    total = log_weights.shape[1]
    rows = []
    for num_samples in [k for k in _IMPORTANCE_GRID if k < total] + [total]:
        words, with_eos = map(mean, importance_bound(log_weights, num_samples).T)
        numbers = (words.value, words.standard_error or 0, with_eos.value)
        rows.append([str(num_samples), *(f"{number:.3f}" for number in numbers)])
    header = ["K", "nats/sentence", "standard error over sentences", "with `<eos>`"]
    return Table(f"Importance-weighted bound by K, for {len(log_weights)} sentences", header, rows)
