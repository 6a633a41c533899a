"""Metrics of any codes on sets of judged sentences, from a function that encodes texts.

Shapes: N pairs or texts, Q queries, D dimensions of a code.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances, linear_kernel, paired_euclidean_distances
from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from smim.errors import SmimError, UserError
from smim.evaluation import answering, section
from smim.evaluation.section import Definition, Metric
from smim.evaluation.semantic_sets import ANSWERS, CLASSES, PAIRS, PARAPHRASES, SIMILARITY, Rows, SemanticSet

# Codes: [N, D] of N texts, dense or sparse. Compare: similarities [Q, N] of Q texts to N others.
Codes = Any
Encode = Callable[[Sequence[str]], Codes]
Compare = Callable[[Sequence[str], Sequence[str]], np.ndarray]
Found = dict[str, Metric | np.ndarray]

DISTANCES: dict[str, Callable[[Codes, Codes], np.ndarray]] = {
    "cosine": cosine_similarity,
    "l2": lambda one, other: -euclidean_distances(one, other),
    "inner_product": linear_kernel,
}
_QUERIES_TOGETHER = 512
_FOLDS, _NEIGHBOURS = 5, 5
# SentEval has 1/4 to 8. Codes of any scale need a wider range.
_STRENGTHS = [4.0**power for power in range(-3, 5)]


def _definition(name: str, title: str, meaning: str) -> Definition:
    return Definition(name, "", meaning, lambda found: found[name], title=f"{title}, {{label}}", better="higher")


# The input: the values found on a set, by the metric's name. The label is the set's name.
METRICS = [
    _definition("spearman", "Spearman", "rank correlation between similarity of codes and people's scores, {label}"),
    _definition("average_precision", "average precision",
                "average precision of paraphrases when pairs are sorted by similarity of codes, {label}"),
    _definition("paraphrase_accuracy", "accuracy",
                "share of pairs that a threshold of similarity classifies correctly as paraphrases or not, {label}"),
    _definition("paraphrase_f1", "F1", "F1 of the paraphrases that a threshold of similarity finds, {label}"),
    _definition("hit_at_1", "hit@1",
                "share of sentences whose paraphrase has the most similar code of all second sentences, {label}"),
    _definition("answer_mrr", "MRR",
                "mean of 1 / rank of the right answer among a question's answers, by similarity of codes, {label}"),
    _definition("probe_accuracy", "probe", "accuracy of a logistic regression on the codes, {label}"),
    _definition("neighbour_accuracy", "5-NN", "accuracy of a vote of the 5 nearest training codes, {label}"),
    _definition("word_for_word", "exact",
                "share of sentences that greedy decoding of their codes gives back word for word, {label}"),
]  # fmt: skip


def measure(
    encode: Encode,
    sets: Sequence[SemanticSet],
    *,
    distance: str = "cosine",
    reconstruct: Callable[[Sequence[str]], Sequence[str]] | None = None,
    max_decoded: int = 10_000,
    bootstrap_samples: int = 1000,
    seed: int = 0,
) -> dict[str, Metric]:
    """Compute the metrics of any codes on sets, by names such as `spearman:stsb-dev`.

        measure(model.encode, read_sets("semantic/", "dev"))["spearman:stsb-dev"].value

    `encode`: a function from N texts to codes [N, D], dense or sparse, called once per set. `distance`: "cosine", "l2"
    or "inner_product". `reconstruct`: a function from sentences to what is decoded from their codes, for at most
    `max_decoded` sentences of a set. Without it there is no `word_for_word`. Raises `UserError` if the number of codes
    differs from that of texts, and `SmimError` if a code or metric is NaN or infinite.
    """
    metrics: dict[str, Metric] = {}
    for each in sets:
        found = _OfSet(each, encode, distance, bootstrap_samples, seed).found()
        if reconstruct and each.kind != ANSWERS:  # answers are not sentences
            sentences = each.some(max_decoded)
            pairs = zip(sentences, reconstruct(sentences), strict=True)
            found["word_for_word"] = np.array([one.split() == other.split() for one, other in pairs])
        metrics |= section.measure(METRICS, found, label=each.name)
    return metrics


def measure_bm25(sets: Sequence[SemanticSet]) -> dict[str, Metric]:
    """Compute `hit_at_1` and `answer_mrr` with Lucene's BM25 of words as the similarity."""
    metrics: dict[str, Metric] = {}
    for each in sets:
        rows, found = each.evaluated, {}
        if each.kind == ANSWERS:
            assert rows.groups is not None
            questions, answers = rows.texts
            pairs = answering.Candidates(rows.groups, questions, answers, rows.values == 1, num_left_out=0)
            _, scores = answering.bm25_scores(pairs, np.arange(pairs.num_questions))
            found["answer_mrr"] = _reciprocal_ranks(rows, -scores)
        elif each.kind in (PARAPHRASES, PAIRS):
            found["hit_at_1"] = hits(rows, _bm25)
        metrics |= section.measure(METRICS, found, label=each.name)
    return metrics


def random_codes(dimension: int, *, seed: int = 0) -> Encode:
    """Make a function from texts to random codes from N(0, I). A code depends only on (seed, text), not on meaning."""

    def code(text: str) -> np.ndarray:
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return np.random.default_rng([seed, number]).standard_normal(dimension, dtype=np.float32)

    return lambda texts: np.stack([code(text) for text in texts])


def paired(encode: Encode, rows: Rows, distance: str) -> np.ndarray:
    """Compute the similarity of the two texts of each row [N]; larger is nearer."""
    first, second = map(encode, rows.texts)
    if distance == "l2":
        return -paired_euclidean_distances(first, second)
    if distance == "cosine":
        first, second = normalize(first), normalize(second)
    return np.asarray(_product(first, second).sum(1)).ravel()


def hits(rows: Rows, compare: Compare) -> np.ndarray:
    """Compute whether the second text of a right pair is nearer to the first than all other second texts, bool [Q].

    An equal similarity counts as a miss.
    """
    candidates = list(dict.fromkeys(rows.texts[1]))
    place = {text: i for i, text in enumerate(candidates)}
    pairs = [pair for pair, value in zip(zip(*rows.texts, strict=True), rows.values, strict=True) if value]
    found = [np.empty(0, dtype=bool)]
    for part in gen_batches(len(pairs), _QUERIES_TOGETHER):
        queries, right = zip(*pairs[part], strict=True)
        scores = compare(queries, candidates)
        own = scores[np.arange(len(scores)), [place[text] for text in right]]
        found.append((scores >= own[:, None]).sum(1) == 1)
    return np.concatenate(found)


class _OfSet:
    """The evaluation of codes on one set. It finds, by the metrics' names, a `Metric` or the values [N] of a mean."""

    def __init__(self, given: SemanticSet, encode: Encode, distance: str, samples: int, seed: int) -> None:
        self._set, self._distance, self._samples, self._seed = given, distance, samples, seed
        self._row = {text: row for row, text in enumerate(given.texts)}
        codes = encode(given.texts)
        sparse = scipy.sparse.issparse(codes)
        self._matrix = codes if sparse else np.asarray(codes)
        if self._matrix.shape[:1] != (len(self._row),):
            raise UserError(
                f"{given.name}: the codes have the shape {self._matrix.shape} for {len(self._row):,} texts; return one "
                f"row per text"
            )
        if not np.isfinite(codes.data if sparse else self._matrix).all():
            raise SmimError(f"{given.name}: some codes are NaN or infinite; the model is not usable")

    def found(self) -> Found:
        kind, rows = self._set.kind, self._set.evaluated
        if kind == CLASSES:
            return self._classified()
        if kind == PAIRS:
            return {"hit_at_1": hits(rows, self._compare)}
        scores = self._paired(rows)
        if kind == ANSWERS:
            return {"answer_mrr": _reciprocal_ranks(rows, scores)}
        if kind == SIMILARITY:
            return {"spearman": self._bootstrapped(_spearman, rows.values, scores)}
        above = (scores >= self._threshold()).astype(np.float64)
        return {
            "average_precision": self._bootstrapped(average_precision_score, rows.values, scores),
            "paraphrase_accuracy": above == rows.values,
            "paraphrase_f1": self._bootstrapped(_f1, rows.values, above),
            "hit_at_1": hits(rows, self._compare),
            **self._classified(),
        }

    def _codes(self, texts: Sequence[str]) -> Codes:
        return self._matrix[[self._row[text] for text in texts]]

    def _paired(self, rows: Rows) -> np.ndarray:
        return paired(self._codes, rows, self._distance)

    def _compare(self, queries: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
        return DISTANCES[self._distance](self._codes(queries), self._codes(candidates))

    def _threshold(self) -> float:
        """Find the lowest similarity that counts as a paraphrase: the most accurate one on dev, else on train."""
        rows = self._set.dev or self._set.train or self._set.evaluated
        scores = self._paired(rows)
        thresholds = np.append(np.unique(scores), np.inf)
        # A threshold is right for the wrong pairs below it, and for the right pairs that are not below it.
        below = [np.searchsorted(np.sort(scores[rows.values == value]), thresholds) for value in (0, 1)]
        return float(thresholds[(below[0] - below[1]).argmax()])

    def _bootstrapped(self, statistic: Callable[..., float], *values: np.ndarray) -> Metric:
        samples = scipy.stats.bootstrap(
            values,
            statistic,
            paired=True,
            vectorized=False,
            n_resamples=self._samples,
            method="percentile",
            rng=np.random.default_rng(self._seed),
        )
        return section.scalar(statistic(*values), n=len(values[0]), standard_error=float(samples.standard_error))

    def _classified(self) -> Found:
        """Compute whether a logistic regression and neighbours classify each row correctly; empty without train."""
        found: Found = {}
        if self._set.train and self._distance == "cosine":  # once, because a regression does not use the distance
            found["probe_accuracy"] = self._told_right(LogisticRegression(max_iter=300), {"C": _STRENGTHS})
        if self._set.train and self._distance != "inner_product":
            metric = "cosine" if self._distance == "cosine" else "euclidean"
            neighbours = KNeighborsClassifier(metric=metric)
            found["neighbour_accuracy"] = self._told_right(neighbours, {"n_neighbors": [_NEIGHBOURS]})
        return found

    def _told_right(self, classifier: Any, grid: dict[str, list[Any]]) -> np.ndarray:
        """Choose settings on dev (without dev, by folds of train), then fit to train, as SentEval does."""
        train, dev, evaluated = self._set.train, self._set.dev, self._set.evaluated
        assert train is not None
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=self._seed % 2**32)
        features, values = self._features(train), train.values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the limit of steps is intended
            search = GridSearchCV(classifier, grid, cv=folds, refit=False)
            if dev:
                search.cv = PredefinedSplit(np.repeat([-1, 0], [len(train), len(dev)]))
                search.fit(_stacked([features, self._features(dev)]), np.concatenate([values, dev.values]))
            else:
                search.fit(features, values)
            classifier.set_params(**search.best_params_)
            if evaluated is train:
                return cross_val_predict(classifier, features, values, cv=folds) == values
            return classifier.fit(features, values).predict(self._features(evaluated)) == evaluated.values

    def _features(self, rows: Rows) -> Codes:
        """Make the features: codes, or for pairs |u - v| and u * v side by side."""
        first, *second = map(self._codes, rows.texts)
        return _stacked([abs(first - second[0]), _product(first, second[0])], axis=1) if second else first


def _reciprocal_ranks(rows: Rows, scores: np.ndarray) -> np.ndarray:
    assert rows.groups is not None
    return answering.mrr(answering.ranks(-scores[:, None], rows.values == 1, rows.groups))


def _bm25(queries: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    import bm25s  # imported late: if JAX is installed, this import takes most of a GPU's memory

    index = bm25s.BM25()
    index.index(answering.words(list(candidates)), show_progress=False)
    asked = answering.words(list(queries))
    return np.stack([index.get_scores_from_ids(index.get_tokens_ids(each)) for each in asked])


def _product(first: Codes, second: Codes) -> Codes:
    return first.multiply(second) if scipy.sparse.issparse(first) else first * second


def _stacked(parts: list[Codes], *, axis: int = 0) -> Codes:
    if scipy.sparse.issparse(parts[0]):
        return (scipy.sparse.hstack if axis else scipy.sparse.vstack)(parts, format="csr")
    return np.concatenate(parts, axis=axis)


def _spearman(judged: np.ndarray, scores: np.ndarray) -> float:
    return float(scipy.stats.spearmanr(judged, scores).statistic)


def _f1(values: np.ndarray, above: np.ndarray) -> float:
    return float(f1_score(values, above, zero_division=0.0))
