"""Scores of reconstructions against NLTK and sacrebleu called directly."""

import numpy as np
import pytest
import sacrebleu
from nltk.translate.bleu_score import sentence_bleu

from eval import reconstruction
from eval.reconstruction import bleu4_counts, corpus_bleu4, sentence_bleu1, word_accuracy
from smim.model.decoding import decode_ids
from tests.eval.conftest import make_job

REFERENCE = ["the", "cat", "sat", "on", "the", "mat"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "hypothesis", ["the cat sat on the mat", "the dog sat", "the the the the the the the the", "no match at all", ""]
)
def test_bleu1_is_that_of_nltk(hypothesis):
    words = hypothesis.split()
    expected = sentence_bleu([REFERENCE], words, weights=(1, 0, 0, 0)) if words else 0
    assert sentence_bleu1(REFERENCE, words) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0, 1])
def test_corpus_bleu4_from_counts_is_that_of_sacrebleu(shift):
    references = ["the cat sat on the mat today", "a dog ran home in the rain", "short one", "it's a <unk> of 4.5 %"]
    hypotheses = ["the cat sat on the mat", "a dog ran home in the sun", "", "it's a <unk> of 4.5 %"]
    hypotheses = hypotheses[shift:] + hypotheses[:shift]
    counts = [bleu4_counts(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)]
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none", force=True).score / 100
    assert corpus_bleu4(np.array(counts)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("hypothesis", "accuracy"),
    [("the cat sat on the mat", 1), ("the cat sat", 0.5), ("cat sat on the mat", 0), ("the cat sat on the mat x", 1)],
)
def test_word_accuracy_counts_words_in_their_place(hypothesis, accuracy):
    assert word_accuracy(REFERENCE, hypothesis.split()) == accuracy


def test_every_sentence_is_scored_against_itself(tiny_model, tiny_corpus, tmp_path):
    job = make_job(tiny_model, tiny_corpus, tmp_path, num_runs=2, max_length=12)
    scores = reconstruction.reconstruct(job)
    assert scores.sampled.shape == scores.greedy.shape == (10, 2) and scores.bleu4_counts.shape == (10, 10)
    decoded = decode_ids(job.model.autoencoder, job.posterior().mean, 12)
    for row, ids in enumerate(decoded):
        reference = job.model.tokenizer.decode(job.split.ids([row])[0]).split()
        assert scores.from_mean[row] == sentence_bleu1(reference, job.model.tokenizer.decode(ids).split())


def test_the_table_by_length_counts_every_sentence(tiny_model, tiny_corpus, tmp_path):
    job = make_job(tiny_model, tiny_corpus, tmp_path, num_runs=1, max_length=12)
    (tmp_path / "plots").mkdir()
    section = reconstruction.evaluate(job, tmp_path / "plots")
    assert sum(int(row[1]) for row in section.tables[0].rows) == 10
    assert (tmp_path / "plots" / "accuracy_by_length.png").exists()
