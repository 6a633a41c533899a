"""Bounds on a model whose likelihood is known exactly."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from smim.errors import UserError
from smim.evaluation import likelihood
from smim.evaluation.information import posterior_terms
from smim.evaluation.job import Job
from smim.evaluation.likelihood import BOUNDS, Bound, LikelihoodArgs
from smim.evaluation.section import measure
from smim.generation import SentenceModel
from smim.model.priors import GaussianMixture
from smim.text.corpus import Corpus
from tests.corpora import write_corpus
from tests.evaluation.tabular import GRID, Exact, TabularModel

NORMAL = -0.5 * (GRID**2 + math.log(2 * math.pi))


@pytest.fixture(scope="module")
def corpus(tiny_corpus):
    return Corpus.open(tiny_corpus)


@pytest.fixture(scope="module")
def sentences(corpus):
    split = corpus.split("test")
    return [ids.tolist() for ids in split.ids(range(len(split)))]


@pytest.fixture(scope="module")
def exact(corpus):
    return Exact(TabularModel(corpus.tokenizer.vocabulary_size))


@pytest.fixture
def job(corpus, exact, tmp_path):
    config = {"training": {"objective": "vae"}}
    return Job(
        model=SentenceModel(exact.model, corpus.tokenizer, config, hash="tabular"),
        corpus=corpus,
        split=corpus.split("test"),
        accelerator=Accelerator(cpu=True),
        work=tmp_path,
        seed=0,
        num_runs=2,
        max_length=20,
        tokens_per_batch=64,
    )


def test_melbo_and_elbo_are_their_integrals(job, exact, sentences):
    bound, kl = likelihood.sentence_reconstruction(job, num_samples=3000)
    words = np.array([exact.reconstruction(ids) for ids in sentences])
    with_eos = np.array([exact.reconstruction(ids, eos=True) for ids in sentences])
    np.testing.assert_allclose(bound.words.mean(1), words, rtol=0.02)
    np.testing.assert_allclose(bound.with_eos.mean(1), with_eos, rtol=0.02)
    np.testing.assert_allclose(kl, [exact.kl(ids, NORMAL) for ids in sentences], rtol=1e-4)


def test_melbo_bounds_the_nll_under_the_aggregate_posterior_of_the_set(job, exact, sentences):
    mixture = np.logaddexp.reduce([exact.log_posterior(ids) for ids in sentences], axis=0) - math.log(len(sentences))
    bound, _ = likelihood.sentence_reconstruction(job, num_samples=300)
    melbo = bound.words.mean() + math.log(len(sentences))
    assert melbo > np.mean([exact.nll(ids, prior=mixture) for ids in sentences])


@pytest.mark.parametrize("tokens_per_batch", [7, 4096])
def test_the_importance_weighted_bound_falls_to_the_exact_nll_from_above(job, exact, sentences, tokens_per_batch):
    job = replace(job, tokens_per_batch=tokens_per_batch)
    log_weights = likelihood.importance_log_weights(job, np.arange(len(sentences)), num_samples=500)
    bounds = [likelihood.importance_bound(log_weights, k).mean(0) for k in (1, 5, 10, 50, 100, 500)]
    for column, eos in enumerate((False, True)):
        nll = np.mean([exact.nll(ids, eos=eos) for ids in sentences])
        values = [bound[column] for bound in bounds]
        assert values == sorted(values, reverse=True)
        assert values[0] > nll + 0.1 and values[-1] == pytest.approx(nll, abs=0.02)


def test_with_one_sample_the_importance_weighted_bound_is_the_elbo(job, exact, sentences):
    log_weights = likelihood.importance_log_weights(job, np.arange(len(sentences)), num_samples=500)
    elbo = np.mean([exact.reconstruction(ids) + exact.kl(ids, NORMAL) for ids in sentences])
    assert likelihood.importance_bound(log_weights, 1)[:, 0].mean() == pytest.approx(elbo, rel=0.01)


@pytest.fixture
def learned_prior(exact) -> Iterator[np.ndarray]:
    """Gives the model a prior of its own; its log density on the grid."""
    prior = GaussianMixture(1, num_components=2)
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[-1.0], [2.0]]))
        prior.logits.copy_(torch.tensor([0.0, 1.0]))
    before, exact.model.prior = exact.model.prior, prior
    yield prior.log_prob(torch.as_tensor(GRID)[:, None]).detach().numpy()
    exact.model.prior = before


def test_the_bounds_are_under_the_models_own_prior(job, exact, sentences, learned_prior):
    _, kl = likelihood.sentence_reconstruction(job, num_samples=1000)
    np.testing.assert_allclose(kl, [exact.kl(ids, learned_prior) for ids in sentences], atol=0.05)
    log_weights = likelihood.importance_log_weights(job, np.arange(len(sentences)), num_samples=500)
    nll = np.mean([exact.nll(ids, prior=learned_prior) for ids in sentences])
    assert likelihood.importance_bound(log_weights, 500)[:, 0].mean() == pytest.approx(nll, abs=0.05)


def test_the_kl_of_the_information_is_to_the_models_own_prior(job, exact, sentences, learned_prior):
    draws = [posterior_terms(replace(job, seed=seed, work=job.work / str(seed)))[:, 0] for seed in range(60)]
    error = np.std(draws, axis=0) / math.sqrt(len(draws))
    expected = [exact.kl(ids, learned_prior) for ids in sentences]
    assert (np.abs(np.mean(draws, axis=0) - expected) < 5 * error).all()


def test_the_section_names_the_prior(job, learned_prior, tmp_path):
    section = likelihood.evaluate(job, LikelihoodArgs(importance_samples=5, importance_sentences=4), tmp_path)
    names = [row[0] for row in section.tables[0].rows]
    assert any("ELBO, mixture of 2 Gaussians" in name for name in names)


def test_the_importance_weighted_bound_is_minus_the_log_of_a_mean():
    log_weights = np.log(np.array([[[1.0], [3.0], [5.0], [7.0], [100.0]]]))
    assert likelihood.importance_bound(log_weights, 2)[0, 0] == pytest.approx(-(math.log(2) + math.log(6)) / 2)
    assert likelihood.importance_bound(log_weights, 5)[0, 0] == pytest.approx(-math.log(116 / 5))


def test_the_training_prior_bounds_the_nll_under_the_training_sentences_posteriors(job, exact, sentences, corpus):
    train = corpus.split("train")
    mixture = [exact.log_posterior(ids.tolist()) for ids in train.ids(range(len(train)))]
    log_prior = np.logaddexp.reduce(mixture, axis=0) - math.log(len(train))
    costs = []
    for seed in range(200):
        own = replace(job, seed=seed, work=job.work)
        costs.append(likelihood.train_prior_cost(own, train_sentences=1000)[0])
    expected = [exact.kl(ids, log_prior) for ids in sentences]
    np.testing.assert_allclose(np.mean(costs, axis=0), expected, atol=0.25)
    bound = np.mean(expected) + np.mean([exact.reconstruction(ids) for ids in sentences])
    assert bound > np.mean([exact.nll(ids, prior=log_prior) for ids in sentences])


def test_the_training_prior_takes_a_sample_where_there_are_too_many(job):
    _, size = likelihood.train_prior_cost(job, train_sentences=7)
    assert size == 7


def test_perplexities_and_bits_divide_by_what_they_say():
    words = np.array([[10.0, 12.0], [20.0, 22.0], [30.0, 26.0]])
    sizes = np.array([4, 5, 6]), np.array([20, 30, 40])
    metrics = measure(BOUNDS[""], Bound(words, words + 1, *sizes))
    nll = metrics["nll"].value
    assert nll == pytest.approx(20) and metrics["nll_with_eos"].value == pytest.approx(21)
    assert metrics["ppl"].value == pytest.approx(math.exp(3 * nll / 15))
    assert metrics["ppl_thesis"].value == pytest.approx(math.exp(3 * nll / 18))
    assert metrics["nats_per_token"].value == pytest.approx(3 * nll / 15)
    assert metrics["bits_per_byte"].value == pytest.approx(3 * 21 / math.log(2) / 93)
    assert metrics["nll"].n == 3 and metrics["nll"].runs == 2


def test_sizes_are_tokens_without_end_and_bytes_of_utf_8(corpus, tmp_path):
    texts = ["the company sold", "thé bank", "日本"]
    write_corpus(tmp_path / "c", {"test": [{"text": text} for text in texts]}, corpus.tokenizer, name="c")
    tokens, text_bytes = likelihood.sizes_of(Corpus.open(tmp_path / "c").split("test"))
    assert tokens.tolist() == [3, 2, 1]
    assert text_bytes.tolist() == [16, 9, 6]


def test_the_importance_weights_are_of_other_draws_than_the_reconstruction(job):
    bound, _ = likelihood.sentence_reconstruction(job, num_samples=1)
    weights = likelihood.importance_log_weights(job, np.arange(len(job.split)), num_samples=3)
    prior, posterior = job.model.autoencoder.prior, job.posterior()
    for run in range(job.num_runs):
        z = job.draw(posterior, range(10), number=run)
        of_run = -bound.words[:, run] + (prior.log_prob(z) - posterior.log_prob(z)).numpy()
        assert not np.isclose(weights[:, :, 0], of_run[:, None], rtol=1e-5).any()


def test_the_section_holds_every_bound(job, tmp_path):
    section = likelihood.evaluate(job, LikelihoodArgs(importance_samples=50, importance_sentences=4), tmp_path)
    assert {"nll", "nll_elbo", "nll_iw", "nll_train_prior", "reconstruction"} <= set(section.metrics)
    assert section.metrics["nll_iw"].n == 4 and section.metrics["nll"].n == 10
    assert section.metrics["nll"].value == pytest.approx(section.metrics["reconstruction"].value + math.log(10))
    for name in section.plots:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_an_autoencoder_has_melbo_alone(job, tmp_path):
    job.model.config["training"]["objective"] = "autoencoder"
    section = likelihood.evaluate(job, LikelihoodArgs(), tmp_path)
    assert "nll" in section.metrics and "nll_elbo" not in section.metrics and "nll_iw" not in section.metrics
    assert section.metrics["nll"].stdev_over_runs == 0


def test_wrong_settings_are_refused_together():
    with pytest.raises(UserError, match=r"num_samples.*importance_sentences"):
        LikelihoodArgs(num_samples=0, importance_sentences=0)


def test_a_perplexity_too_large_to_say_is_left_out():
    words = np.full((3, 1), 9000.0)
    metrics = measure(BOUNDS["_elbo"], Bound(words, words, np.full(3, 10), np.full(3, 50)))
    assert "ppl_elbo" not in metrics and metrics["nats_per_token_elbo"].value == 900
