"""The judges of samples: logistic regressions trained on real sentences, independent of the flows.

Shapes: N sentences, T dimensions of a code.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from smim.errors import UserError
from smim.generation import DECODED_LENGTH, SentenceModel
from smim.model.distributions import DiagonalGaussian
from smim.text.tokenizer import UNK_ID
from smim.tzk.codes import Codes, some_rows
from smim.tzk.labels import Label, values

_FEWEST = 10
_PENALTY = 1e-4  # factor of half the squared weights, which are added to the mean loss per sentence
UNKNOWN = -1


@dataclass(frozen=True)
class Sentences:
    """The token ids and mean codes (fp32 [N, T]) of sentences."""

    ids: list[np.ndarray]
    codes: Tensor

    @property
    def distinct(self) -> float:
        """The number of distinct sentences divided by N."""
        return len({tuple(ids) for ids in self.ids}) / len(self.ids)

    def words(self, vocabulary_size: int) -> csr_array:
        """A sparse matrix [N, vocabulary_size] with ones for the words of each sentence."""
        distinct = [np.unique(ids) for ids in self.ids]
        columns, ends = np.concatenate(distinct), np.cumsum([0, *map(len, distinct)])
        return csr_array((np.ones(len(columns)), columns, ends), shape=(len(distinct), vocabulary_size))


class Sample:
    """A limited number of random sentences of a split, with their labels."""

    def __init__(self, codes: Codes, most: int, *, seed: int) -> None:
        self.split = codes.split
        self.rows = some_rows(np.arange(len(codes.split)), most, seed)
        self.ids = codes.split.ids(self.rows)
        self.posterior: DiagonalGaussian = codes.posterior(self.rows)

    def has(self, label: Label) -> Tensor:
        """Whether each sentence has a label: 1, 0, or `UNKNOWN` without a value in the column; int64 [N]."""
        found = values(self.split, label.column).take(self.rows).to_pylist()
        return torch.tensor([UNKNOWN if value is None else int(value == label.value) for value in found])

    def sentences(self, rows: Tensor) -> Sentences:
        """Select sentences by a mask, bool [N]."""
        return Sentences([self.ids[i] for i in rows.nonzero().squeeze(-1).tolist()], self.posterior.mean[rows])


class Judge:
    """A classifier that predicts whether sentences have a label, from their mean codes and from their words.

    In training, sentences with and without the label have the same total weight.
    """

    def __init__(self, train: Sample, label: Label, *, vocabulary_size: int) -> None:
        """Raise `UserError` if fewer than ten training sentences have the label, or fewer than ten lack it."""
        has = train.has(label)
        known = train.sentences(has != UNKNOWN)
        classes = has[has != UNKNOWN]
        absent, present = torch.bincount(classes, minlength=2).tolist()
        if min(absent, present) < _FEWEST:
            raise UserError(
                f"{present:,} of {len(has):,} sentences of {train.split.name!r} have {label}, {absent:,} do not; "
                f"the report needs {_FEWEST} of each, so give a corpus with more of them"
            )
        self.vocabulary_size = vocabulary_size
        self.by_code = make_pipeline(StandardScaler(), classifier(len(classes))).fit(known.codes, classes)
        self.by_words = classifier(len(classes)).fit(known.words(vocabulary_size), classes)

    def have(self, sentences: Sentences) -> dict[str, Tensor]:
        """Predict which sentences have the label, from their `codes` and from their `words`: bool [N] each."""
        predicted = {
            "codes": self.by_code.predict(sentences.codes),
            "words": self.by_words.predict(sentences.words(self.vocabulary_size)),
        }
        return {by: torch.from_numpy(classes == 1) for by, classes in predicted.items()}


def classifier(num: int) -> LogisticRegression:
    """Make a logistic regression for `num` sentences in which all classes have the same weight."""
    return LogisticRegression(C=1 / (_PENALTY * num), class_weight="balanced", max_iter=1000)


def decoded(model: SentenceModel, codes: Tensor, *, literal: float = 1.0) -> Sentences:
    """Decode codes [N, T] like `SentenceModel.decode`, and encode the sentences again.

    An empty sentence counts as one unknown word.
    """
    limit = model.autoencoder.args.max_length
    texts = model.decode(codes, literal=literal, max_length=min(DECODED_LENGTH, limit), allow_unknown=True)
    ids = [np.array(model.tokenizer.encode(text)[:limit] or [UNK_ID], np.int32) for text in texts]
    return Sentences(ids, model.posterior_of_ids(ids).mean)
