"""Neighbours by code and by BM25, and how often they are of a sentence's family."""

import numpy as np
import pytest

from smim.evaluation import neighbours


def test_nearest_neighbours_leave_out_the_sentence_itself():
    codes = np.array([[0.0, 0], [0.1, 0], [5, 5], [5.1, 5]], dtype=np.float32)
    assert neighbours.nearest_by_code(codes).tolist() == [1, 0, 3, 2]
    texts = ["red green blue", "red green gold", "one two three", "one two four"]
    assert neighbours.nearest_by_bm25(texts).tolist() == [1, 0, 3, 2]


def test_share_in_family_counts_sentences_with_relatives_only():
    families = ["a", "a", "b", "b", "alone"]
    assert neighbours.share_in_family(np.array([1, 0, 0, 2, 0]), families) == 0.75
    assert neighbours.share_by_chance(families) == pytest.approx(0.25)
