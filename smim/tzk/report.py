"""A report on a TzK's labels: whether decoded samples have them, and the density of held-out codes.

Two logistic regressions (`judge.py`) predict whether a sentence has a label: one from its mean code (samples are first
encoded again), one from its words. Standard errors only cover the choice of sentences. They do not include errors of
the classifiers, which are measured on real sentences.

Shapes: N sentences.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from smim.errors import UserError, check_seed, check_whole
from smim.text.corpus import Corpus
from smim.tzk.codes import Codes
from smim.tzk.judge import UNKNOWN, Judge, Sample, Sentences, decoded
from smim.tzk.labels import Label
from smim.tzk.model import TzK
from smim.tzk.prior import nll_per_dimension
from smim.tzk.standardization import Standardization
from smim.tzk.training import draw, rows_of

# The numbers of sentences for training the classifiers, and for judging on the held-out split.
_TRAIN, _HELD_OUT = 20_000, 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over sentences and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class LabelReport:
    """The results of one label, or of several together.

    `num_sentences`: the number of held-out sentences that have all labels. `codes` and `words`: the share of sentences
    that each classifier predicts to have all labels. It is given for `unconditioned` samples of p(t), and for
    `samples` with the labels. It is also given for held-out sentences with the labels: decoded from their mean codes
    (`reconstructions`), and original (`sentences`). `distinct`: the share of distinct sentences among the samples.
    `distinct_unconditioned`: the same for samples of p(t).

    The rest is only for a single label, on held-out sentences. `auc`: the probability that p(e = 1|t) is higher for a
    sentence with the label than for one without. `nll`: in nats per dimension at codes with the label, under four
    densities. These are a `gaussian` fitted to all codes, p(t) (`prior`), a `label_gaussian` fitted to the label's
    codes, and p(t|e = 1) (`label`). `gain`: the mean improvement of the last over p(t). `one_code`: the thesis's
    figure (G.2.3), p(t|e = 1, c) at one c ~ p(c|e = 1, t), which is no density.
    """

    labels: list[str]
    num_sentences: int
    codes: dict[str, Estimate]
    words: dict[str, Estimate]
    distinct: float
    distinct_unconditioned: float
    auc: float | None
    nll: dict[str, Estimate] | None


def measure(
    tzk: TzK,
    corpus: Corpus,
    labels: Sequence[str] | None = None,
    *,
    split: str = "test",
    num: int = 1000,
    seed: int = 0,
) -> list[LabelReport]:
    """Judge `num` decoded samples of each label (by default all), and of several given labels together.

    The classifiers are trained on the corpus's `train`. Raises `UserError` if the corpus lacks a label's column, or
    `split` has no sentence with a label.
    """
    check_whole("num", num, least=2)
    check_seed(seed)
    asked = list(dict.fromkeys(tzk.asked(labels)))
    for label in asked:  # before the sentences are encoded
        tzk.knowledge(label)
    bench = _Bench(tzk, corpus, [Label.parse(label) for label in asked], split=split, num=num, seed=seed)
    together = [asked] if labels and len(asked) > 1 else []
    return [bench.measure([label]) for label in asked] + [bench.measure(each) for each in together]


class _Bench:
    """The data and classifiers for all labels."""

    def __init__(self, tzk: TzK, corpus: Corpus, labels: Sequence[Label], *, split: str, num: int, seed: int) -> None:
        self.tzk, self.num, self.seed = tzk, num, seed
        self.train = Sample(Codes(tzk.model, corpus, "train"), _TRAIN, seed=seed)
        self.held_out = Sample(Codes(tzk.model, corpus, split), _HELD_OUT, seed=seed)
        for label in labels:
            has = self.held_out.has(label)
            if (has == 1).sum() < 2 or (has == 0).sum() < 2:
                raise UserError(
                    f"of the {len(has):,} judged sentences of {corpus.name} {split}, {int((has == 1).sum()):,} "
                    f"have {label} and {int((has == 0).sum()):,} do not; give a split with at least two of each"
                )
        vocabulary_size = tzk.model.tokenizer.vocabulary_size
        self.judges = {str(label): Judge(self.train, label, vocabulary_size=vocabulary_size) for label in labels}
        self.literal = tzk.model.use.literal.sample
        self.unconditioned = decoded(tzk.model, tzk.sample_codes(num, seed=seed), literal=self.literal)

    def measure(self, labels: Sequence[str]) -> LabelReport:
        codes = self.tzk.sample_codes(self.num, labels, seed=self.seed)
        samples = decoded(self.tzk.model, codes, literal=self.literal)
        has = torch.stack([self.held_out.has(Label.parse(label)) == 1 for label in labels]).all(0)
        judged = {"unconditioned": self.unconditioned, "samples": samples}
        if has.any():
            sentences = self.held_out.sentences(has)
            judged |= {"reconstructions": decoded(self.tzk.model, sentences.codes), "sentences": sentences}
        shares = {name: self._shares(each, labels) for name, each in judged.items()}
        one = labels[0] if len(labels) == 1 else None
        return LabelReport(
            labels=list(labels),
            num_sentences=int(has.sum()),
            codes={name: share["codes"] for name, share in shares.items()},
            words={name: share["words"] for name, share in shares.items()},
            distinct=samples.distinct,
            distinct_unconditioned=self.unconditioned.distinct,
            auc=None if one is None else self._auc(one),
            nll=None if one is None else self._nll(one),
        )

    def _shares(self, sentences: Sentences, labels: Sequence[str]) -> dict[str, Estimate]:
        """Compute the share of sentences with all labels, by `codes` and by `words`."""
        verdicts = [self.judges[label].have(sentences) for label in labels]
        return {by: _share(torch.stack([verdict[by] for verdict in verdicts]).all(0)) for by in ("codes", "words")}

    def _auc(self, label: str) -> float:
        """Compute the area under the ROC curve of the label's log odds at mean codes."""
        has = self.held_out.has(Label.parse(label))
        known = has != UNKNOWN
        return float(roc_auc_score(has[known], self.tzk.log_odds(self.held_out.posterior.mean[known], [label])))

    def _nll(self, label: str) -> dict[str, Estimate]:
        tzk, parsed = self.tzk, Label.parse(label)
        of_label = Standardization(tzk.prior.dim)
        of_label.fit(rows_of(self.train.posterior, self.train.has(parsed) == 1))
        held_out = rows_of(self.held_out.posterior, self.held_out.has(parsed) == 1)
        codes = draw(held_out, torch.Generator().manual_seed(self.seed))
        prior, given_label = tzk.log_prob(codes), tzk.log_prob(codes, label, seed=self.seed)
        log_probs = {
            "gaussian": tzk.prior.standardization.log_prob(codes),
            "prior": prior,
            "label_gaussian": of_label.log_prob(codes),
            "label": given_label,
            "gain": prior - given_label,
            "one_code": tzk.log_prob_of_code(codes, label, seed=self.seed),
        }
        return {name: Estimate(*nll_per_dimension(each, tzk.prior.dim)) for name, each in log_probs.items()}


def _share(verdicts_N: Tensor) -> Estimate:
    share = float(verdicts_N.double().mean())
    return Estimate(share, math.sqrt(share * (1 - share) / len(verdicts_N)))
