"""A corpus whose sentences have second views: a unit vector each, and as a pair the sentence of the next row."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from smim.text.batch import Batch, Sentences
from smim.text.corpus import Corpus, Split

DIMENSION = 6


def unit_vectors(rows: np.ndarray) -> torch.Tensor:
    """A unit vector of each row number, fp32 [N, 6]."""
    drawn = np.stack([np.random.default_rng(int(row)).normal(size=DIMENSION) for row in rows])
    return torch.nn.functional.normalize(torch.from_numpy(drawn).float(), dim=-1)


@dataclass(frozen=True)
class ViewedSentences(Sentences):
    others: Sentences = field(kw_only=True)

    def batch(self, places, *, max_length: int | None = None) -> Batch:
        batch = super().batch(places, max_length=max_length)
        pair = self.others.batch(places, max_length=max_length)
        return replace(batch, view=unit_vectors(batch.rows.numpy()), pair=pair)


@dataclass(frozen=True)
class ViewedSplit(Split):
    def read(self, rows) -> ViewedSentences:
        read, others = super().read(rows), super().read((np.asarray(rows) + 1) % len(self))
        return ViewedSentences(read.rows, read.ids, others=others)


@dataclass(frozen=True)
class ViewedCorpus(Corpus):
    """The splits that are not `plain` have both views."""

    plain: tuple[str, ...] = ()

    def split(self, name: str) -> Split:
        split = super().split(name)
        return split if name in self.plain else ViewedSplit(**vars(split))


def viewed(corpus: Corpus, *plain: str) -> ViewedCorpus:
    return ViewedCorpus(corpus.directory, corpus.card, corpus.tokenizer, plain)
