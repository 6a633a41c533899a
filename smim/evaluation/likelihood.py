"""Bounds on the negative log likelihood of a set of sentences, in nats.

All are reconstruction, -log p(x|z) with z ~ q(z|x), and what their prior asks for z:

- MELBO (eq. 6.17): log N. Its prior is the aggregate posterior of the evaluated set itself, so that it
  measures how well a code tells the sentences of that set apart.
- ELBO: KL(q(z|x) || p(z)), of the model's own prior, N(0, I) or a learned one.
- Importance-weighted (Burda et al. 2016, eq. 8) under that prior: -log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x).
- Training prior: log q(z|x) - log p_train(z), with p_train the mean of training sentences' posteriors.

Shapes: N sentences, R runs, S sentences of a sample, K importance samples.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch

from smim.errors import UserError, too_low
from smim.evaluation import plots
from smim.evaluation.estimators import log_mixture_density
from smim.evaluation.job import Job, log_prob_64, select, split_of_rows
from smim.evaluation.section import Figure, Section, Table, exponential, mean, ratio
from smim.progress import track
from smim.text.batch import Batch
from smim.text.corpus import Split

_IMPORTANCE_GRID = (1, 5, 10, 50, 100, 500, 1000, 5000)
_MAX_LOG_PERPLEXITY = 600.0  # a perplexity above e^600 is left out: it says nothing, and nears the end of fp64
_FIRST_IMPORTANCE_DRAW = 100_000  # draws that MELBO's runs do not take


@dataclass
class LikelihoodArgs:
    """`num_samples`: N_z of eq. 6.17, latent draws a sentence and run.

    `importance_samples` (K) draws for each of `importance_sentences` sentences chosen at random, 0: no such
    bound. `train_sentences`: at most so many training posteriors make p_train, 0: no such bound.
    """

    num_samples: int = 1
    importance_samples: int = 500
    importance_sentences: int = 100
    train_sentences: int = 100_000

    def __post_init__(self) -> None:
        problems = too_low(
            self, "eval.likelihood", num_samples=1, importance_samples=0, importance_sentences=1, train_sentences=0
        )
        if problems:
            raise UserError("; ".join(problems))


@dataclass(frozen=True)
class Sizes:
    """How much text each sentence is: `tokens` without `<eos>`, `bytes` of UTF-8 without the line end; int64 [N]."""

    tokens: np.ndarray
    bytes: np.ndarray

    def of(self, rows: np.ndarray) -> "Sizes":
        return Sizes(self.tokens[rows], self.bytes[rows])


@dataclass(frozen=True)
class Bound:
    """A bound for each sentence in nats, fp64 [N] or [N, R]: of the words, and with `<eos>`."""

    words: np.ndarray
    with_eos: np.ndarray

    def of_first_run(self) -> "Bound":
        return Bound(self.words[:, 0], self.with_eos[:, 0])

    def __add__(self, cost: np.ndarray | float) -> "Bound":
        return Bound(self.words + cost, self.with_eos + cost)


def evaluate(job: Job, args: LikelihoodArgs, plots_dir: Path) -> Section:
    """Bounds on the NLL of the job's sentences, their perplexities, and how MELBO depends on the set's size."""
    sizes = sizes_of(job.split)
    reconstruction, kl = sentence_reconstruction(job, num_samples=args.num_samples)
    bounds = {"": ("MELBO", reconstruction + math.log(len(job.split)), sizes)}
    section = Section("Likelihood", notes=[_counted(sizes)])
    section.figures["reconstruction"] = mean("reconstruction", reconstruction.words)
    if job.model.deterministic:
        section.notes.append(
            "An autoencoder has no q(z|x): its MELBO is reconstruction and log N, and it has no other."
        )
    else:
        prior = job.model.autoencoder.prior.description
        bounds["_elbo"] = (f"ELBO, {prior}", reconstruction + kl[:, None], sizes)
        if args.importance_samples:
            rows = job.sample(len(job.split), args.importance_sentences)
            log_weights = importance_log_weights(job, rows, num_samples=args.importance_samples)
            name = f"importance-weighted, {prior}, K = {args.importance_samples}"
            bounds["_iw"] = (name, Bound(*importance_bound(log_weights, args.importance_samples).T), sizes.of(rows))
            section.tables.append(_importance_table(log_weights))
        if args.train_sentences and job.split.name == "train":
            section.notes.append("No bound under the training sentences' posteriors: they are what is evaluated.")
        elif args.train_sentences and job.train_split is not None:
            cost, size = train_prior_cost(job, train_sentences=args.train_sentences)
            name = f"aggregate posterior of {size:,} training sentences"
            bounds["_train_prior"] = (name, reconstruction.of_first_run() + cost, sizes)
    for suffix, (_, bound, counted) in bounds.items():
        section.figures.update(describe(bound, counted, suffix=suffix))
    section.tables.insert(0, _bounds_table({name: suffix for suffix, (name, _, _) in bounds.items()}, section.figures))
    if job.is_main:
        per_sentence = {name: bound.words.reshape(len(bound.words), -1).mean(1) for name, bound, _ in bounds.values()}
        plots.histograms(per_sentence, plots_dir / "nll_histograms.png", xlabel="nats a sentence")
        plots.melbo_by_set_size(reconstruction.words.mean(1), plots_dir / "melbo_by_set_size.png")
    section.plots["melbo_by_set_size.png"] = (
        "MELBO of K of the sentences, mean and standard deviation over the ways to choose them, and extrapolated at "
        "constant reconstruction (as Figure D.2)"
    )
    section.plots["nll_histograms.png"] = "Bounds of the single sentences (as Figures D.3 to D.5); dashed: the mean"
    return section


@torch.no_grad()
def sentence_reconstruction(job: Job, *, num_samples: int) -> tuple[Bound, np.ndarray]:
    """-log p(x|z), its mean over `num_samples` draws in each run [N, R], and KL(q(z|x) || p(z)) [N].

    A KL without a closed form is the mean over all of these draws.
    """
    prior, rows, values = job.model.autoencoder.prior, [], []
    for batch, posterior in job.batches("likelihood"):
        runs, kl = [], torch.zeros(len(batch), device=batch.rows.device, dtype=torch.float64)
        for run in range(job.num_runs):
            total = torch.zeros(2, len(batch), device=kl.device, dtype=torch.float64)
            for sample in range(num_samples):
                z = job.draw(posterior, batch.rows, number=run * num_samples + sample)
                log_prob = job.model.autoencoder.log_prob(batch, z)
                total -= torch.stack([log_prob.words, log_prob.with_eos]).double()
                kl += prior.kl(posterior, z).double()
            runs.append(total / num_samples)
        rows.append(batch.rows)
        values.append(torch.cat([*runs, kl[None] / (job.num_runs * num_samples)]).T)
    gathered = job.gather_parts(rows, values, width=2 * job.num_runs + 1)
    return Bound(words=gathered[:, 0:-1:2], with_eos=gathered[:, 1:-1:2]), gathered[:, -1]


@torch.no_grad()
def importance_log_weights(job: Job, rows: np.ndarray, *, num_samples: int) -> np.ndarray:
    """log p(x|z_k) p(z_k) / q(z_k|x) of some sentences, fp64 [S, K, 2]: of the words, and with `<eos>`.

    The draws are others than those of `sentence_reconstruction`; at most the job's tokens are decoded at once.
    """
    device, posteriors = job.model.autoencoder.device, job.posterior()
    share, values = job.share(len(rows)), []
    for row in track(rows[share], "importance weights", visible=job.is_main):
        posterior = select(posteriors, np.array([row]), device)
        batch = job.split.batch([row]).to(device)
        at_once = max(1, job.tokens_per_batch // (int(batch.lengths[0]) + 1))
        weights = []
        for start in range(0, num_samples, at_once):
            numbers = range(_FIRST_IMPORTANCE_DRAW + start, _FIRST_IMPORTANCE_DRAW + min(start + at_once, num_samples))
            z = torch.cat([job.draw(posterior, [row], number=number) for number in numbers])
            log_prob = job.model.autoencoder.log_prob(_repeated(batch, len(z)), z)
            log_ratio = job.model.autoencoder.prior.log_prob(z) - posterior.log_prob(z)
            weights.append(torch.stack([log_prob.words, log_prob.with_eos], -1).double() + log_ratio.double()[:, None])
        values.append(torch.cat(weights).cpu())
    stacked = torch.stack(values) if values else torch.empty(0, num_samples, 2)
    return job.gather(share, stacked, total=len(rows))


def importance_bound(log_weights: np.ndarray, num_samples: int) -> np.ndarray:
    """-log of the mean weight of `num_samples` draws, its mean over disjoint groups of them: [S, K, ...] to [S, ...].

    Where `num_samples` divides the next larger one, the bound of that is never above this one.
    """
    groups = log_weights.shape[1] // num_samples
    grouped = log_weights[:, : groups * num_samples].reshape(len(log_weights), groups, num_samples, -1)
    bound = -(np.logaddexp.reduce(grouped, axis=2) - math.log(num_samples)).mean(1)
    return bound.reshape(len(log_weights), *log_weights.shape[2:])


@torch.no_grad()
def train_prior_cost(job: Job, *, train_sentences: int) -> tuple[np.ndarray, int]:
    """log q(z|x) - log p_train(z) of each sentence at the first run's first draw, fp64 [N], and p_train's size.

    p_train is the mean of the posteriors of up to `train_sentences` training sentences, all of them in the sum.
    """
    train = job.train_split
    assert train is not None
    chosen = job.sample(len(train), train_sentences)
    mixture = job.posterior(split_of_rows(train, chosen, name="train_prior"))
    posteriors, share = job.posterior(), job.share(len(job.split))
    costs = []
    for rows in track(np.array_split(share, max(1, len(share) // 2048)), "training prior", visible=job.is_main):
        posterior = select(posteriors, rows, job.model.autoencoder.device)
        z = job.draw(posterior, rows, number=0)
        own = log_prob_64(posterior, z).cpu().numpy()
        costs.append(own - log_mixture_density(z.cpu().numpy(), mixture))
    return job.gather(share, np.concatenate(costs), total=len(job.split)), len(chosen)


def sizes_of(split: Split) -> Sizes:
    """Tokens in ids of the split's tokenizer, and bytes of its text."""
    text_bytes = pc.binary_length(split.table.column("text")).to_numpy()
    return Sizes(tokens=split.lengths.astype(np.int64), bytes=text_bytes.astype(np.int64))


def describe(bound: Bound, sizes: Sizes, *, suffix: str) -> dict[str, Figure]:
    """A bound's figures: nats a sentence and a token, perplexities, bits a byte (the line end counted as a byte)."""
    per_token = ratio(f"nats_per_token{suffix}", bound.words, sizes.tokens)
    perplexities = {"ppl": per_token, "ppl_thesis": ratio(f"ppl_thesis{suffix}", bound.words, sizes.tokens + 1)}
    return {
        f"nll{suffix}": mean(f"nll{suffix}", bound.words),
        **{
            f"{name}{suffix}": exponential(f"{name}{suffix}", figure)
            for name, figure in perplexities.items()
            if figure.value < _MAX_LOG_PERPLEXITY
        },
        f"nll_with_eos{suffix}": mean(f"nll_with_eos{suffix}", bound.with_eos),
        f"nats_per_token{suffix}": per_token,
        f"bits_per_byte{suffix}": ratio(f"bits_per_byte{suffix}", bound.with_eos / math.log(2), sizes.bytes + 1),
    }


def _counted(sizes: Sizes) -> str:
    return (
        f"Counted: {len(sizes.tokens):,} sentences, {sizes.tokens.sum():,} tokens (`<eos>` left out), "
        f"{sizes.bytes.sum():,} bytes of UTF-8. `ppl` divides by the tokens, `ppl_thesis` by the tokens and one "
        f"`<eos>` a sentence; bits per byte are of the text with `<eos>`, which stands for a line end of one byte. "
        f"An `<unk>` is charged as one word, however the text spells it."
    )


def _bounds_table(suffixes: dict[str, str], figures: dict[str, Figure]) -> Table:
    columns = {"nll": "nats/sentence", "nll_with_eos": "with `<eos>`", "nats_per_token": "nats/token", "ppl": "ppl",
               "ppl_thesis": "ppl_thesis", "bits_per_byte": "bits/byte"}  # fmt: skip
    rows = []
    for name, suffix in suffixes.items():
        cells = [figures.get(column + suffix) for column in columns]
        shown = ["> e^600" if cell is None else f"{cell.value:.5g}" for cell in cells]
        rows.append([name, *shown, f"{figures[f'nll{suffix}'].n:,}"])
    return Table("Upper bounds on the negative log likelihood", ["prior or bound", *columns.values(), "N"], rows)


def _importance_table(log_weights: np.ndarray) -> Table:
    total = log_weights.shape[1]
    rows = []
    for num_samples in [k for k in _IMPORTANCE_GRID if k < total] + [total]:
        words, with_eos = (mean("nll_iw", bound) for bound in importance_bound(log_weights, num_samples).T)
        rows.append(
            [str(num_samples), f"{words.value:.3f}", f"{words.standard_error or 0:.3f}", f"{with_eos.value:.3f}"]
        )
    header = ["K", "nats/sentence", "standard error over sentences", "with `<eos>`"]
    return Table(f"Importance-weighted bound by K, of {len(log_weights)} sentences", header, rows)


def _repeated(batch: Batch, times: int) -> Batch:
    return Batch(batch.rows.expand(times), batch.tokens.expand(times, -1), batch.lengths.expand(times))
