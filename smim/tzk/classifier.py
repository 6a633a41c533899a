"""Logistic regression, which judges samples without knowing of the flows that drew them.

Shapes: N sentences, F features, K classes, V words of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Of the squared weights, beside the mean loss of a sentence.
_PENALTY = 1e-4


@dataclass(frozen=True)
class LogisticRegression:
    """The likeliest class is that of the highest features weight + bias; `weight` [F, K], `bias` [K]."""

    weight: Tensor
    bias: Tensor

    def predict(self, features_NF: Tensor) -> Tensor:
        """The likeliest class of each sentence, int64 [N]."""
        return (features_NF @ self.weight + self.bias).argmax(-1)


def fit_logistic_regression(features_NF: Tensor, class_N: Tensor, num_classes: int) -> LogisticRegression:
    """By maximum likelihood with a small L2 penalty; each class weighs as much as any other, however frequent.

    The features may be a sparse matrix. Each class has at least one sentence.
    """
    weight = torch.zeros(features_NF.shape[1], num_classes, requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    class_weight = 1 / torch.bincount(class_N, minlength=num_classes)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(features_NF @ weight + bias, class_N, weight=class_weight)
        value = value + _PENALTY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return LogisticRegression(weight.detach(), bias.detach())


def words_of(sentences: Sequence[np.ndarray], vocabulary_size: int) -> Tensor:
    """Which words of the vocabulary each sentence of token ids has: a sparse matrix of ones, fp32 [N, V]."""
    distinct = [np.unique(ids) for ids in sentences]
    row = np.repeat(np.arange(len(distinct)), [len(ids) for ids in distinct])
    places = torch.from_numpy(np.stack([row, np.concatenate(distinct)]).astype(np.int64))
    shape = (len(distinct), vocabulary_size)
    return torch.sparse_coo_tensor(places, torch.ones(places.shape[1]), shape, check_invariants=True)
