"""Who judges samples: logistic regressions on real training sentences, which know nothing of the flows.

Shapes: N sentences, T dimensions of a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smim.errors import UserError
from smim.generation import DECODED_LENGTH, SentenceModel
from smim.model.distributions import DiagonalGaussian
from smim.text.tokenizer import UNK_ID
from smim.tzk.classifier import fit_logistic_regression, words_of
from smim.tzk.codes import Codes, some_rows
from smim.tzk.labels import values

_FEWEST = 10
UNKNOWN = -1


@dataclass(frozen=True)
class Sentences:
    """Token ids and mean codes, fp32 [N, T], of sentences."""

    ids: list[np.ndarray]
    codes: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def distinct(self) -> float:
        """The share of them that is left when each is counted once."""
        return len({tuple(ids) for ids in self.ids}) / len(self)


class Sample:
    """At most so many random sentences of a split, with their labels."""

    def __init__(self, codes: Codes, most: int, *, seed: int) -> None:
        self.split = codes.split
        self.rows = some_rows(np.arange(len(codes.split)), most, seed)
        self.ids = codes.split.ids(self.rows)
        self.posterior: DiagonalGaussian = codes.posterior(self.rows)

    def classes(self, column: str, named: Sequence[str]) -> Tensor:
        """Which of the `named` values each sentence has, as a number, one more for any other value: int64 [N].

        `UNKNOWN` where it has none.
        """
        numbers = {value: number for number, value in enumerate(named)}
        found = values(self.split, column).take(self.rows).to_pylist()
        return torch.tensor([UNKNOWN if value is None else numbers.get(value, len(named)) for value in found])

    def sentences(self, rows: Tensor) -> Sentences:
        """Those that a mask, bool [N], picks."""
        return Sentences([self.ids[i] for i in rows.nonzero().squeeze(-1).tolist()], self.posterior.mean[rows])


class Judge:
    """Tells which value of a label column a sentence has, by its mean code and by its words."""

    def __init__(self, train: Sample, column: str, named: Sequence[str], *, vocabulary_size: int) -> None:
        """`named` are the values that are told apart, all others being one class.

        Raises `UserError` where the training sentences hold fewer than ten of one.
        """
        classes = train.classes(column, named)
        known = train.sentences(classes != UNKNOWN)
        classes = classes[classes != UNKNOWN]
        counts = torch.bincount(classes, minlength=len(named)).tolist()
        for value, count in zip(named, counts, strict=False):
            if count < _FEWEST:
                raise UserError(
                    f"only {count} of {len(train.rows):,} sentences of {train.split.name!r} have {column}={value}: "
                    "too few to learn to judge it from"
                )
        self.numbers = {value: number for number, value in enumerate(named)}
        self.vocabulary_size = vocabulary_size
        self.center, self.scale = known.codes.mean(0), known.codes.std(0).clamp(min=1e-8)
        self.by_code = fit_logistic_regression(self._standardized(known), classes, len(counts))
        self.by_words = fit_logistic_regression(words_of(known.ids, vocabulary_size), classes, len(counts))

    def have(self, sentences: Sentences, value: str) -> dict[str, Tensor]:
        """Which sentences are taken to have a value, by their `codes` and by their `words`: bool [N] each."""
        predicted = {
            "codes": self.by_code.predict(self._standardized(sentences)),
            "words": self.by_words.predict(words_of(sentences.ids, self.vocabulary_size)),
        }
        return {name: classes == self.numbers[value] for name, classes in predicted.items()}

    def _standardized(self, sentences: Sentences) -> Tensor:
        return (sentences.codes - self.center) / self.scale


def decoded(model: SentenceModel, codes: Tensor) -> Sentences:
    """The sentences of codes [N, T], the likeliest word at each step, encoded again.

    One that decodes to nothing counts as one unknown word.
    """
    limit = model.autoencoder.args.max_length
    texts = model.decode(codes, max_length=min(DECODED_LENGTH, limit))
    ids = [np.array(model.tokenizer.encode(text)[:limit] or [UNK_ID], np.int32) for text in texts]
    return Sentences(ids, model.posterior_of_ids(ids).mean)
