"""Measures of sentences that a model has written, compared with real ones.

They are -log p under a judge (`smim.evaluation.judge`), the cosine to their sources under a teacher, and the length.
Further measures are the share that was copied, the share of distinct word pairs, and the share with `<unk>`.

Shapes: W sentences that were written, T dimensions of a teacher's vectors.
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

# Of what `Reader.read` gives.
METRICS = [
    Definition("nats_per_word", "nats", "-log p a word of the sentences `{label}` under the judge, marks and ends too",
               lambda read: ratio(*read["nats"])),
    Definition("nats_above_real", "nats", "the same less that of the input sentences; best near 0",
               lambda read: _combined(ratio(*read["nats"]), ratio(*read["real_nats"]), lambda a, b: (a - b, 1, 1)),
               title="nats a word above real text, {label}", zero_is_least=False),
    Definition("cosine_to_source", "", "teacher's cosine of the sentences `{label}` to their source, the lesser to two",
               lambda read: read["cosine"], title="cosine to the farther source, {label}", better="higher"),
    Definition("length_ratio", "", "words of the sentences `{label}` for each word of their longer source",
               lambda read: read["length"]),
    Definition("copied", "", "share of the sentences `{label}` that stand word for word in the training text",
               lambda read: read["copied"], better="lower"),
    Definition("distinct_2", "", "distinct pairs of neighbouring words in the sentences `{label}`, of all pairs",
               lambda read: read["distinct"]),
    Definition("distinct_2_ratio", "", "the same against that of as many input sentences",
               lambda read: _combined(read["distinct"], read["real_distinct"],
                                      lambda a, b: (a / b, 1 / b, a / b**2)), better="higher"),
    Definition("with_unknown", "", "share of the sentences `{label}` with `<unk>`",
               lambda read: read["unknown"], better="lower"),
]  # fmt: skip


class Reader:
    """Measures sentences that something has written, whatever it is.

    reader = Reader(judge, texts, teacher=teacher, training_text=train)
    metrics = reader.measure("between", decode(codes), sources=pairs)

    `real`: the input sentences that others are compared with. `teacher` gives unit vectors fp32 [n, T] of n sentences.
    """

    def __init__(
        self, judge: Judge, real: Sequence[str], *, teacher: Teacher | None = None, training_text: Sequence[str] = ()
    ) -> None:
        self.judge, self.real, self.teacher = judge, real, teacher
        self.training = fingerprints(training_text)

    def measure(self, kind: str, written: Sequence[str], *, sources: Sequence[Sequence[str]] = ()) -> dict[str, Metric]:
        """The metrics of `written` [W], each named `NAME:kind`; those that need a teacher or text are left out without.

        `sources`: of each, the one or two sentences that it should mean something of; none for drawn ones.
        """
        return measure(METRICS, self.read(written, sources), label=kind)

    def read(self, written: Sequence[str], sources: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
        """What `METRICS` are of."""
        read: dict[str, Any] = {
            "nats": self.judge.nats(written),
            "distinct": distinct_2(written),
            "unknown": np.array([UNK in text for text in written]),
        }
        if written is not self.real:
            read["real_nats"] = self.judge.nats(self.real)
            # Of as many sentences: the more there are, the fewer of their pairs of words are new.
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
    """The smallest cosine of each sentence to its sources, fp64 [W]."""
    every = list(dict.fromkeys(chain(written, *sources)))
    vectors = dict(zip(every, teacher(every), strict=True))
    pairs = zip(written, sources, strict=True)
    return np.array([min(float(vectors[text] @ vectors[each]) for each in own) for text, own in pairs])


def distinct_2(texts: Sequence[str]) -> Metric:
    """Distinct pairs of neighbouring words of all pairs (Li et al. 2016), with the jackknife's standard error."""
    pairs = [Counter(pairwise(words_of(text))) for text in texts]
    counts = sum(pairs, Counter())
    distinct, total = len(counts), counts.total()
    alone = np.array([sum(counts[pair] == times for pair, times in own.items()) for own in pairs])
    without = (distinct - alone) / np.maximum(1, total - np.array([own.total() for own in pairs]))
    error = math.sqrt(((without - without.mean()) ** 2).sum() * (len(texts) - 1) / len(texts))
    return scalar(distinct / max(1, total), n=len(texts), standard_error=error if len(texts) > 1 else None)


def _combined(one: Metric, other: Metric, of: Callable[[float, float], tuple[float, float, float]]) -> Metric:
    """A function of two metrics with its slopes: their errors, to first order, as of independent sentences."""
    value, *slopes = of(one.value, other.value)
    errors = [each.standard_error for each in (one, other)]
    known = [slope * error for slope, error in zip(slopes, errors, strict=True) if error is not None]
    return scalar(value, n=one.n, standard_error=math.hypot(*known) if len(known) == len(errors) else None)


def open_teacher(name: str) -> Teacher:
    """The unit vectors of a sentence-transformers model; raises `UserError` as `open_model` does."""
    encode = open_model(name, setting="eval.generativity.teacher")
    return lambda texts: normalize(encode(texts))
