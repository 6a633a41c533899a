"""Reconstruction of sentences from their codes: BLEU-1, corpus BLEU-4, exact matches, and words in the same position.

In each run, a sentence is decoded twice from a draw z ~ q(z|x) (an autoencoder's mean): by sampling at temperature 1,
as in the thesis, and greedily. It is also decoded once greedily from the mean. So are some training sentences.

Shapes: N sentences, R runs, M training sentences.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smim.evaluation import plots
from smim.evaluation.history import is_trained_on
from smim.evaluation.job import Job, select, split_of_rows
from smim.evaluation.section import Definition, Section, Table, measure, scalar
from smim.model import noise
from smim.model.decoding import decode_ids
from smim.model.distributions import DiagonalGaussian
from smim.progress import progress_bar
from smim.text.corpus import Split

_DECODED_TOGETHER = 2048  # sentences
_ORDERS = 4  # n-grams of corpus BLEU-4
_LENGTHS = [1, 11, 21, 31, 51, 101]  # first length of each row of the table by length
_SHORT = 20  # most tokens of a short sentence
_LEAST = 10  # fewest short (or long) sentences for a mean
_TRAIN_SENTENCES = 300
_SAMPLES = 5
_SHOWN = 400  # characters of a sentence
# Streams of the job's random numbers, other than those of the examples.
_TRAINING, _SHOWN_STREAM = 20, 21

# Decodes codes, with uniform numbers that draw the words if there are any.
Decode = Callable[..., list[list[str]]]


@dataclass(frozen=True)
class Scores:
    """Scores of each sentence in [0, 1]: BLEU-1 `sampled`, `greedy` fp64 [N, R], `from_mean` [N]; `lengths` int [N].

    For the greedy reconstruction in the first run: `exact` [N]; `accuracy` [N], the share of words at the same
    position; and `bleu4_counts` [N, 10], the summands of corpus BLEU-4. For the reconstruction from the mean:
    `exact_from_mean` [N]. `train_from_mean` [M]: `from_mean` of training sentences, None if these are unknown.
    """

    lengths: np.ndarray

    sampled: np.ndarray
    greedy: np.ndarray
    from_mean: np.ndarray
    exact: np.ndarray
    accuracy: np.ndarray
    bleu4_counts: np.ndarray
    exact_from_mean: np.ndarray
    train_from_mean: np.ndarray | None = None

    def of_length(self, *, short: bool) -> np.ndarray:
        """Return `from_mean` of the short or of the long sentences. Raises KeyError if there are few."""
        chosen = (self.lengths <= _SHORT) == short
        if chosen.sum() < _LEAST:
            raise KeyError("too few sentences")
        return self.from_mean[chosen]

    def of_training(self) -> np.ndarray:
        """Return `train_from_mean`. Raises KeyError if there is none."""
        if self.train_from_mean is None:
            raise KeyError("no training sentences")
        return self.train_from_mean


# The input: `Scores`.
METRICS = [
    Definition("bleu1_sampled", "",
               "sentence BLEU-1 of the reconstruction from a draw of z, with each word drawn at temperature 1",
               lambda scores: scores.sampled, title="BLEU-1 sampled", better="higher"),
    Definition("bleu1_greedy", "", "sentence BLEU-1 of the greedy reconstruction from a draw of z",
               lambda scores: scores.greedy, title="BLEU-1 greedy", better="higher"),
    Definition("bleu1_mean", "", "sentence BLEU-1 of the greedy reconstruction from the mean of q(z|x)",
               lambda scores: scores.from_mean, better="higher"),
    Definition("bleu1_mean_short", "", f"`bleu1_mean` of sentences with at most {_SHORT} tokens",
               lambda scores: scores.of_length(short=True), better="higher"),
    Definition("bleu1_mean_long", "", "`bleu1_mean` of the longer sentences, which `bleu1_mean_short` leaves out",
               lambda scores: scores.of_length(short=False), better="higher"),
    Definition("bleu1_mean_train", "", f"`bleu1_mean` of up to {_TRAIN_SENTENCES} sentences of the training set",
               lambda scores: scores.of_training(), better="higher"),
    Definition("bleu4_corpus_greedy", "", "corpus BLEU-4 (sacrebleu) of the greedy reconstruction from a draw of z",
               lambda scores: scalar(corpus_bleu4(scores.bleu4_counts), n=len(scores.exact)), better="higher"),
    Definition("exact_match_greedy", "",
               "share of sentences that equal their greedy reconstruction from a draw of z, word for word",
               lambda scores: scores.exact, better="higher"),
    Definition("exact_match_mean", "",
               "share of sentences that equal their greedy reconstruction from the mean of q(z|x), word for word",
               lambda scores: scores.exact_from_mean, title="word for word", better="higher"),
    Definition("word_accuracy_greedy", "",
               "share of a sentence's words that the greedy reconstruction from a draw of z has at the same position",
               lambda scores: scores.accuracy, better="higher"),
]  # fmt: skip


def evaluate(job: Job, plots_dir: Path) -> Section:
    """Reconstruct each sentence and compare the result with the sentence."""
    scores, lengths = reconstruct(job), job.split.lengths
    if job.is_main:
        # In bins with about the same number of sentences.
        bins = np.array_split(np.argsort(lengths, kind="stable"), min(20, len(lengths)))
        length, accuracy, bleu = (
            np.array([values[rows].mean() for rows in bins])
            for values in (lengths, scores.accuracy, scores.greedy[:, 0])
        )
        plots.lines(
            {"words at the same position": (length, accuracy), "BLEU-1": (length, bleu)},
            plots_dir / "accuracy_by_length.png",
            xlabel="tokens of the sentence",
            ylabel="greedy reconstruction",
            ylim=(0, 1),
        )
    return Section(
        "Reconstruction",
        metrics=measure(METRICS, scores),
        notes=[
            f"At most {job.max_length} tokens are decoded; the longest sentence has {lengths.max()}. BLEU-1 "
            f"is NLTK's sentence BLEU of single words with brevity penalty, without `<sos>` and `<eos>`. Greedy "
            f"decoding takes the most probable word at each step."
        ],
        tables=[_by_length(lengths, scores)],
        plots={"accuracy_by_length.png": "Greedy reconstruction by sentence length"},
        samples=_samples(job) if job.is_main else None,
    )


@torch.no_grad()
def reconstruct(job: Job) -> Scores:
    """Decode each sentence, and some training sentences from their means, to at most `job.max_length` tokens."""
    runs = job.num_runs
    decodings = 2 * runs + (not job.model.deterministic)
    gathered = _by_row(job, job.split, partial(_score, job), "reconstruction", decodings=decodings)
    sampled, greedy, others, counts = np.split(gathered, [runs, 2 * runs, 2 * runs + 4], axis=1)
    from_mean, exact_from_mean, exact, accuracy = others.T
    return Scores(
        job.split.lengths, sampled, greedy, from_mean, exact, accuracy, counts, exact_from_mean, _of_training(job)
    )


def _by_row(
    job: Job,
    split: Split,
    score: Callable[[np.ndarray, DiagonalGaussian, Decode], Tensor],
    description: str,
    *,
    decodings: int,
) -> np.ndarray:
    """Apply `score` to the rows of a split and their posteriors; fp64 [N, ...] by row.

    `score` decodes each sentence several times by the function that it gets. A progress bar counts this.
    """
    posteriors, device = job.posterior(split), job.model.autoencoder.device
    longest_first = np.argsort(-split.lengths, kind="stable")
    with progress_bar(visible=job.is_main) as bar:
        task = bar.add_task(description, total=len(job.share(len(split))) * decodings)

        def decode(z: Tensor, uniform: Tensor | None = None) -> list[list[str]]:
            decoded = _decode(job, z, uniform)
            bar.advance(task, len(decoded))
            return decoded

        def of_places(places: np.ndarray) -> Tensor:
            rows = longest_first[places]
            return score(rows, select(posteriors, rows, device), decode)

        scores = job.compute(len(split), of_places, at_once=_DECODED_TOGETHER)
    return scores[np.argsort(longest_first)]


def _of_training(job: Job) -> np.ndarray | None:
    """Compute BLEU-1 of random training sentences from their means, fp64 [M]; None if trained on another corpus.

    None of them is longer than the limit of decoding.
    """
    own = is_trained_on(job.model.config["training"], job.corpus)
    train = job.train_split if own and job.corpus.tokenizer.hash == job.model.tokenizer.hash else None
    if train is None:
        return None
    fit = np.flatnonzero(train.lengths <= job.max_length)
    rows = fit[job.sample(len(fit), _TRAIN_SENTENCES, stream=_TRAINING)]
    if not len(rows):
        return None
    chosen = split_of_rows(train, rows, name="train_reconstruction")

    def score(rows: np.ndarray, posterior: DiagonalGaussian, decode: Decode) -> Tensor:
        return torch.tensor(_bleu1(_words(job, chosen, rows), decode(posterior.mean)), dtype=torch.float64)

    return _by_row(job, chosen, score, "training sentences", decodings=1)


def _words(job: Job, split: Split, rows: np.ndarray) -> list[list[str]]:
    return [job.model.tokenizer.decode(ids).split() for ids in split.ids(rows)]


def _decode(job: Job, z: Tensor, uniform: Tensor | None = None) -> list[list[str]]:
    with job.decoding():
        decoded = decode_ids(job.model.autoencoder, z, job.max_length, uniform=uniform, allow_unknown=True)
    return [job.model.tokenizer.decode(ids).split() for ids in decoded]


def _bleu1(references: list[list[str]], hypotheses: list[list[str]]) -> list[float]:
    return [sentence_bleu1(*pair) for pair in zip(references, hypotheses, strict=True)]


def _score(job: Job, rows: np.ndarray, posterior: DiagonalGaussian, decode: Decode) -> Tensor:
    references = _words(job, job.split, rows)
    draws = [job.draw(posterior, rows, number=run) for run in range(job.num_runs)]
    words = [noise.uniform(job.seed, rows, run, job.max_length) for run in range(job.num_runs)]
    sampled = [_bleu1(references, decode(*pair)) for pair in zip(draws, words, strict=True)]
    greedy = [decode(z) for z in draws]
    # For an autoencoder, a draw is the mean.
    from_mean = greedy[0] if job.model.deterministic else decode(posterior.mean)
    pairs = list(zip(references, greedy[0], strict=True))
    scores = [
        *sampled,
        *(_bleu1(references, each) for each in greedy),
        _bleu1(references, from_mean),
        [float(reference == hypothesis) for reference, hypothesis in zip(references, from_mean, strict=True)],
        [float(reference == hypothesis) for reference, hypothesis in pairs],
        [word_accuracy(*pair) for pair in pairs],
    ]
    columns = torch.tensor(scores, dtype=torch.float64).T
    return torch.cat([columns, torch.tensor([bleu4_counts(*pair) for pair in pairs], dtype=torch.float64)], dim=1)


@torch.no_grad()
def _samples(job: Job) -> Table:
    """A table of random sentences, one from each fifth by length, with the greedy decoding of their means."""
    parts = np.array_split(np.argsort(job.split.lengths, kind="stable"), _SAMPLES)
    random = np.random.default_rng([job.seed, _SHOWN_STREAM])
    rows = np.array([random.choice(part) for part in parts if len(part)])
    means = select(job.posterior(), rows, job.model.autoencoder.device).mean
    pairs = zip(_words(job, job.split, rows), _decode(job, means), strict=True)
    cells = [[_shortened(words) for words in pair] for pair in pairs]
    lengths = map(str, job.split.lengths[rows])
    header = ["tokens", "sentence", "from its code"]
    title = "Random evaluated sentences of different lengths, and what the model decodes from their codes"
    return Table(title, header, [[length, *pair] for length, pair in zip(lengths, cells, strict=True)])


def _shortened(words: list[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"


def sentence_bleu1(reference: list[str], hypothesis: list[str]) -> float:
    """Compute NLTK's sentence BLEU with weights (1, 0, 0, 0) and brevity penalty; 0 without words."""
    from nltk.translate.bleu_score import sentence_bleu

    return float(sentence_bleu([reference], hypothesis, weights=(1.0,))) if hypothesis else 0.0


def word_accuracy(reference: list[str], hypothesis: list[str]) -> float:
    """Compute the share of the reference's words that the hypothesis has at the same position; 1 without words."""
    matches = sum(a == b for a, b in zip(reference, hypothesis, strict=False))
    return matches / len(reference) if reference else 1.0


def bleu4_counts(reference: list[str], hypothesis: list[str]) -> list[float]:
    """Compute sacrebleu's statistics of one sentence: matching and all n-grams for n = 1 to 4, and both lengths."""
    from sacrebleu.metrics import BLEU

    score = BLEU(tokenize="none", force=True, effective_order=True).sentence_score(
        " ".join(hypothesis), [" ".join(reference)]
    )
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def corpus_bleu4(counts: np.ndarray) -> float:
    """Compute sacrebleu's corpus BLEU-4, in [0, 1], from the sentences' statistics [N, 10]."""
    from sacrebleu.metrics import BLEU

    *ngrams, sys_len, ref_len = counts.sum(0).astype(int).tolist()
    score = BLEU.compute_bleu(ngrams[:_ORDERS], ngrams[_ORDERS:], sys_len, ref_len, smooth_method="exp")
    return score.score / 100


def _by_length(lengths: np.ndarray, scores: Scores) -> Table:
    rows = []
    for first, after in zip(_LENGTHS, [*_LENGTHS[1:], np.inf], strict=True):
        chosen = (lengths >= first) & (lengths < after)
        if chosen.any():
            columns = [scores.accuracy, scores.greedy.mean(1), scores.sampled.mean(1), scores.exact]
            name = f"{first} and more" if after == np.inf else f"{first} to {after - 1}"
            rows.append([name, str(chosen.sum()), *[f"{column[chosen].mean():.3f}" for column in columns]])
    header = ["tokens", "sentences", "same position", "BLEU-1 greedy", "BLEU-1 sampled", "exact"]
    return Table("By sentence length", header, rows)
