"""Metrics of sentences that any model has written, in comparison with real sentences.

They measure how probable the sentences are for a judge (`smim.evaluation.judge`), and how similar in meaning they are
to their sources, by a teacher's cosine. Others measure length, copies from training text, variety and `<unk>`.

Shapes: W written sentences, T dimensions of a teacher's vectors.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from sklearn.preprocessing import normalize

from smim.evaluation.judge import Judge, fingerprints, words_of
from smim.evaluation.section import Definition, Metric, measure, ratio, scalar
from smim.evaluation.semantics import open_model
from smim.text.tokenizer import UNK

Teacher = Callable[[list[str]], np.ndarray]

# The input: the result of `Reader.read`.
METRICS = [
    Definition("nats_per_word", "nats",
               "-log p per word of the sentences `{label}` under the judge; punctuation marks and ends count as words",
               lambda read: ratio(*read["nats"])),
    Definition("nats_above_real", "nats",
               "nats per word of the sentences `{label}` minus those of the input sentences; best near 0",
               lambda read: _combined(ratio(*read["nats"]), ratio(*read["real_nats"]), lambda a, b: (a - b, 1, 1)),
               title="nats per word above real text, {label}", zero_is_least=False),
    Definition("cosine_to_source", "",
               "teacher's cosine between each sentence of `{label}` and its source; the smaller one for two sources",
               lambda read: read["cosine"], title="cosine to the farther source, {label}", better="higher"),
    Definition("length_ratio", "",
               "number of words of each sentence of `{label}`, divided by that of its longer source",
               lambda read: read["length"]),
    Definition("copied", "", "share of the sentences `{label}` that the training text contains word for word",
               lambda read: read["copied"], better="lower"),
    Definition("distinct_2", "", "share of distinct pairs among all pairs of neighbouring words in `{label}`",
               lambda read: read["distinct"]),
    Definition("distinct_2_ratio", "",
               "share of distinct word pairs in `{label}`, divided by that of as many input sentences",
               lambda read: _combined(read["distinct"], read["real_distinct"],
                                      lambda a, b: (a / b, 1 / b, a / b**2)), better="higher"),
    Definition("with_unknown", "", "share of the sentences `{label}` that contain `<unk>`",
               lambda read: read["unknown"], better="lower"),
]  # fmt: skip


class Reader:
    """Measure sentences that any model has written.

    reader = Reader(judge, texts, teacher=teacher, training_text=train)
    metrics = reader.measure("between", decode(codes), sources=pairs)

    `real`: the input sentences, with which others are compared. `teacher`: a function from n sentences to unit vectors,
    fp32 [n, T]. `training_text`: the sentences that count as copied.
    """

    def __init__(
        self, judge: Judge, real: Sequence[str], *, teacher: Teacher | None = None, training_text: Sequence[str] = ()
    ) -> None:
        self.judge, self.real, self.teacher = judge, real, teacher
        self.training = fingerprints(training_text)

    def measure(self, kind: str, written: Sequence[str], *, sources: Sequence[Sequence[str]] = ()) -> dict[str, Metric]:
        """Compute the metrics of `written` [W], each named `NAME:kind`.

        Metrics that need a teacher or training text are left out without these. `sources`: for each sentence, the one
        or two sentences from which it was made; empty for drawn ones.
        """
        return measure(METRICS, self.read(written, sources), label=kind)

    def read(self, written: Sequence[str], sources: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
        """Compute the values from which `METRICS` are computed."""
        read: dict[str, Any] = {
            "nats": self.judge.nats(written),
            "distinct": distinct_2(written),
            "unknown": np.array([UNK in text for text in written]),
        }
        if written is not self.real:
            read["real_nats"] = self.judge.nats(self.real)
            # Use as many sentences, because in more text a smaller share of the word pairs is distinct.
            read["real_distinct"] = distinct_2(self.real[: len(written)])
        if len(self.training):
            read["copied"] = np.isin(fingerprints(written), self.training)
        if sources:
            longest = [max(len(words_of(source)) for source in each) for each in sources]
            read["length"] = np.array([len(words_of(text)) for text in written]) / longest
            if self.teacher is not None:
                read["cosine"] = farthest_cosines(self.teacher, written, sources)
        return read


def farthest_cosines(teacher: Teacher, written: Sequence[str], sources: Sequence[Sequence[str]]) -> np.ndarray:
    """Compute the smallest cosine between each sentence and its sources, fp64 [W]."""
    every = list(dict.fromkeys(chain(written, *sources)))
    vectors = dict(zip(every, teacher(every), strict=True))
    pairs = zip(written, sources, strict=True)
    return np.array([min(float(vectors[text] @ vectors[each]) for each in own) for text, own in pairs])


def distinct_2(texts: Sequence[str]) -> Metric:
    """Compute the share of distinct pairs among all pairs of neighbouring words (Li et al. 2016).

    The standard error is the jackknife's over sentences.
    """
    pairs = [Counter(pairwise(words_of(text))) for text in texts]
    counts = sum(pairs, Counter())
    distinct, total = len(counts), counts.total()
    alone = np.array([sum(counts[pair] == times for pair, times in own.items()) for own in pairs])
    without = (distinct - alone) / np.maximum(1, total - np.array([own.total() for own in pairs]))
    error = math.sqrt(((without - without.mean()) ** 2).sum() * (len(texts) - 1) / len(texts))
    return scalar(distinct / max(1, total), n=len(texts), standard_error=error if len(texts) > 1 else None)


def _combined(one: Metric, other: Metric, of: Callable[[float, float], tuple[float, float, float]]) -> Metric:
    """Combine two metrics by `of`, which returns the value and its two slopes.

    The standard error is to first order, as if the sentences were independent.
    """
    value, *slopes = of(one.value, other.value)
    errors = [each.standard_error for each in (one, other)]
    known = [slope * error for slope, error in zip(slopes, errors, strict=True) if error is not None]
    return scalar(value, n=one.n, standard_error=math.hypot(*known) if len(known) == len(errors) else None)


def open_teacher(name: str) -> Teacher:
    """Open a sentence-transformers model that gives unit vectors. Raises `UserError` like `open_model`."""
    encode = open_model(name, setting="eval.generativity.teacher")
    return lambda texts: normalize(encode(texts))
