"""Sentences measured beside real ones: each figure against a value made by hand, and the errors."""

from math import hypot
from pathlib import Path

import numpy as np
import pytest

from smim.errors import UserError
from smim.evaluation.judge import Judge, make
from smim.evaluation.written import Reader, distinct_2, farthest_cosines, open_teacher

REAL = ["the company sold shares", "a bank bought the new law", "her brother lost a small house"]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    place = tmp_path_factory.mktemp("judge")
    (place / "text.txt").write_text("\n".join([*REAL, "the old minister wrote about a bank"]))
    return make([place / "text.txt"], place / "judge", vocabulary_size=290)


def letters(texts: list[str]) -> np.ndarray:
    """A teacher that sees which letters there are."""
    vectors = np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_distinct_2_counts_each_pair_of_words_once():
    found = distinct_2(["a b c", "A b!", "c"])
    assert found.value == 3 / 4 and found.n == 3


def test_the_error_of_distinct_2_is_the_jackknifes():
    texts = ["a b c", "a b d", "b c b c", "x y", "a b"]
    without = [distinct_2(texts[:i] + texts[i + 1 :]).value for i in range(len(texts))]
    expected = np.sqrt(np.var(without) * (len(texts) - 1))
    assert distinct_2(texts).standard_error == pytest.approx(expected)
    assert distinct_2(["a b"]).standard_error is None and distinct_2(["", "a"]).value == 0


def test_the_cosine_is_that_to_the_farther_source():
    found = farthest_cosines(letters, ["ab", "c"], [["a", "b"], ["c"]])
    assert found == pytest.approx([0.5**0.5, 1])
    assert farthest_cosines(letters, ["a"], [["a", "c"]]) == pytest.approx([0])


def test_figures_of_sentences_are_those_made_by_hand(judge):
    reader = Reader(judge, REAL, teacher=letters, training_text=["The company sold shares", "nothing"])
    written = ["the company sold shares", "<unk> company"]
    found = reader.measure("between", written, sources=[REAL[:2], REAL[1:]])
    assert {name.partition(":")[2] for name in found} == {"between"}
    value = {name.partition(":")[0]: metric.value for name, metric in found.items()}
    nats, words = judge.nats(written)
    real_nats, real_words = judge.nats(REAL)
    assert value["nats_per_word"] == nats.sum() / words.sum()
    assert value["nats_above_real"] == pytest.approx(nats.sum() / words.sum() - real_nats.sum() / real_words.sum())
    assert value["length_ratio"] == pytest.approx((4 / 6 + 4 / 6) / 2)
    assert value["copied"] == value["with_unknown"] == 0.5
    assert value["distinct_2"] == 1 and value["distinct_2_ratio"] == 1
    assert value["cosine_to_source"] == pytest.approx(farthest_cosines(letters, written, [REAL[:2], REAL[1:]]).mean())
    assert all(metric.standard_error is not None and metric.n == 2 for metric in found.values())


def test_pairs_of_words_are_compared_with_those_of_as_many_real_sentences(judge):
    found = Reader(judge, [*REAL[:2], *REAL[:2]]).measure("between", ["a bank", "the company"])
    assert found["distinct_2_ratio:between"].value == 1


def test_errors_of_a_difference_are_those_of_both(judge):
    reader = Reader(judge, REAL)
    found = reader.measure("drawn", ["a bank sold", "house the a"])
    real = reader.measure("real", reader.real)
    both = hypot(*(each.standard_error for each in (found["nats_per_word:drawn"], real["nats_per_word:real"])))
    assert found["nats_above_real:drawn"].standard_error == pytest.approx(both)


def test_what_cannot_be_measured_is_left_out(judge):
    found = Reader(judge, REAL).measure("drawn", ["a bank", "the law"])
    left_out = {"cosine_to_source", "length_ratio", "copied"}
    assert found and not left_out & {name.partition(":")[0] for name in found}


def test_real_sentences_are_not_compared_with_themselves(judge):
    reader = Reader(judge, REAL)
    assert {*reader.measure("real", reader.real)} == {"nats_per_word:real", "distinct_2:real", "with_unknown:real"}


def test_words_in_disorder_are_more_surprising_than_words_in_order(judge):
    disorder = [" ".join(reversed(text.split())) for text in REAL]
    found = Reader(judge, REAL).measure("between", disorder)
    assert found["nats_above_real:between"].value > 0.5


def test_a_directory_that_is_no_teacher_is_one_clear_message(tmp_path: Path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(UserError, match=r"eval\.generativity\.teacher=.*: .* cannot be opened as a model of"):
        open_teacher(str(tmp_path))
