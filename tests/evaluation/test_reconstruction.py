"""Scores of reconstructions against NLTK and sacrebleu called directly."""

from dataclasses import replace

import numpy as np
import pytest
import sacrebleu
from nltk.translate.bleu_score import sentence_bleu

import smim
from smim.evaluation import reconstruction
from smim.evaluation.reconstruction import Scores, bleu4_counts, corpus_bleu4, sentence_bleu1, word_accuracy
from smim.evaluation.section import measure
from smim.model import noise
from smim.model.decoding import decode_ids
from smim.text.tokenizer import Tokenizer
from tests.corpora import write_corpus
from tests.evaluation.conftest import make_job

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
    scores, texts, posterior = reconstruction.reconstruct(job), job.split.texts(), job.posterior()
    drawn = [job.draw(posterior, range(10), number=run) for run in range(2)]
    words = [noise.uniform(job.seed, range(10), run, 12) for run in range(2)]

    def decoded(z, uniform=None):
        return [
            job.model.tokenizer.decode(ids)
            for ids in decode_ids(job.model.autoencoder, z, 12, uniform=uniform, allow_unknown=True)
        ]

    def of_each(score, hypotheses):
        return [score(*map(str.split, pair)) for pair in zip(texts, hypotheses, strict=True)]

    assert scores.from_mean.tolist() == of_each(sentence_bleu1, decoded(posterior.mean))
    for run in range(2):
        assert scores.greedy[:, run].tolist() == of_each(sentence_bleu1, decoded(drawn[run]))
        assert scores.sampled[:, run].tolist() == of_each(sentence_bleu1, decoded(drawn[run], words[run]))
    assert scores.accuracy.tolist() == of_each(word_accuracy, decoded(drawn[0]))
    assert scores.bleu4_counts.tolist() == of_each(bleu4_counts, decoded(drawn[0]))
    assert all(len(set(column)) > 1 for column in [scores.from_mean, *scores.greedy.T, *scores.sampled.T])


def test_training_sentences_come_back_as_they_do_where_they_are_evaluated(tiny_model, tiny_corpus, tmp_path):
    jobs = [make_job(tiny_model, tiny_corpus, tmp_path / each, each, num_runs=1) for each in ("train", "test")]
    for job in jobs:
        job.model.config["training"]["corpus"] = "tiny"
    train, test = map(reconstruction.reconstruct, jobs)
    assert train.train_from_mean is None  # they would be compared with themselves
    assert test.train_from_mean is not None and test.train_from_mean.tolist() == train.from_mean.tolist()


def test_training_sentences_that_are_longer_than_what_is_decoded_do_not_count(tiny_model, tiny_corpus, tmp_path):
    job = make_job(tiny_model, tiny_corpus, tmp_path, num_runs=1, max_length=5)
    job.model.config["training"]["corpus"] = "tiny"
    scores = reconstruction.reconstruct(job)
    assert scores.train_from_mean is not None and job.train_split is not None
    assert 0 < len(scores.train_from_mean) == (job.train_split.lengths <= 5).sum() < 40


def test_a_model_of_another_corpus_has_no_training_sentences(tiny_model, tiny_corpus, tmp_path):
    job = make_job(tiny_model, tiny_corpus, tmp_path, num_runs=1)
    job.model.config["training"]["corpus"] = "others"
    assert reconstruction.reconstruct(job).train_from_mean is None


def test_short_and_long_sentences_have_a_mean_where_they_are_enough():
    lengths = np.array([3] * 10 + [20] * 5 + [21] * 10)
    blank = np.zeros(25)
    scores = Scores(lengths, blank[:, None], blank[:, None], np.arange(25.0), blank, blank, np.ones((25, 10)), blank)
    metrics = measure(reconstruction.METRICS, scores)
    assert metrics["bleu1_mean_short"].value == 7 and metrics["bleu1_mean_long"].value == 19.5
    assert "bleu1_mean_train" not in metrics and metrics["bleu1_mean_short"].n == 15
    fewer = replace(scores, lengths=np.array([3] * 9 + [30] * 16))
    assert "bleu1_mean_short" not in measure(reconstruction.METRICS, fewer)


def test_the_samples_are_across_the_lengths_and_what_their_means_give(tiny_model, tiny_corpus, tmp_path, plots):
    job = make_job(tiny_model, tiny_corpus, tmp_path, num_runs=1)
    shown = reconstruction.evaluate(job, plots).samples
    assert shown is not None and len(shown.rows) == 5
    lengths = [int(row[0]) for row in shown.rows]
    assert lengths == sorted(lengths) and {row[1] for row in shown.rows} <= set(job.split.texts())
    means = job.model.posterior([row[1] for row in shown.rows]).mean
    decoded = job.model.decode(means, max_length=job.max_length, allow_unknown=True)
    assert [row[2] for row in shown.rows] == decoded


def test_unk_stays_among_the_words_that_are_scored(unknowing_model, tmp_path):
    tokenizer = Tokenizer.load(unknowing_model / "tokenizer")
    write_corpus(tmp_path / "unknown", {"test": [{"text": "<unk> <unk>"}]}, tokenizer, name="unknown")
    job = make_job(unknowing_model, tmp_path / "unknown", tmp_path, num_runs=1, max_length=2)
    scores = reconstruction.reconstruct(job)
    assert scores.exact.tolist() == scores.from_mean.tolist() == [1]


def test_a_sentence_that_comes_back_whole_is_an_exact_match(tmp_path):
    texts = ["He plays the piano and sings in a choir.", "She wrote three novels about the war.", "qx vz " * 9]
    tokenizer = smim.load("english-small", device="cpu").tokenizer
    write_corpus(tmp_path / "known", {"test": [{"text": text} for text in texts]}, tokenizer, name="known")
    job = make_job("english-small", tmp_path / "known", tmp_path, num_runs=1)
    scores = reconstruction.reconstruct(job)
    beginnings = reconstruction.reconstruct(replace(job, max_length=3))
    assert beginnings.greedy.min() > 0 and beginnings.exact.tolist() == [0, 0, 0]
    assert scores.exact.tolist() == [1, 1, 0] and scores.accuracy[:2].tolist() == [1, 1]
    assert scores.exact_from_mean.tolist() == [1, 1, 0]
    assert scores.greedy[:2, 0].tolist() == scores.from_mean[:2].tolist() == [1, 1] and scores.from_mean[2] < 1


def test_the_table_by_length_counts_every_sentence(tiny_model, tiny_corpus, tmp_path):
    job = make_job(tiny_model, tiny_corpus, tmp_path, num_runs=1, max_length=12)
    (tmp_path / "plots").mkdir()
    section = reconstruction.evaluate(job, tmp_path / "plots")
    assert sum(int(row[1]) for row in section.tables[0].rows) == 10
    assert (tmp_path / "plots" / "accuracy_by_length.png").exists()
