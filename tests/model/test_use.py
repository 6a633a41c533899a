"""How a model is used where nothing else is asked for: what suits it, what it says, what an argument makes of that."""

import pytest

from smim.errors import UserError
from smim.model.decoding import Drawing
from smim.model.use import METRICS, Literal, Sampling, Use, Writing, overlaid, suited
from smim.search import factory

FREE = Literal(interpolate=0.2, candidates=8, temperature=0.7, top_p=0.9)


def test_the_metrics_are_those_of_an_index():
    assert set(METRICS) == set(factory.METRICS)


def test_a_plain_model_is_used_as_models_once_were():
    assert suited({"corpus": "mine", "settings": {}}) == Use()
    assert (Use().metric, Use().perturb_scale, Use().sample.spread()) == ("l2", 10.0, 0.1)


@pytest.mark.parametrize(
    ("settings", "metric"),
    [
        ({"second_view.weight": 1.0}, "cosine"),
        ({"pairs.weight": 0.5}, "cosine"),
        ({"contrast.weight": 1.0}, "cosine"),
        ({"contrast.weight": 0.0, "second_view.loss": "head"}, "l2"),
    ],
)
def test_what_was_trained_for_cosines_is_compared_by_them(settings, metric):
    assert suited({"settings": settings}).metric == metric


def test_a_model_with_a_meaning_part_is_compared_by_cosines_and_writes_freely_between_sentences():
    use = suited({"code_deviation": 0.25}, has_meaning_part=True)
    assert use.metric == "cosine" and use.literal.interpolate == 0.0 and use.literal.candidates > 1
    assert use.sample.spread() == 0.25 and suited({"code_deviation": 0.25}).sample.spread() == 0.1


@pytest.mark.parametrize(("corpus", "answers"), [("yahoocqa", True), ("demo", True), ("ptb", False), (None, False)])
def test_answers_are_offered_after_training_on_questions_with_answers(corpus, answers):
    assert suited({"corpus": corpus}).answers is answers


def test_what_is_given_stands_in_the_place_of_what_suits():
    use = overlaid(suited({}, has_meaning_part=True), {"metric": "l2", "literal": {"interpolate": 0.5}})
    assert (use.metric, use.literal.interpolate, use.literal.sample) == ("l2", 0.5, 0.0)


def test_word_for_word_the_likeliest_words_are_taken_whatever_is_done_otherwise():
    assert FREE.writing() == Writing(1.0, 1, False, Drawing())
    assert FREE.writing(1.0, 3, sample=True, top_p=0.5) == Writing(1.0, 3, True, Drawing(1.0, 0.5))


def test_below_what_is_not_asked_for_is_the_models_own():
    assert FREE.writing(0.9) == Writing(0.9, 8, False, Drawing(0.7, 0.9))
    assert FREE.writing(0, 1, temperature=2) == Writing(0, 1, False, Drawing(2, 0.9))


def test_samples_are_spread_as_asked_or_as_the_model_says_or_of_the_prior():
    assert Sampling(standard_deviation=0.3).spread() == 0.3
    assert Sampling(prior=True).spread() is Sampling().spread(prior=True) is None
    assert Sampling(prior=True).spread(0.5) == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FREE.writing(1.5), "literal is 1.5, but it must be a number of at least 0 and at most 1"),
        (lambda: FREE.writing(float("nan")), "literal is nan"),
        (lambda: FREE.writing("0"), "literal is '0', but it must be a number"),
        (lambda: FREE.writing(0, 0), "candidates is 0, but it must be a whole number from 1 to 256"),
        (lambda: FREE.writing(0, 257), "candidates is 257"),
        (lambda: FREE.writing(temperature=0), "temperature is 0, but it must be a number above 0"),
        (lambda: FREE.writing(top_p=1.1), "top_p is 1.1, but it must be a number above 0 and at most 1"),
        (lambda: Sampling().spread(0.1, prior=True), "leave out the standard deviation, or the prior"),
        (lambda: Use(metric="cosin"), "use.metric is 'cosin'; did you mean 'cosine'"),
        (lambda: Use(perturb_scale=-1.0), "use.perturb_scale is -1.0"),
        (lambda: Literal(interpolate=1.5), "use.literal.interpolate is 1.5, but it must be at most 1"),
        (lambda: Sampling(chain_steps=10**9), "use.sample.chain_steps is 1000000000"),
    ],
)
def test_a_wrong_number_is_one_clear_message(call, message):
    with pytest.raises(UserError, match=message):
        call()
