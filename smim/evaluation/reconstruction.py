"""How well a sentence comes back from its code: BLEU-1, corpus BLEU-4, exact matches, words in their place.

Each sentence is decoded from a draw z ~ q(z|x) (an autoencoder's mean) twice in every run, by drawing each
word at temperature 1, as in the thesis, and greedily; and once greedily from the mean.

Shapes: N sentences, R runs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smim.evaluation import plots
from smim.evaluation.job import Job, select
from smim.evaluation.section import Definition, Section, Table, measure, scalar
from smim.model import noise
from smim.model.decoding import decode_ids
from smim.model.distributions import DiagonalGaussian

_DECODED_TOGETHER = 2048  # sentences
_ORDERS = 4  # n-grams of corpus BLEU-4
_LENGTHS = [1, 11, 21, 31, 51, 101]  # first length of each row of the table by length


@dataclass(frozen=True)
class Scores:
    """Of each sentence, in [0, 1]: BLEU-1 `sampled` and `greedy` fp64 [N, R], `from_mean` [N].

    Of the greedy reconstruction in the first run: `exact` [N], `accuracy` [N], the share of the sentence's
    words that it has in their place, and `bleu4_counts` [N, 10], what corpus BLEU-4 sums.
    """

    sampled: np.ndarray
    greedy: np.ndarray
    from_mean: np.ndarray
    exact: np.ndarray
    accuracy: np.ndarray
    bleu4_counts: np.ndarray


# Of `Scores`.
METRICS = [
    Definition("bleu1_sampled", "",
               "sentence BLEU-1 of the reconstruction from a draw of z, words drawn at temperature 1",
               lambda scores: scores.sampled, title="BLEU-1 sampled", better="higher"),
    Definition("bleu1_greedy", "", "sentence BLEU-1 of the greedy reconstruction from a draw of z",
               lambda scores: scores.greedy, title="BLEU-1 greedy", better="higher"),
    Definition("bleu1_mean", "", "sentence BLEU-1 of the greedy reconstruction from the mean of q(z|x)",
               lambda scores: scores.from_mean, better="higher"),
    Definition("bleu4_corpus_greedy", "", "corpus BLEU-4 (sacrebleu) of the greedy reconstruction",
               lambda scores: scalar(corpus_bleu4(scores.bleu4_counts), n=len(scores.exact)), better="higher"),
    Definition("exact_match_greedy", "", "share of sentences whose greedy reconstruction is exact",
               lambda scores: scores.exact, better="higher"),
    Definition("word_accuracy_greedy", "", "share of words that the greedy reconstruction has in their place",
               lambda scores: scores.accuracy, better="higher"),
]  # fmt: skip


def evaluate(job: Job, plots_dir: Path) -> Section:
    """Reconstructs every sentence and scores it against itself."""
    scores, lengths = reconstruct(job), job.split.lengths
    if job.is_main:
        # In bins of about equally many sentences.
        bins = np.array_split(np.argsort(lengths, kind="stable"), min(20, len(lengths)))
        length, accuracy, bleu = (
            np.array([values[rows].mean() for rows in bins])
            for values in (lengths, scores.accuracy, scores.greedy[:, 0])
        )
        plots.lines(
            {"words in their place": (length, accuracy), "BLEU-1": (length, bleu)},
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
            f"is NLTK's, with brevity penalty, on the words without `<sos>` and `<eos>`."
        ],
        tables=[_by_length(lengths, scores)],
        plots={"accuracy_by_length.png": "Greedy reconstruction by sentence length"},
    )


@torch.no_grad()
def reconstruct(job: Job) -> Scores:
    """Decodes every sentence, at most `job.max_length` tokens."""
    posteriors, runs = job.posterior(), job.num_runs
    longest_first = np.argsort(-job.split.lengths, kind="stable")

    def score(places: np.ndarray) -> Tensor:
        rows = longest_first[places]
        return _score(job, rows, select(posteriors, rows, job.model.autoencoder.device))

    scores = job.compute(len(job.split), score, at_once=_DECODED_TOGETHER, description="reconstruction")
    gathered = scores[np.argsort(longest_first)]
    sampled, greedy, others, counts = np.split(gathered, [runs, 2 * runs, 2 * runs + 3], axis=1)
    from_mean, exact, accuracy = others.T
    return Scores(sampled, greedy, from_mean, exact, accuracy, counts)


def _score(job: Job, rows: np.ndarray, posterior: DiagonalGaussian) -> Tensor:
    references = [job.model.tokenizer.decode(ids).split() for ids in job.split.ids(rows)]

    def decode(z: Tensor, uniform: Tensor | None = None) -> list[list[str]]:
        decoded = decode_ids(job.model.autoencoder, z, job.max_length, uniform=uniform, allow_unknown=True)
        return [job.model.tokenizer.decode(ids).split() for ids in decoded]

    def bleu1(hypotheses: list[list[str]]) -> list[float]:
        return [sentence_bleu1(*pair) for pair in zip(references, hypotheses, strict=True)]

    draws = [job.draw(posterior, rows, number=run) for run in range(job.num_runs)]
    sampled = [bleu1(decode(z, noise.uniform(job.seed, rows, run, job.max_length))) for run, z in enumerate(draws)]
    hypotheses = [decode(z) for z in draws]
    greedy = [bleu1(each) for each in hypotheses]
    # An autoencoder's draw is its mean.
    from_mean = greedy[0] if job.model.deterministic else bleu1(decode(posterior.mean))
    pairs = list(zip(references, hypotheses[0], strict=True))
    exact = [float(reference == hypothesis) for reference, hypothesis in pairs]
    accuracy = [word_accuracy(*pair) for pair in pairs]
    columns = torch.tensor([*sampled, *greedy, from_mean, exact, accuracy], dtype=torch.float64).T
    return torch.cat([columns, torch.tensor([bleu4_counts(*pair) for pair in pairs], dtype=torch.float64)], dim=1)


def sentence_bleu1(reference: list[str], hypothesis: list[str]) -> float:
    """NLTK's sentence BLEU with weights (1, 0, 0, 0), brevity penalty included; 0 for no words."""
    from nltk.translate.bleu_score import sentence_bleu

    return float(sentence_bleu([reference], hypothesis, weights=(1.0,))) if hypothesis else 0.0


def word_accuracy(reference: list[str], hypothesis: list[str]) -> float:
    """Share of the reference's words that the hypothesis has at the same position; 1 where there are none."""
    matches = sum(a == b for a, b in zip(reference, hypothesis, strict=False))
    return matches / len(reference) if reference else 1.0


def bleu4_counts(reference: list[str], hypothesis: list[str]) -> list[float]:
    """sacrebleu's statistics of one sentence: matching and all n-grams for n = 1 to 4, and both lengths."""
    from sacrebleu.metrics import BLEU

    score = BLEU(tokenize="none", force=True, effective_order=True).sentence_score(
        " ".join(hypothesis), [" ".join(reference)]
    )
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def corpus_bleu4(counts: np.ndarray) -> float:
    """sacrebleu's corpus BLEU-4, in [0, 1], from the sentences' statistics [N, 10]."""
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
    header = ["tokens", "sentences", "words in their place", "BLEU-1 greedy", "BLEU-1 sampled", "exact"]
    return Table("By sentence length", header, rows)
