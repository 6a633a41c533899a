"""Figures of a report against the same computed another way."""

import math

import numpy as np
import pytest
import sacrebleu
from nltk.translate.bleu_score import sentence_bleu

from eval import compare, likelihood, neighbours, reconstruction, report
from eval.likelihood import SentenceLikelihood
from eval.reconstruction import Reconstructions
from smim.errors import UserError

LIKELIHOOD = SentenceLikelihood(
    words=np.array([[10.0, 12.0], [20.0, 22.0], [30.0, 26.0]]),
    eos=np.ones((3, 2)),
    kl=np.array([5.0, 6.0, 7.0]),
    lengths=np.array([4, 5, 6]),
)


def test_melbo_is_equation_6_17():
    metrics = likelihood.summarize(LIKELIHOOD, deterministic=False)
    assert metrics["nll"] == pytest.approx([20 + math.log(3)] * 2)
    assert metrics["nll_with_eos"] == pytest.approx(metrics["nll"] + 1)
    assert metrics["nll_elbo"] == pytest.approx([26, 26])


def test_perplexities_divide_by_words_and_by_words_with_eos():
    metrics = likelihood.summarize(LIKELIHOOD, deterministic=False)
    assert metrics["ppl"] == pytest.approx(np.exp(3 * metrics["nll"] / 15))
    assert metrics["ppl_thesis"] == pytest.approx(np.exp(3 * metrics["nll"] / 18))


def test_a_deterministic_model_has_no_elbo():
    assert "nll_elbo" not in likelihood.summarize(LIKELIHOOD, deterministic=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "hypothesis", ["the cat sat on the mat", "the dog sat", "the the the the the the the the", "no match at all", ""]
)
def test_bleu1_is_that_of_nltk(hypothesis):
    reference, words = ["the", "cat", "sat", "on", "the", "mat"], hypothesis.split()
    expected = sentence_bleu([reference], words, weights=(1, 0, 0, 0)) if words else 0
    assert reconstruction.sentence_bleu1(reference, words) == pytest.approx(expected, abs=1e-12)


def test_corpus_bleu4_is_that_of_sacrebleu():
    references = ["the cat sat on the mat today", "a dog ran home in the rain"]
    hypotheses = ["the cat sat on the mat", "a dog ran home in the sun"]
    ones = np.ones((2, 1))
    ours = reconstruction.summarize(Reconstructions(ones, ones, references, hypotheses))
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none", force=True).score / 100
    assert ours["bleu4_corpus_greedy"][0] == pytest.approx(expected)
    assert ours["exact_match_greedy"][0] == 0


def test_standard_error_is_that_of_the_mean_over_runs():
    figure = report.figure("nll", np.array([1.0, 2.0, 3.0]))
    assert figure["value"] == 2 and figure["standard_error"] == pytest.approx(1 / math.sqrt(3))
    assert report.figure("nll", np.array([1.0]))["standard_error"] is None


def test_a_figure_that_is_not_a_number_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="'nll'"):
        report.figure("nll", np.array([1.0, float("nan")]))


@pytest.mark.parametrize(
    ("model", "row"),
    [
        (("ptb", "amim", 512), {"nll": 67.46, "ppl_thesis": 19.53, "bleu1_sampled": 0.679}),
        (("ptb", "vae", 16), {"nll": 113.46, "ppl_thesis": 148.18, "bleu1_sampled": 0.124}),
        (("yahoo", "vae", 32), {"nll": 329.26, "ppl_thesis": 84.81, "bleu1_sampled": 0.181}),
        (("ptb", "autoencoder", 128), {"bleu1_sampled": 0.589}),
        (("ptb", "amim", 64), {}),
        (("demo", "amim", 512), {}),
    ],
)
def test_the_thesis_row_is_that_of_the_same_corpus_method_and_size(model, row):
    assert report.thesis_row(*model) == row


def test_nearest_neighbours_leave_out_the_sentence_itself():
    codes = np.array([[0.0, 0], [0.1, 0], [5, 5], [5.1, 5]], dtype=np.float32)
    assert neighbours.nearest_by_code(codes).tolist() == [1, 0, 3, 2]
    texts = ["red green blue", "red green gold", "one two three", "one two four"]
    assert neighbours.nearest_by_bm25(texts).tolist() == [1, 0, 3, 2]


def test_share_in_family_counts_sentences_with_relatives_only():
    families = ["a", "a", "b", "b", "alone"]
    assert neighbours.share_in_family(np.array([1, 0, 0, 2, 0]), families) == 0.75
    assert neighbours.share_by_chance(families) == pytest.approx(0.25)


def test_reports_of_different_sentences_are_not_compared():
    def fake(name: str) -> dict:
        return {"corpus": {"hash": name, "split": "test", "name": name}}

    with pytest.raises(UserError, match="different sentences"):
        compare.as_table([fake("one"), fake("other")])
