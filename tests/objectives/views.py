"""A corpus whose sentences have second views: a vector by their words, and as a pair the sentence of the next row."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from smim.text.batch import Batch, Sentences
from smim.text.corpus import Corpus, Split
from smim.text.tokenizer import PAD_ID

DIMENSION = 6


def view_of(batch: Batch) -> torch.Tensor:
    """The direction of the sum of a vector for each word, fp32 [B, 6]."""
    table = torch.randn(1000, DIMENSION, generator=torch.Generator().manual_seed(0))
    real = (batch.tokens != PAD_ID)[..., None]
    return torch.nn.functional.normalize((table[batch.tokens] * real).sum(1), dim=-1)


@dataclass(frozen=True)
class ViewedSentences(Sentences):
    others: Sentences = field(kw_only=True)

    def batch(self, places, *, max_length: int | None = None) -> Batch:
        batch = super().batch(places, max_length=max_length)
        pair = self.others.batch(places, max_length=max_length)
        return replace(batch, view=view_of(batch), pair=pair)


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
