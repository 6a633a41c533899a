"""Classes read from codes by classifiers, and the class shares of samples."""

import numpy as np
import pytest

from smim.evaluation.classes import Classes, class_divergence, read_by_classifiers


def ring_and_centre(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of two classes, a disc and a ring around it: no straight line separates them."""
    random = np.random.default_rng(seed)
    classes = random.integers(2, size=num)
    angle, radius = random.uniform(0, 2 * np.pi, num), np.where(classes, 3.0, 0.5) + 0.1 * random.standard_normal(num)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), classes


def read(train, codes, labelled=100):
    classes = Classes(train[1], codes[1], 2)
    found = read_by_classifiers(train[0], codes[0], classes, labelled=labelled, seed=0)
    return {name: right.mean() for name, right in found.items()}


def test_the_svm_separates_what_a_line_cannot():
    found = read(ring_and_centre(500, 0), ring_and_centre(400, 1))
    assert found["svm"] > 0.99 and found["linear"] == pytest.approx(0.5, abs=0.15)


def test_a_line_separates_shifted_classes_at_any_scale():
    random = np.random.default_rng(0)
    classes = random.integers(2, size=600)
    codes = 1e-4 * (random.standard_normal((600, 3)) + 8 * classes[:, None])
    found = read((codes[:300], classes[:300]), (codes[300:], classes[300:]))
    assert found == {"svm": 1.0, "linear": 1.0}


def test_more_labels_help_the_svm():
    random = np.random.default_rng(0)
    classes = random.integers(2, size=2_400)
    codes = random.standard_normal((2_400, 20)) + 0.5 * classes[:, None]
    train, test = (codes[:2000], classes[:2000]), (codes[2000:], classes[2000:])
    assert read(train, test, labelled=2000)["svm"] > read(train, test, labelled=10)["svm"] + 0.05


def test_nothing_is_read_where_the_labelled_codes_have_one_class():
    assert read((np.zeros((5, 2)), np.zeros(5, int)), (np.zeros((3, 2)), np.zeros(3, int))) == {}


def test_a_label_that_training_lacks_is_never_found():
    train = ring_and_centre(200, 0)
    codes, _ = ring_and_centre(50, 1)
    unknown = Classes(train[1], np.full(50, 2), 2)
    found = read_by_classifiers(train[0], codes, unknown, labelled=100, seed=0)
    assert not found["svm"].any() and not found["linear"].any()


def test_the_divergence_of_classes_is_the_kl_of_their_shares():
    counts, sampled = np.array([30, 70, 0]), np.array([499_999, 499_999, 499_999])
    exact = 0.3 * np.log(0.3 * 3) + 0.7 * np.log(0.7 * 3)
    assert class_divergence(counts, sampled) == pytest.approx(exact, abs=1e-6)
    assert class_divergence(counts, 10**6 * counts) == pytest.approx(0, abs=1e-6)


def test_a_class_that_is_never_sampled_costs_much_but_finitely_much():
    equal = np.array([50, 50])
    assert 2 < class_divergence(equal, np.array([10_000, 0])) < 10
    assert class_divergence(equal, np.array([10**6, 0])) > class_divergence(equal, np.array([10**4, 0]))
