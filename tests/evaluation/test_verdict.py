"""The verdict on a model: which metrics give which, and what it says."""

from typing import Any

import pytest

from smim.evaluation.verdict import judge

# As measured: docs/evaluation.md#the-verdict.
PACKAGED = {"bleu1_mean": 0.997, "exact_match_mean": 0.99, "bleu1_mean_short": 1.0, "collapsed": 0}
REVIEWS = {"bleu1_mean": 0.137, "exact_match_mean": 0.04, "bleu1_mean_short": 0.846, "bleu1_mean_long": 0.105}
COLLAPSED = {"bleu1_mean": 0.255, "exact_match_mean": 0.0, "bleu1_mean_train": 0.289, "collapsed": 1,
             "mutual_information": 0.107, "mutual_information_cap": 5.704}  # fmt: skip
EARLY = {"bleu1_mean": 0.319, "exact_match_mean": 0.0, "bleu1_mean_train": 0.337, "collapsed": 0}
OVER = {"bleu1_mean": 0.552, "exact_match_mean": 0.017, "bleu1_mean_train": 0.618}
FAIR = {"bleu1_mean": 0.7, "exact_match_mean": 0.2, "bleu1_mean_train": 0.75, "collapsed": 0}


def report(values: dict[str, float], *, n: int = 300, history: dict[str, Any] | None = None, **model: Any) -> dict:
    known = {"unfinished": False, "fall": 0.0, "train_to_valid": 0.95} | (history or {})
    described = {"objective": "amim", "latent_dim": 32, "epoch": 15, "trained_on": "mine", "train_sentences": 20_000}
    return {
        "metrics": {name: {"value": value, "n": n} for name, value in values.items()},
        "model": described | {"history": known} | model,
        "corpus": {"name": "mine"},
    }


def kind(values: dict[str, float], **described: Any) -> str:
    verdict = judge(report(values, **described))
    assert verdict is not None and verdict.text and verdict.advice
    return verdict.kind


@pytest.mark.parametrize(
    ("values", "described", "expected"),
    [
        (PACKAGED, {"trained_on": "english", "epoch": 1}, "reconstructs"),
        (REVIEWS, {"trained_on": "english", "epoch": 1}, "long_sentences"),
        (COLLAPSED, {"objective": "vae", "history": {"fall": 0.086}}, "collapsed"),
        (EARLY, {"epoch": 2, "history": {"fall": 0.108}}, "undertrained"),
        (OVER, {"history": {"fall": -0.25, "train_to_valid": 0.04}}, "overfitted"),
        (FAIR, {}, "partial"),
        (EARLY, {}, "partial"),
        (FAIR, {"trained_on": "english"}, "other_text"),
    ],
)
def test_models_that_were_measured_get_the_verdict_that_they_deserve(values, described, expected):
    assert kind(values, **described) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bleu1_mean": 0.799}, "partial"),
        ({"bleu1_mean": 0.8}, "reconstructs"),
        ({"bleu1_mean_train": 0.799}, "partial"),
        ({"bleu1_mean_train": 0.801}, "overfitted"),
        ({"bleu1_mean_short": 0.8, "bleu1_mean_long": 0.599}, "long_sentences"),
        ({"bleu1_mean_short": 0.799, "bleu1_mean_long": 0.599}, "partial"),
        ({"bleu1_mean_short": 0.8, "bleu1_mean_long": 0.6}, "partial"),
        ({"bleu1_mean": 0.85, "bleu1_mean_short": 0.9, "bleu1_mean_long": 0.5}, "long_sentences"),
        ({"bleu1_mean": 0.9, "collapsed": 1}, "reconstructs"),
    ],
)
def test_the_thresholds_are_those_of_the_docs(change, expected):
    assert kind(FAIR | change) == expected


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ({"unfinished": True}, "undertrained"),
        ({"fall": 0.02}, "undertrained"),
        ({"fall": 0.019}, "partial"),
        ({"train_to_valid": 0.69}, "overfitted"),
        ({"train_to_valid": 0.71}, "partial"),
        ({"train_to_valid": 0.69, "fall": 0.02}, "undertrained"),
        ({"train_to_valid": 0.69, "unfinished": True}, "undertrained"),
        ({"unfinished": None, "fall": None, "train_to_valid": None}, "partial"),
    ],
)
def test_the_losses_of_the_training_decide_where_sentences_do_not_come_back(history, expected):
    assert kind(FAIR, history=history) == expected
    assert kind(PACKAGED, history=history) == "reconstructs"


def test_few_epochs_are_too_few_only_where_training_sentences_do_not_come_back():
    assert kind(FAIR, epoch=4) == "undertrained" and kind(FAIR, epoch=5) == "partial"
    without = {name: value for name, value in FAIR.items() if name != "bleu1_mean_train"}
    assert kind(without, epoch=1) == "partial"


def test_a_gap_within_two_standard_errors_is_none():
    described = report(FAIR | {"bleu1_mean_train": 0.82})
    for error, expected in ((0.04, "overfitted"), (0.05, "partial")):
        for name in ("bleu1_mean", "bleu1_mean_train"):
            described["metrics"][name]["standard_error"] = error
        verdict = judge(described)
        assert verdict is not None and verdict.kind == expected


def test_another_corpus_says_nothing_of_the_training():
    assert kind(FAIR | {"bleu1_mean_train": 0.9}, trained_on="english", history={"unfinished": True}) == "other_text"


def test_vectors_language_models_few_sentences_and_reports_without_reconstruction_have_no_verdict():
    assert judge(report({"rmse": 0.1, "collapsed": 1})) is None
    assert judge(report(PACKAGED, n=19)) is None and judge(report(PACKAGED, n=20)) is not None
    assert judge(report(FAIR, objective="language_model")) is None


def test_a_report_of_a_model_that_says_little_has_a_verdict():
    bare = {"objective": "autoencoder", "latent_dim": 8, "epoch": 0}
    verdict = judge({"metrics": report({"bleu1_mean": 0.3})["metrics"], "model": bare, "corpus": {"name": "mine"}})
    assert verdict is not None and verdict.kind == "partial"


def test_the_advice_names_what_to_type():
    def advice(values: dict[str, float], **described: Any) -> str:
        verdict = judge(report(values, **described))
        assert verdict is not None
        return verdict.advice

    assert "`objective=amim` instead of `objective=vae`" in advice(COLLAPSED, objective="vae", epoch=2)
    assert "train.resume=auto" in advice(COLLAPSED, epoch=2)
    assert "Train again with `model=superposition" in advice(COLLAPSED)
    assert "Train longer" in advice(COLLAPSED, architecture="superposition, word_dropout 0.1")
    assert "`train.resume=auto train.max_epochs=30`" in advice(EARLY, history={"fall": 0.1})
    assert advice(EARLY, history={"unfinished": True}).endswith("with `train.resume=auto`.")
    assert "`model.latent_dim=64` or with `model=superposition train=adamw`" in advice(FAIR)
    for values in (FAIR, OVER | {"bleu1_mean_train": 0.7}):
        assert "model=superposition" in advice(values)
        assert "model=superposition" not in advice(values, architecture="superposition")
    assert "corpus.split_sentences=true" in advice(REVIEWS)


def test_a_small_training_set_is_named_and_the_packaged_model_offered():
    for values in (COLLAPSED, EARLY, FAIR):
        small, large = (judge(report(values, train_sentences=num)) for num in (900, 90_000))
        assert small is not None and large is not None
        assert "900 training sentences are few" in small.advice and "english-small" in small.advice
        assert "english-small" not in large.advice
    overfitted = judge(report(OVER, train_sentences=903, history={"fall": -0.1, "train_to_valid": 0.04}))
    assert overfitted is not None and "903 sentences" in overfitted.text and "english-small" in overfitted.advice


def test_many_unknown_words_are_named_whatever_the_verdict():
    for share, named in ((0.1, True), (0.09, False), (None, False)):
        described = report(PACKAGED)
        described["corpus"]["unknown_share"] = share
        verdict = judge(described)
        assert verdict is not None and ("corpus.tokenizer.kind=unigram" in verdict.advice) is named


def test_shares_are_rounded_down():
    verdict = judge(report(PACKAGED))
    assert verdict is not None and "99 % of a sentence's words" in verdict.text
    nothing = judge(report(EARLY))
    assert nothing is not None and "no sentence comes back word for word" in nothing.text
