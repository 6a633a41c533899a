"""A comparison of search by a model's codes, by keywords, and by both, on a user's own texts, without labels.

Each text is cut in two. The first half is the query, and should find its own second half among those of all.
Keywords are compared by TF-IDF with scikit-learn's defaults, which a newcomer would try first, and by BM25, as in
hybrid search.

Shapes: N texts.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from smim.generation import SentenceModel
from smim.search.words import Statistics, WordQuery, words_of
from smim.similarity import distances, similarity
from smim.text.fitting import TextsChanged
from smim.text.sentences import SPLIT_ABOVE, sentences_of

KEYWORDS = "keywords (TF-IDF)"
FEWEST = 20  # texts that can be cut; with fewer there is no result
_SHARE_OF_WORDS = 0.5  # weight of words beside codes, as in a search of long texts
_FEWEST_WORDS = 8  # words of a text with one sentence that can be cut between words
_HALVES_AT_ONCE = 256


@dataclass(frozen=True)
class Found:
    """How often a first half finds its own second half: first (`hit_1`), among the first 10, and the mean of 1/rank."""

    name: str
    hit_1: float
    hit_10: float
    mrr: float


@dataclass(frozen=True)
class Halves:
    """The results for `count` texts: keywords, models, hybrid searches. Empty for fewer than `FEWEST` texts."""

    count: int
    found: list[Found]

    @property
    def best(self) -> Found:
        """The search with the highest share of first hits; the earlier one of equal ones."""
        return max(self.found, key=lambda each: each.hit_1)

    def lines(self) -> list[str]:
        """Make a table and a recommendation, as lines of text."""
        if not self.found:
            return [
                f"{self.count} texts can be cut in two, but {FEWEST} are needed to compare searches on your own text"
            ]
        error = math.sqrt(self.best.hit_1 * (1 - self.best.hit_1) / self.count)
        width = max(len(each.name) for each in self.found)
        head = (
            f"Which search finds more in your texts? The first half of each looks for its second half ({self.count:,}):"
        )
        table = [
            f"  {each.name:{width}}  {each.hit_1:6.1%} first  {each.hit_10:6.1%} in ten  {each.mrr:.3f} mean of 1/rank"
            for each in self.found
        ]
        advice = f"Recommended: {self.best.name}. The standard error of these shares is {error:.1%} at most."
        return [head, *table, advice]


def compare(texts: Sequence[str], models: Mapping[str, SentenceModel], *, seed: int = 0, most: int = 1000) -> Halves:
    """Compare keywords, each model's codes, and both together, on at most `most` random texts.

        compare(held_out, {"english-small": smim.load("english-small")}).lines()

    No model should have been trained on these texts. A text is cut between sentences, or between words if it has only
    one sentence. Texts with one sentence of fewer than 8 words are left out.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    halves = [half for i in order if (half := cut(texts[i])) is not None][:most]
    if len(halves) < FEWEST:
        return Halves(len(halves), [])
    firsts, seconds = ([half[i] for half in halves] for i in (0, 1))
    vectorizer = TfidfVectorizer().fit([*firsts, *seconds])
    by_tfidf = (vectorizer.transform(firsts) @ vectorizer.transform(seconds).T).toarray()
    by_words, of_codes = word_similarities(firsts, seconds), dict[str, np.ndarray]()
    for name, model in models.items():
        of_codes[name] = code_similarities(model, firsts, seconds)
    found = [measure(KEYWORDS, by_tfidf)]
    found += [measure(name, by_code) for name, by_code in of_codes.items()]
    for name, by_code in of_codes.items():
        both = (1 - _SHARE_OF_WORDS) * by_code + _SHARE_OF_WORDS * by_words
        found.append(measure(f"{name} and keywords (hybrid)", both))
    return Halves(len(halves), found)


def share_that_comes_back(model: SentenceModel, sentences: Sequence[str], *, most: int = 500) -> float:
    """Compute the share of the first `most` sentences that a model decodes word for word from their mean codes.

    The comparison uses the tokenizer's white space. Sentences with more than 60 tokens are left out.
    """
    ids = (model.tokenizer.encode(text) for text in sentences)
    short = list(islice((each for each in ids if 0 < len(each) <= SPLIT_ABOVE), most))
    codes = model.posterior_of_ids(short).mean.numpy()
    texts = [model.tokenizer.decode(each) for each in short]
    return float(np.mean([text == back for text, back in zip(texts, model.decode(codes), strict=True)]))


def cut(text: str) -> tuple[str, str] | None:
    """Cut a text into halves between sentences, or between words if it has one sentence. None for short texts."""
    parts = sentences_of(text)
    if len(parts) < 2:
        parts = text.split()
        if len(parts) < _FEWEST_WORDS:
            return None
    middle = (len(parts) + 1) // 2
    return " ".join(parts[:middle]), " ".join(parts[middle:])


def measure(name: str, similarities_NN: np.ndarray) -> Found:
    """Measure how often the diagonal is the most similar entry of its row. Ties count against it."""
    own_N1 = similarities_NN.diagonal()[:, None]
    rank_N = (similarities_NN >= own_N1).sum(1)
    return Found(name, float((rank_N == 1).mean()), float((rank_N <= 10).mean()), float((1 / rank_N).mean()))


def code_similarities(model: SentenceModel, firsts: list[str], seconds: list[str]) -> np.ndarray:
    """Compute similarities by the model's own metric, from 0 to 1, [N, N]; of meaning parts if codes have them."""
    width = model.dimension_of("meaning" if model.has_meaning_part else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextsChanged)
        one, other = (np.nan_to_num(model.encode(each, empty="skip"))[:, :width] for each in (firsts, seconds))
    parts = (
        similarity(model.use.metric, distances(model.use.metric, one[start : start + _HALVES_AT_ONCE], other))
        for start in range(0, len(one), _HALVES_AT_ONCE)
    )
    return np.concatenate(list(parts))


def word_similarities(firsts: list[str], seconds: list[str]) -> np.ndarray:
    """Compute BM25 scores of the second halves [N, N], relative to that of the first half itself, at most 1."""
    words = [words_of(text) for text in seconds]
    lengths = np.array([len(each) for each in words])
    holding: dict[str, dict[int, int]] = {}
    for row, each in enumerate(words):
        for word in each:
            counts_of = holding.setdefault(word, {})
            counts_of[row] = counts_of.get(row, 0) + 1
    found = np.zeros((len(firsts), len(seconds)))
    for row, text in enumerate(firsts):
        counts = {word: len(holding.get(word, ())) for word in words_of(text)}
        query = WordQuery(text, Statistics(len(seconds), int(lengths.sum()), counts))
        for word in query.counts:
            of = holding.get(word, {})
            rows = np.fromiter(of, np.int64, len(of))
            found[row, rows] += query.gain(word, np.fromiter(of.values(), np.float64, len(of)), lengths[rows])
        found[row] /= query.most or 1.0
    return np.minimum(found, 1.0)
