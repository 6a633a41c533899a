"""Neighbours by code and by BM25, and how often they are of a sentence's label."""

import numpy as np
import pytest

from smim.evaluation import neighbours


def test_nearest_neighbours_leave_out_the_sentence_itself():
    codes = np.array([[0.0, 0], [0.1, 0], [5, 5], [5.1, 5]], dtype=np.float32)
    assert neighbours.nearest_by_code(codes).tolist() == [1, 0, 3, 2]
    texts = ["red green blue", "red green gold", "one two three", "one two four"]
    assert neighbours.nearest_by_bm25(texts).tolist() == [1, 0, 3, 2]


def test_the_share_of_the_same_label_counts_sentences_whose_label_has_others():
    labels = ["a", "a", "b", "b", "alone"]
    assert neighbours.share_of_same_label(np.array([1, 0, 0, 2, 0]), labels) == 0.75
    assert neighbours.share_by_chance(labels) == pytest.approx(0.25)
