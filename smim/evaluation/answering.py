"""Question answering with latent codes (section 7.6): find the right answer among a question's candidate answers.

Each candidate makes two texts: the question with the answer (`qa`), and the question with `<unk>` for each of the
answer's tokens (`unk`). The candidate with the smallest distance between the codes of its two texts ranks first.

Shapes: N pairs of a question and a candidate answer, Q questions, R runs, B pairs of a block, D latent dimensions.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.stats
import torch
from torch import Tensor

from smim.errors import UserError
from smim.evaluation import plots
from smim.evaluation.job import Job, log_prob_64, select, split_of_ids
from smim.evaluation.markup import with_error
from smim.evaluation.plots import Panel
from smim.evaluation.retokenize import unknown_share
from smim.evaluation.section import Definition, Metric, Section, Table, measure
from smim.text.corpus import Corpus, Split
from smim.text.tokenizer import UNK_ID, Tokenizer

TITLE = "Question answering"

_COLUMNS = ("group", "question", "answer", "label")
_ROWS_PER_BLOCK = 1024
# The rank correlation with length from which a note warns about it.
_MUCH = 0.5
_PLOT = "answering.png"
_MEASURES = {"p_at_1": "P@1", "mrr": "MRR"}
# The suffix of the metrics' names, and the method's name in the table, in the order of the table.
METHODS = {
    "": "distance between draws of the codes (section 7.6)",
    "_mean": "distance between the codes' means",
    "_log_posterior": "log q(z_qa|unk)",
    "_bm25": "word overlap (BM25)",
    "_longest": "the longest answer first",
    "_random": "random order",
}


@dataclass(frozen=True)
class AnsweringArgs:
    """The settings of the group. `corpus`: a prepared corpus with columns group, label, question and answer.

    By default it is the evaluated corpus. `split`: the split of this corpus. `equal_length`: cut each question's
    answers to the number of words of its shortest answer, so that no score can rank answers by their length.
    """

    corpus: str | None = None
    split: str = "test"
    equal_length: bool = False


@dataclass(frozen=True)
class Candidates:
    """N pairs of a question and a candidate answer, sorted by their content. A question's pairs are adjacent.

    `groups` int64 [N]: the question's number, ascending from 0. `right` bool [N]: True at least once per question.
    `num_left_out`: the number of questions of the split that are left out, because they have no right answer.
    """

    groups: np.ndarray
    questions: list[str]
    answers: list[str]
    right: np.ndarray
    num_left_out: int

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def num_questions(self) -> int:
        return int(self.groups[-1]) + 1 if len(self) else 0

    @cached_property
    def num_answers(self) -> np.ndarray:
        """The number of candidates of each question, int64 [Q]."""
        return np.bincount(self.groups, minlength=self.num_questions)

    @cached_property
    def num_words(self) -> np.ndarray:
        """The number of words of each answer, int64 [N]."""
        return np.array([len(answer.split()) for answer in self.answers], dtype=np.int64)

    def cut(self) -> "Candidates":
        """Cut each question's answers to the number of words of its shortest answer."""
        least = np.full(self.num_questions, np.iinfo(np.int64).max)
        np.minimum.at(least, self.groups, self.num_words)
        kept = zip(self.answers, least[self.groups].tolist(), strict=True)
        return replace(self, answers=[" ".join(answer.split()[:number]) for answer, number in kept])

    @cached_property
    def num_right(self) -> np.ndarray:
        """The number of right answers of each question, int64 [Q]."""
        return np.bincount(self.groups[self.right], minlength=self.num_questions)


# The input: the ranks of right answers by method, int64 [Q, R]; for the random order, the candidates; and the result of
# `rank_correlations`, if a question has answers of different lengths.
METRICS = [
    Definition("p_at_1", "",
               "share of questions whose right answer ranks first, by the distance between draws of the codes",
               lambda ranks: p_at_1(ranks[""]), title="P@1", better="higher", equation="section 7.6"),
    Definition("mrr", "", "mean of 1 / rank of the right answer, by the distance between draws of the codes",
               lambda ranks: mrr(ranks[""]), title="MRR", better="higher", equation="section 7.6"),
    Definition("p_at_1_mean", "", "`p_at_1` with posterior means instead of draws",
               lambda ranks: p_at_1(ranks["_mean"]), better="higher"),
    Definition("mrr_mean", "", "`mrr` with posterior means instead of draws",
               lambda ranks: mrr(ranks["_mean"]), better="higher"),
    Definition("p_at_1_log_posterior", "", "`p_at_1` by log q(z_qa|unk) instead of the distance",
               lambda ranks: p_at_1(ranks["_log_posterior"]), better="higher"),
    Definition("mrr_log_posterior", "", "`mrr` by log q(z_qa|unk) instead of the distance",
               lambda ranks: mrr(ranks["_log_posterior"]), better="higher"),
    Definition("p_at_1_bm25", "", "`p_at_1` by the words that question and answer share (BM25)",
               lambda ranks: p_at_1(ranks["_bm25"])),
    Definition("mrr_bm25", "", "`mrr` by the words that question and answer share (BM25)",
               lambda ranks: mrr(ranks["_bm25"])),
    Definition("p_at_1_longest", "", "`p_at_1` by the number of words, the longest answer first",
               lambda ranks: p_at_1(ranks["_longest"])),
    Definition("mrr_longest", "", "`mrr` by the number of words, the longest answer first",
               lambda ranks: mrr(ranks["_longest"])),
    Definition("length_correlation", "",
               "rank correlation (Spearman) of a question's distances between means and its answers' numbers of words",
               lambda ranks: ranks["_length_correlation"], zero_is_least=False),
    Definition("p_at_1_random", "", "expected `p_at_1` for a random order of the candidates",
               lambda ranks: random_order(ranks["_random"])[0]),
    Definition("mrr_random", "", "expected `mrr` for a random order of the candidates",
               lambda ranks: random_order(ranks["_random"])[1]),
]  # fmt: skip


def evaluate(job: Job, args: AnsweringArgs, plots_dir: Path) -> Section:
    """Compute P@1 and MRR of the right answer, for the model, BM25 and a random order. All processes must call it.

    Raises `UserError` if `args.corpus` lacks a column or the split, or if a label is neither 0 nor 1.
    """
    source = find_pairs(job.corpus, args)
    if source is None:
        columns = ", ".join(f"`{name}`" for name in _COLUMNS)
        return Section(
            TITLE,
            notes=[
                f"Not evaluated: split `{args.split}` of `{job.corpus.name}` lacks some of the columns {columns}. Give "
                f"`eval.answering.corpus=DIR` with a corpus that was prepared with `corpus=yahoocqa`."
            ],
        )
    corpus, split = source
    candidates = read_candidates(split)
    if not candidates.num_questions:
        return Section(TITLE, notes=[f"Not evaluated: no question of `{corpus.name}` has a right answer (label 1)."])
    if args.equal_length:
        candidates = candidates.cut()
    *pairs, notes = encode(job.model.tokenizer, candidates, limit=job.model.autoencoder.args.max_length)
    rows, by_words = bm25_scores(candidates, job.share(candidates.num_questions))
    scores = model_scores(job, candidates, *pairs)
    scores["_bm25"] = job.gather([rows], [by_words], total=len(candidates))[:, None]
    if not args.equal_length:
        scores["_longest"] = -candidates.num_words[:, None]
    computed: dict[str, Any] = {name: ranks(each, candidates.right, candidates.groups) for name, each in scores.items()}
    by_length = rank_correlations(scores.get("_mean", scores[""])[:, 0], candidates.num_words, candidates.groups)
    if len(by_length):
        computed["_length_correlation"] = by_length
    metrics = measure(METRICS, {**computed, "_random": candidates})
    notes += _note_on_length(metrics)
    if job.is_main:
        _draw_plot(metrics, plots_dir / _PLOT)
    shown = [
        [name, *(with_error(found.value, found.standard_error) for found in of_method)]
        for method, name in METHODS.items()
        if (of_method := [metrics[f"{kind}{method}"] for kind in _MEASURES if f"{kind}{method}" in metrics])
    ]
    title = "Rank of the right answer, with one standard error over questions"
    return Section(
        TITLE,
        metrics,
        notes=_notes(job, corpus, split, candidates, args) + notes,
        tables=[Table(title, ["method", *_MEASURES.values()], shown)],
        plots={_PLOT: "P@1 and MRR by method, with one standard error. The dashed line is a random order"},
    )


def find_pairs(evaluated: Corpus, args: AnsweringArgs) -> tuple[Corpus, Split] | None:
    """Find the corpus and split of the pairs: those of `args`, or the evaluated corpus. None if it has no pairs.

    Raises `UserError` if `args.corpus` is not a prepared corpus, or lacks the split or a column.
    """
    corpus = evaluated if args.corpus is None else Corpus.open(args.corpus)
    if args.corpus is None and args.split not in corpus.card["splits"]:
        return None
    split = corpus.split(args.split)
    missing = [name for name in _COLUMNS if name not in split.label_columns]
    if not missing:
        return corpus, split
    if args.corpus is None:
        return None
    raise UserError(
        f"eval.answering.corpus={args.corpus}: split {split.name!r} has no column {', '.join(missing)}; "
        f"prepare it with `python data_prep/build.py corpus=yahoocqa`"
    )


def read_candidates(split: Split) -> Candidates:
    """Read the pairs of a split whose question has a right answer, and sort them.

    In the published data the right answer is the last of each question. After sorting, no result depends on the order
    of the rows. Raises `UserError` if a label is neither 0 nor 1, or if a text is missing.
    """
    table = split.table.select(list(_COLUMNS))
    if missing := [name for name in _COLUMNS if table.column(name).null_count]:
        raise UserError(f"split {split.name!r} has rows without a value for {', '.join(missing)}; prepare it again")
    table = table.sort_by([(name, "ascending") for name in _COLUMNS])
    labels = [str(label) for label in table.column("label").to_pylist()]
    if unreadable := sorted(set(labels) - {"0", "1"}):
        raise UserError(f"split {split.name!r} has the label {unreadable[0]!r}; use 1 for right answers, 0 for others")
    right = np.array([label == "1" for label in labels], dtype=bool)
    _, groups = np.unique(table.column("group").to_numpy(), return_inverse=True)
    answerable = np.bincount(groups[right], minlength=groups.max(initial=-1) + 1) > 0
    kept = answerable[groups]
    table = table.filter(pa.array(kept))
    return Candidates(
        groups=(np.cumsum(answerable) - 1)[groups[kept]],
        questions=table.column("question").to_pylist(),
        answers=table.column("answer").to_pylist(),
        right=right[kept],
        num_left_out=int((~answerable).sum()),
    )


def encode(
    tokenizer: Tokenizer, candidates: Candidates, *, limit: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Encode N pairs as token ids: "question ? answer", and the same with `<unk>` for each token of the answer.

    The third result are notes on the texts. If a pair has more than `limit` tokens, its answer is cut. An answer
    without a token counts as one unknown word.
    """
    # data_prep/corpora/yahoocqa.py joins them in the same way, so models of Yahoo Answers saw this form in training.
    questions = [each if each.endswith("?") else f"{each} ?" for each in candidates.questions]
    asked = _ids(tokenizer, questions)
    # Alone, an answer could be split into other pieces. No token contains the space before the answer.
    both = _ids(tokenizer, [" ".join(pair) for pair in zip(questions, candidates.answers, strict=True)])
    answers = [ids[len(question) :] for question, ids in zip(asked, both, strict=True)]
    num_cut = sum(len(a) + len(b) > limit for a, b in zip(asked, answers, strict=True))
    asked = [ids[: limit - 1] for ids in asked]
    answers = [ids[: limit - len(question)] for question, ids in zip(asked, answers, strict=True)]
    hidden = [np.full(max(1, len(ids)), UNK_ID, np.int32) for ids in answers]
    shares = [unknown_share(split_of_ids("", ids)) for ids in (asked, answers)]
    notes = [
        "The model's vocabulary lacks {:.1%} of the tokens in questions and {:.1%} of those in answers.".format(*shares)
    ]
    if num_cut:
        notes.append(
            f"{num_cut:,} of {len(candidates):,} pairs are longer than the model's limit of {limit} tokens. "
            f"Their answers are cut."
        )
    answered, unknown = ([np.concatenate(pair) for pair in zip(asked, each, strict=True)] for each in (answers, hidden))
    return answered, unknown, notes


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    return [value.values.to_numpy() for value in tokenizer.encode_batch(texts)]


def model_scores(
    job: Job, candidates: Candidates, answered: list[np.ndarray], unknown: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """Compute the model's scores of all pairs by method, fp64 [N, R] each. The smallest score ranks first.

    The scores are distances between draws, distances between means, and -log q. A deterministic model has only the
    distance, because its draw is the mean.
    """
    of_answered = job.posterior(split_of_ids("qa_answered", answered))
    of_unknown = job.posterior(split_of_ids("qa_unknown", unknown))
    numbers = np.array([_number(*pair) for pair in zip(candidates.questions, candidates.answers, strict=True)])
    num_runs = 1 if job.model.deterministic else job.num_runs
    widths = {"": num_runs} if job.model.deterministic else {"": num_runs, "_mean": 1, "_log_posterior": num_runs}

    def scores(rows: np.ndarray) -> Tensor:
        q_answered, q_unknown = (select(posterior, rows, "cpu") for posterior in (of_answered, of_unknown))
        if job.model.deterministic:
            return distance(q_unknown.mean, q_answered.mean, torch.ones_like(q_unknown.mean))[:, None]
        sigma = q_unknown.standard_deviation
        draws = [
            [job.draw(q, numbers[rows], number=2 * run + i) for i, q in enumerate((q_answered, q_unknown))]
            for run in range(num_runs)
        ]
        distances = [distance(z_unknown, z_answered, sigma) for z_answered, z_unknown in draws]
        log_posteriors = [-log_prob_64(q_unknown, z_answered) for z_answered, _ in draws]
        return torch.stack([*distances, distance(q_unknown.mean, q_answered.mean, sigma), *log_posteriors], dim=1)

    values = job.compute(len(candidates), scores, at_once=_ROWS_PER_BLOCK)
    parts = np.split(values, np.cumsum(list(widths.values()))[:-1], axis=1)
    return dict(zip(widths, parts, strict=True))


def distance(z_unknown: Tensor, z_answered: Tensor, sigma: Tensor) -> Tensor:
    """Compute || (z_unk - z_qa) / sigma_unk ||_2 for codes [B, D], fp64 [B] (section 7.6)."""
    return torch.linalg.vector_norm((z_unknown.double() - z_answered.double()) / sigma.double(), dim=1)


def _number(question: str, answer: str) -> int:
    """Make the seed of a pair's noise, 40 bits. It depends only on the pair's text, not on the other pairs."""
    return int.from_bytes(hashlib.sha256(f"{question}\0{answer}".encode()).digest()[:5], "big")


def bm25_scores(candidates: Candidates, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute BM25 scores with the question as the query. Return the candidates' rows [M] and minus their scores [M].

    It is Lucene's BM25 (k1 = 1.5, b = 0.75) of lower-case words. All candidate answers are the documents.
    """
    import bm25s  # imported late: if JAX is installed, this import takes most of a GPU's memory

    index = bm25s.BM25()
    index.index(words(candidates.answers), show_progress=False)
    starts = np.searchsorted(candidates.groups, questions, side="left")
    ends = np.searchsorted(candidates.groups, questions, side="right")
    queries = words([candidates.questions[start] for start in starts])
    values = [
        index.get_scores_from_ids(index.get_tokens_ids(query))[start:end]
        for query, start, end in zip(queries, starts, ends, strict=True)
    ]
    rows = [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate([np.empty(0, np.int64), *rows]), -np.concatenate([np.empty(0), *values])


def words(texts: list[str]) -> list[list[str]]:
    """Split each text into its words in lower case, for BM25."""
    import bm25s

    # The library's own pattern leaves out words with one character. Its stop words are not used.
    return bm25s.tokenize(texts, token_pattern=r"(?u)\b\w+\b", stopwords=[], return_ids=False, show_progress=False)


def ranks(scores: np.ndarray, right: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Compute the rank of each question's best right answer, from 1, int64 [Q, R].

    `scores` [N, R]: the smallest ranks first. `right`: bool [N]. `groups` [N]: the questions 0 .. Q - 1, each with a
    right answer. A wrong answer with an equal score ranks before the right one.
    """
    best = np.full((groups.max() + 1, scores.shape[1]), np.inf)
    np.minimum.at(best, groups[right], scores[right])
    rank = np.ones(best.shape, dtype=np.int64)
    np.add.at(rank, groups[~right], scores[~right] <= best[groups[~right]])
    return rank


def p_at_1(ranks: np.ndarray) -> np.ndarray:
    """Return 1 for each question whose right answer ranks first, else 0. The mean is P@1 (section 7.6)."""
    return (ranks == 1).astype(np.float64)


def mrr(ranks: np.ndarray) -> np.ndarray:
    """Return 1 / rank for each question. The mean is MRR (section 7.6)."""
    return 1 / ranks


def rank_correlations(scores: np.ndarray, values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Compute Spearman's rank correlation of `scores` and `values` [N] within each question, fp64 [at most Q].

    Questions whose scores or values are all equal are left out. `groups` [N]: the questions in ascending order.
    """
    starts = np.flatnonzero(np.diff(groups)) + 1
    questions = zip(np.split(scores, starts), np.split(values, starts), strict=True)
    varied = [each for each in questions if all(np.ptp(part) > 0 for part in each)]
    return np.array([scipy.stats.spearmanr(*each).statistic for each in varied])


def random_order(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Compute the expected `p_at_1` and `mrr` of each question for a random order of its candidates, fp64 [Q] each.

    For m right answers among K, P@1 is m / K. The best right answer has rank r with probability
    C(K - r, m - 1) / C(K, m).
    """
    sizes = list(zip(candidates.num_answers.tolist(), candidates.num_right.tolist(), strict=True))
    expected = {(k, m): sum(comb(k - r, m - 1) / r for r in range(1, k - m + 2)) / comb(k, m) for k, m in set(sizes)}
    return candidates.num_right / candidates.num_answers, np.array([expected[size] for size in sizes])


def _draw_plot(metrics: dict[str, Metric], output: Path) -> None:
    shown = {method: name for method, name in METHODS.items() if f"p_at_1{method}" in metrics and method != "_random"}
    panels = [
        Panel(
            title,
            {
                name: [{"value": None, "mean": found.value, "stdev": found.standard_error}]
                for method, name in shown.items()
                if (found := metrics[kind + method])
            },
            ("random order", metrics[f"{kind}_random"].value),
        )
        for kind, title in _MEASURES.items()
    ]
    plots.bars(panels, output)


def _note_on_length(metrics: dict[str, Metric]) -> list[str]:
    found = metrics.get("length_correlation")
    if found is None or abs(found.value) < _MUCH:
        return []
    return [
        f"The distance mostly ranks answers by their length: its rank correlation with the number of words is "
        f"{found.value:.2f}. Use `eval.answering.equal_length=true` to see what else it ranks by."
    ]


def _notes(job: Job, corpus: Corpus, split: Split, candidates: Candidates, args: AnsweringArgs) -> list[str]:
    smallest, largest = candidates.num_answers.min(), candidates.num_answers.max()
    per_question = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    notes = [
        f"{candidates.num_questions:,} questions of split `{split.name}` of `{corpus.name}` with {per_question} "
        f"candidate answers each. Each candidate makes two texts: the question with the answer (qa), and the question "
        f"with `<unk>` for each of the answer's tokens (unk). Their codes are z_qa and z_unk. The candidate with the "
        f"smallest distance ‖(z_unk - z_qa) / sigma_unk‖ ranks first. A wrong answer with an equal score ranks before "
        f"the right one. The order of the rows does not matter."
    ]
    if args.equal_length:
        notes.append("Each question's answers are cut to the number of words of its shortest answer.")
    if job.model.deterministic:
        notes.append("The model is deterministic. Its code is the mean, sigma is 1, and log q is not defined.")
    if candidates.num_left_out:
        notes.append(f"{candidates.num_left_out:,} questions without a right answer are left out.")
    if several := int((candidates.num_right > 1).sum()):
        notes.append(f"{several:,} questions have several right answers. The best of them gives the rank.")
    return notes
