"""The classifiers that judge samples."""

from pathlib import Path

import numpy as np
import torch

import smim
from smim.text.tokenizer import UNK_ID
from smim.tzk.judge import Sentences, classifier, decoded


def test_weights_are_where_the_gradient_of_the_stated_loss_is_zero() -> None:
    features, classes = torch.randn(60, 3, dtype=torch.float64), torch.arange(60) % 2
    found = classifier(60).set_params(tol=1e-10).fit(features, classes)
    weight = torch.from_numpy(found.coef_[0]).requires_grad_()
    logits = features @ weight + found.intercept_[0]
    # Thirty sentences of each class, so that all weigh the same.
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, classes.double())
    (loss + 0.5e-4 * weight.square().sum()).backward()
    assert weight.grad is not None and weight.grad.abs().max() < 1e-5


def test_rare_class_weighs_as_much_as_a_frequent_one() -> None:
    """Where nothing tells two classes apart, the intercept does not prefer the frequent one."""
    found = classifier(100).fit(np.zeros((100, 1)), np.arange(100) < 5)
    np.testing.assert_allclose(found.intercept_, 0, atol=1e-3)


def test_samples_are_judged_with_the_unk_that_they_hold(unknowing_model: Path) -> None:
    model = smim.load(unknowing_model, device="cpu")
    [ids] = decoded(model, model.draw_codes(1, 0.1, seed=0)).ids
    assert UNK_ID in ids.tolist()


def test_words_are_counted_once_and_tell_classes_apart() -> None:
    sentences = Sentences([np.array(ids) for ids in ([3, 4, 3], [5], [4, 5], [3])], torch.zeros(4, 1))
    words = sentences.words(6)
    assert words.toarray().tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]]
    classes = [1, 0, 0, 1]
    assert classifier(4).fit(words, classes).predict(words).tolist() == classes
