"""The classifiers that judge samples."""

import numpy as np
import torch

from smim.tzk.classifier import fit_logistic_regression, words_of


def test_weights_are_where_the_gradient_of_the_stated_loss_is_zero() -> None:
    features, classes = torch.randn(60, 3), torch.arange(60) % 3
    found = fit_logistic_regression(features, classes, 3)
    weight = found.weight.clone().requires_grad_()
    log_p = torch.log_softmax(features @ weight + found.bias, -1)
    # Twenty sentences of each class, so that all weigh the same.
    (-log_p[torch.arange(60), classes].mean() + 1e-4 * weight.square().sum()).backward()
    assert weight.grad is not None and weight.grad.abs().max() < 1e-3


def test_rare_class_weighs_as_much_as_a_frequent_one() -> None:
    """Where nothing tells two classes apart, the bias does not prefer the frequent one."""
    found = fit_logistic_regression(torch.zeros(100, 1), (torch.arange(100) < 5).long(), 2)
    torch.testing.assert_close(found.bias[0], found.bias[1], rtol=0, atol=1e-3)


def test_words_are_counted_once_and_tell_classes_apart() -> None:
    sentences = [np.array(ids) for ids in ([3, 4, 3], [5], [4, 5], [3])]
    words = words_of(sentences, 6)
    assert words.to_dense().tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]]
    classes = torch.tensor([1, 0, 0, 1])
    assert torch.equal(fit_logistic_regression(words, classes, 2).predict(words), classes)
