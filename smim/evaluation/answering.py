"""Question answering by latent codes (section 7.6): which of a question's candidate answers is the right one.

Shapes: N pairs of a question and a candidate answer, Q questions, R runs, B pairs of a block, D latent dimensions.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path

import numpy as np
import pyarrow as pa
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
_PLOT = "answering.png"
_MEASURES = {"p_at_1": "P@1", "mrr": "MRR"}
# What the metrics' names end in, and how the method is called in the table; in this order.
METHODS = {
    "": "distance of codes (section 7.6)",
    "_mean": "distance of means",
    "_log_posterior": "log q(z_qa given q_unk)",
    "_bm25": "word overlap (BM25)",
    "_random": "random order",
}


@dataclass(frozen=True)
class AnsweringArgs:
    """`corpus`: a prepared corpus with the columns group, label, question, answer; None: the evaluated one."""

    corpus: str | None = None
    split: str = "test"


@dataclass(frozen=True)
class Candidates:
    """N pairs in an order that is a function of their content, each question's together.

    `groups` int64 [N]: the question's number, ascending from 0; `right` bool [N], True at least once a question.
    `num_left_out`: questions of the split without a right answer, which are not among these.
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
        """Candidates of each question, int64 [Q]."""
        return np.bincount(self.groups, minlength=self.num_questions)

    @cached_property
    def num_right(self) -> np.ndarray:
        """Right answers of each question, int64 [Q]."""
        return np.bincount(self.groups[self.right], minlength=self.num_questions)


# Of the ranks of right answers by method, int64 [Q, R]; and, by a random order, of the candidates.
METRICS = [
    Definition("p_at_1", "", "share of questions whose right answer ranks first, by the distance of codes",
               lambda ranks: p_at_1(ranks[""]), title="P@1", better="higher", equation="section 7.6"),
    Definition("mrr", "", "mean reciprocal rank of the right answer",
               lambda ranks: mrr(ranks[""]), title="MRR", better="higher", equation="section 7.6"),
    Definition("p_at_1_mean", "", "`p_at_1` with posterior means in place of draws",
               lambda ranks: p_at_1(ranks["_mean"]), better="higher"),
    Definition("mrr_mean", "", "`mrr` with posterior means in place of draws",
               lambda ranks: mrr(ranks["_mean"]), better="higher"),
    Definition("p_at_1_log_posterior", "", "`p_at_1` by log q(z_qa|q_unk) in place of the distance",
               lambda ranks: p_at_1(ranks["_log_posterior"]), better="higher"),
    Definition("mrr_log_posterior", "", "`mrr` by log q(z_qa|q_unk) in place of the distance",
               lambda ranks: mrr(ranks["_log_posterior"]), better="higher"),
    Definition("p_at_1_bm25", "", "`p_at_1` by word overlap (BM25)", lambda ranks: p_at_1(ranks["_bm25"])),
    Definition("mrr_bm25", "", "`mrr` by word overlap (BM25)", lambda ranks: mrr(ranks["_bm25"])),
    Definition("p_at_1_random", "", "`p_at_1` of a random order, expected",
               lambda ranks: random_order(ranks["_random"])[0]),
    Definition("mrr_random", "", "`mrr` of a random order, expected", lambda ranks: random_order(ranks["_random"])[1]),
]  # fmt: skip


def evaluate(job: Job, args: AnsweringArgs, plots_dir: Path) -> Section:
    """P@1 and MRR of the right answer, by the model and by what knows nothing of it; called on all processes.

    Raises `UserError` where `args.corpus` lacks a column or the split, or a label is neither 0 nor 1.
    """
    source = find_pairs(job.corpus, args)
    if source is None:
        columns = ", ".join(f"`{name}`" for name in _COLUMNS)
        return Section(
            TITLE,
            notes=[
                f"Not evaluated: split `{args.split}` of `{job.corpus.name}` has no columns {columns}; give "
                f"eval.answering.corpus=DIR of a corpus prepared with `corpus=yahoocqa`."
            ],
        )
    corpus, split = source
    candidates = read_candidates(split)
    if not candidates.num_questions:
        return Section(TITLE, notes=[f"Not evaluated: no question of `{corpus.name}` has a right answer (label 1)."])
    *pairs, notes = encode(job.model.tokenizer, candidates, limit=job.model.autoencoder.args.max_length)
    rows, by_words = bm25_scores(candidates, job.share(candidates.num_questions))
    scores = model_scores(job, candidates, *pairs)
    scores["_bm25"] = job.gather([rows], [by_words], total=len(candidates))[:, None]
    found = {name: ranks(values, candidates.right, candidates.groups) for name, values in scores.items()}
    metrics = measure(METRICS, {**found, "_random": candidates})
    if job.is_main:
        _draw_plot(metrics, plots_dir / _PLOT)
    shown = [
        [name, *(with_error(found.value, found.standard_error) for found in of_method)]
        for method, name in METHODS.items()
        if (of_method := [metrics[f"{kind}{method}"] for kind in _MEASURES if f"{kind}{method}" in metrics])
    ]
    title = "The right answer's rank, with one standard error over the questions"
    return Section(
        TITLE,
        metrics,
        notes=_notes(job, corpus, split, candidates) + notes,
        tables=[Table(title, ["method", *_MEASURES.values()], shown)],
        plots={_PLOT: "P@1 and MRR by method, with one standard error; dashed: a random order"},
    )


def find_pairs(evaluated: Corpus, args: AnsweringArgs) -> tuple[Corpus, Split] | None:
    """The corpus and split of the pairs: those of `args`, else the evaluated corpus where it has any, else None.

    Raises `UserError` where `args.corpus` is not a prepared corpus, or lacks the split or a column.
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
    """The pairs of a split whose question has a right answer.

    Sorted, because in the published data the right answer is each question's last: no result may depend on
    the order of the rows. Raises `UserError` where a label is neither 0 nor 1, or a text is missing.
    """
    table = split.table.select(list(_COLUMNS))
    if missing := [name for name in _COLUMNS if table.column(name).null_count]:
        raise UserError(f"split {split.name!r} has rows without a value for {', '.join(missing)}; prepare it again")
    table = table.sort_by([(name, "ascending") for name in _COLUMNS])
    labels = [str(label) for label in table.column("label").to_pylist()]
    if unreadable := sorted(set(labels) - {"0", "1"}):
        raise UserError(f"split {split.name!r} has the label {unreadable[0]!r}; 1 (right) and 0 are expected")
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
    """Token ids of N pairs: "question ? answer", and with `<unk>` for each of the answer's tokens; and notes on them.

    An answer is cut where the pair exceeds `limit` tokens; one without a token counts as one unknown word.
    """
    # As data_prep/corpora/yahoocqa.py joins them, and as a model of Yahoo Answers was trained.
    questions = [each if each.endswith("?") else f"{each} ?" for each in candidates.questions]
    asked = _ids(tokenizer, questions)
    # An answer has other pieces where it stands alone. No token reaches over the space before it.
    both = _ids(tokenizer, [" ".join(pair) for pair in zip(questions, candidates.answers, strict=True)])
    answers = [ids[len(question) :] for question, ids in zip(asked, both, strict=True)]
    num_cut = sum(len(a) + len(b) > limit for a, b in zip(asked, answers, strict=True))
    asked = [ids[: limit - 1] for ids in asked]
    answers = [ids[: limit - len(question)] for question, ids in zip(asked, answers, strict=True)]
    hidden = [np.full(max(1, len(ids)), UNK_ID, np.int32) for ids in answers]
    shares = [unknown_share(split_of_ids("", ids)) for ids in (asked, answers)]
    notes = [
        "Unknown to the model's vocabulary: {:.1%} of the questions' tokens, {:.1%} of the answers'.".format(*shares)
    ]
    if num_cut:
        notes.append(
            f"{num_cut:,} of {len(candidates):,} pairs are longer than the model's limit of {limit} tokens; "
            f"their answers are cut."
        )
    answered, unknown = ([np.concatenate(pair) for pair in zip(asked, each, strict=True)] for each in (answers, hidden))
    return answered, unknown, notes


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    return [value.values.to_numpy() for value in tokenizer.encode_batch(texts)]


def model_scores(
    job: Job, candidates: Candidates, answered: list[np.ndarray], unknown: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """The model's scores of all pairs by method, fp64 [N, R] each: the smallest ranks first.

    Distances of draws and of means, and -log q; of a deterministic model, whose draw is the mean, only the distance.
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
    """|| (z_unk - z_qa) / sigma_unk ||_2 of codes [B, D], fp64 [B] (section 7.6)."""
    return torch.linalg.vector_norm((z_unknown.double() - z_answered.double()) / sigma.double(), dim=1)


def _number(question: str, answer: str) -> int:
    """What a pair's noise is drawn by, 40 bits: a function of its text alone, not of its place or company."""
    return int.from_bytes(hashlib.sha256(f"{question}\0{answer}".encode()).digest()[:5], "big")


def bm25_scores(candidates: Candidates, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the candidates of some questions [M], and minus their BM25 scores [M], the question as the query.

    Lucene's BM25 (k1 = 1.5, b = 0.75) over lower-case words; the documents are all candidate answers.
    """
    import bm25s  # where JAX is installed it takes most of a GPU's memory, so no sooner than it is needed

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
    """What BM25 counts of each text: its words in lower case."""
    import bm25s

    # The library's own pattern leaves out words of one character; its list of stop words is not used.
    return bm25s.tokenize(texts, token_pattern=r"(?u)\b\w+\b", stopwords=[], return_ids=False, show_progress=False)


def ranks(scores: np.ndarray, right: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank of each question's best right answer, from 1, int64 [Q, R].

    `scores` [N, R]: the smallest ranks first; `right` bool [N]; `groups` [N]: question 0 .. Q - 1, each with a
    right answer. Equal scores count against the right answer: all equal wrong ones rank before it.
    """
    best = np.full((groups.max() + 1, scores.shape[1]), np.inf)
    np.minimum.at(best, groups[right], scores[right])
    rank = np.ones(best.shape, dtype=np.int64)
    np.add.at(rank, groups[~right], scores[~right] <= best[groups[~right]])
    return rank


def p_at_1(ranks: np.ndarray) -> np.ndarray:
    """1 for each question whose right answer ranks first, else 0; their mean is P@1 (section 7.6)."""
    return (ranks == 1).astype(np.float64)


def mrr(ranks: np.ndarray) -> np.ndarray:
    """1 / rank for each question; their mean is MRR (section 7.6)."""
    return 1 / ranks


def random_order(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """The expected `p_at_1` and `mrr` of each question, fp64 [Q] each, if its candidates were in random order.

    m right ones of K: P@1 is m / K; the best right one has rank r with probability C(K - r, m - 1) / C(K, m).
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


def _notes(job: Job, corpus: Corpus, split: Split, candidates: Candidates) -> list[str]:
    smallest, largest = candidates.num_answers.min(), candidates.num_answers.max()
    per_question = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    notes = [
        f"{candidates.num_questions:,} questions of split `{split.name}` of `{corpus.name}` with {per_question} "
        f"candidate answers each. If scores are equal, the right answer ranks last. So it "
        f"does not matter that the published data has the right answer last."
    ]
    if job.model.deterministic:
        notes.append("The model is deterministic: its code is the mean, sigma is 1, and log q is not defined.")
    if candidates.num_left_out:
        notes.append(f"{candidates.num_left_out:,} questions without a right answer are left out.")
    if several := int((candidates.num_right > 1).sum()):
        notes.append(f"{several:,} questions have several right answers; the rank is that of the best of them.")
    return notes
