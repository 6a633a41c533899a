"""What the report concludes of posteriors that are known: whether codes tell sentences apart, and are in use."""

import math

import pytest
import torch
from scipy.stats import norm

from smim.evaluation import information, overlap
from smim.evaluation.information import InformationArgs
from smim.evaluation.job import Job
from smim.model.autoencoder import TokenLogProb
from smim.model.distributions import DiagonalGaussian
from tests.evaluation.conftest import make_job

NUM = 10  # sentences of the tiny test split


@pytest.fixture
def job(tiny_model, tiny_corpus, tmp_path) -> Job:
    return make_job(tiny_model, tiny_corpus, tmp_path)


def set_posterior(job: Job, mean: torch.Tensor) -> None:
    """q(z|x_i) becomes N(mean_i, I), mean [N, D]."""
    job.model.autoencoder.posterior = lambda batch: DiagonalGaussian(mean[batch.rows], torch.zeros(len(batch), 8))


def means(*spread: float) -> torch.Tensor:
    """Evenly spaced in the first dimensions, with these standard deviations, and 0 in the others."""
    steps = torch.linspace(-1, 1, NUM)
    mean = torch.zeros(NUM, 8)
    mean[:, : len(spread)] = (steps / steps.std(correction=0))[:, None] * torch.tensor(spread)
    return mean


@pytest.mark.parametrize(
    ("mean", "mutual_information", "active", "active_relative", "collapsed"),
    [
        (means(100, 50), math.log(NUM), 2, 2, 0),
        (means(), 0, 0, 0, 1),
        # They tell, but in no dimension more than the posteriors blur.
        (means(*[0.9] * 8), None, 8, 0, 1),
    ],
)
def test_collapse_is_told_of_codes_that_do_not_tell_sentences_apart(
    job, plots, mean, mutual_information, active, active_relative, collapsed
):
    set_posterior(job, mean)
    section = information.evaluate(job, InformationArgs(), plots)
    metrics = {name: metric.value for name, metric in section.metrics.items()}
    if mutual_information is None:
        assert metrics["mutual_information"] > 0.5
    else:
        assert metrics["mutual_information"] == pytest.approx(mutual_information, abs=1e-6)
    assert metrics["mutual_information_cap"] == pytest.approx(math.log(NUM))
    assert metrics["kl"] == pytest.approx(mean.square().sum(1).mean().item() / 2, rel=1e-5)
    assert metrics["posterior_entropy"] == pytest.approx(8 * norm.entropy())
    assert (metrics["active_units"], metrics["active_units_relative"]) == (active, active_relative)
    assert metrics["collapsed"] == collapsed
    assert section.notes[0].startswith("**Collapsed**" if collapsed else "**Not collapsed**")


@pytest.mark.parametrize("spread", [0.0, 100.0])
def test_information_in_batches_is_that_of_at_most_32_sentences(long_model, odd_corpus, tmp_path, plots, spread):
    job = make_job(long_model, odd_corpus, tmp_path)
    num = len(job.split)
    mean = torch.zeros(num, 8)
    mean[:, 0] = torch.arange(num) * spread
    set_posterior(job, mean)
    metric = information.evaluate(job, InformationArgs(), plots).metrics["mutual_information_in_batches"]
    # 407 sentences in 13 batches: 4 of 32 and 9 of 31.
    expected = (4 * math.log(32) + 9 * math.log(31)) / 13 if spread else 0.0
    assert metric.value == pytest.approx(expected, abs=1e-6) and metric.n == 13


def test_information_by_entropies_has_the_errors_of_both(job, plots):
    job.model.autoencoder.posterior = lambda batch: DiagonalGaussian(
        means(9, 5)[batch.rows], torch.linspace(-2, 0, NUM)[batch.rows, None].expand(-1, 8)
    )
    metrics = information.evaluate(job, InformationArgs(), plots).metrics
    knn, total, own = (metrics[name] for name in ("mutual_information_knn", "latent_entropy", "posterior_entropy"))
    assert knn.value == pytest.approx(total.value - own.value)
    assert own.standard_error > 0.1 and total.standard_error > 0.1
    assert knn.standard_error == pytest.approx(math.hypot(total.standard_error, own.standard_error))


def test_overlap_is_how_often_a_sentences_own_code_is_the_likelier_one(job, plots):
    mean = means(100)
    set_posterior(job, mean)

    def log_prob(batch, z):
        """Odd sentences are likelier the nearer the code, even ones the farther."""
        distance = (z - mean[batch.rows]).square().sum(1)
        sign = torch.where(batch.rows % 2 == 1, -1, 1)
        return TokenLogProb(torch.stack([sign * distance, torch.zeros(len(batch))], 1), torch.ones_like(batch.lengths))

    job.model.autoencoder.log_prob = log_prob
    metrics = overlap.evaluate(job, plots).metrics
    assert metrics["overlap_auc_q"].value == 1
    assert metrics["overlap_auc_p"].value == 0.5
    own = norm.logpdf(job.codes(), mean).sum(1).mean()
    assert metrics["overlap_log_q_own"].value == pytest.approx(own, rel=1e-5)
    assert metrics["overlap_log_q_other"].value < own - 100
