"""The benchmark of the distance of section 7.6: controls of length, question and word order."""

import gzip

import numpy as np
import pytest

import smim
from benchmarks import answer_distance
from smim.evaluation import answering
from smim.evaluation.answering import Candidates


def candidates(*answers: str, questions: tuple[str, ...] = ("who ran", "what is it")) -> Candidates:
    """As many answers to each question as fit; the first is right."""
    each = len(answers) // len(questions)
    groups = np.repeat(np.arange(len(questions)), each)
    right = np.arange(len(answers)) % each == 0
    return Candidates(groups, [questions[group] for group in groups], list(answers), right, 0)


def test_answers_are_cut_to_the_shortest_of_their_own_question():
    found = answer_distance.cut_to_equal(candidates("a b c", "Don't, she said", "it is", "a"))
    assert found.answers == ["a b c", "don't , she", "it", "a"]
    assert answer_distance.num_words(found).tolist() == [3, 3, 1, 1]


def test_a_right_answer_stands_against_the_right_answer_of_another_question():
    found = answer_distance.against_other_answers(candidates("a", "b", "c", "d"))
    assert found.questions == ["who ran", "who ran", "what is it", "what is it"]
    assert found.answers == ["a", "c", "c", "a"]
    assert found.right.tolist() == [True, False, True, False] and found.groups.tolist() == [0, 0, 1, 1]


def test_correlations_are_within_questions():
    pairs = candidates("a", "b", "c", "d", "e", "f")
    rising = np.array([1.0, 2, 3, 30, 20, 10])
    assert answer_distance.correlation(rising, np.array([5.0, 6, 7, 3, 2, 1]), pairs)["value"] == pytest.approx(1)
    # Over all six pairs, this would be positive: the second question has larger values in both.
    assert answer_distance.correlation(rising, np.array([3.0, 2, 1, 10, 20, 30]), pairs)["value"] == pytest.approx(-1)


def test_methods_change_what_they_name(tiny_model):
    model = smim.load(tiny_model)
    pairs = candidates("the bank sold", "a new law shares", "her brother lost", "the company")
    scores = answer_distance.model_scores(model, pairs)
    other = answer_distance.model_scores(model, candidates(*pairs.answers, questions=("what is it", "who ran")))
    assert scores["other_question"] == pytest.approx(other["distance"])
    sigma = answer_distance.posteriors(model, pairs)[1].standard_deviation
    assert (scores["distance"] != scores["distance_sigma_1"]).all() and (sigma != 1).all()
    assert (scores["distance"] != scores["shuffled"]).any()


def test_length_ranks_the_longest_answer_first(tiny_model):
    pairs = candidates("the bank sold shares", "a law", "her", "the company lost")
    length = answer_distance.references(smim.load("english-small"), pairs)["length"]
    assert answering.ranks(length[:, None], pairs.right, pairs.groups).tolist() == [[1], [2]]


def test_training_texts_hold_right_answers_and_no_question_that_is_evaluated(tmp_path):
    files = {
        "qa_yahoo_derived/yahooqa_derived.train.tsv.gz": "0\t1\twho ?\tme _UNK\n0\t0\twho ?\tyou\n1\t1\tWhy ?\tso\n",
        "qa_yahoo_derived/yahooqa_derived.dev.tsv.gz": "0\t1\twhy ?\tso\n",
        "qa_yahoo_derived/yahooqa_derived.test.tsv.gz": "0\t1\twhere ?\there\n",
        "qa_yahoocqa_subset/yahoocqa_subset.train.tsv.gz": "0\t1\tHow old\tten\n",
        "qa_yahoocqa_subset/yahoocqa_subset.test.tsv.gz": "0\t1\twhen\tnow\n",
        "yahoo/yahoo.valid.txt.gz": "which one ? this\nwhen ? today\nno question\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with gzip.open(tmp_path / name, "wt") as file:
            file.write(content)
    answer_distance.texts(tmp_path, tmp_path / "texts.txt")
    assert (tmp_path / "texts.txt").read_text() == "who ? me <unk>\nHow old ? ten\nwhich one ? this\n"
