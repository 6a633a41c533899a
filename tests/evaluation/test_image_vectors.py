"""Metrics of models of images: the marginal likelihood of a linear Gaussian model, in bounded memory."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from smim import config
from smim.evaluation.vectors import VectorsArgs, encode, marginal_log_prob, measure_vectors
from smim.model.images import ImageAutoencoder
from smim.model.registry import make_args, make_model
from smim.vector_model import VectorModel
from smim.vectors.batch import VectorBatch
from tests.images.corpora import write_digits

OPEN = 40.0  # the logit of a gate that lets everything through
SHAPE, LATENT, HIDDEN = (1, 4, 4), 4, 6
SAMPLES = 5000


def open_gates(layer: torch.nn.Module, weight: torch.Tensor) -> None:
    """Make h(x) * sigmoid(g(x)) the linear map `weight`."""
    layer.weight.zero_()
    layer.bias.zero_()
    layer.weight[: len(weight)] = weight
    layer.bias[len(layer.bias) // 2 :] = OPEN


class LinearImages:
    """x = B [z2, z1] + b + noise of 0.5, z1 = 0.8 z2 + noise of 0.6, and z2 ~ N(0, I), as a two-level model."""

    def __init__(self) -> None:
        sizes = [f"latent_dim={LATENT}", f"hidden_dim={HIDDEN}", "encoder.channels=2", "decoder.channels=2"]
        overrides = [*sizes, "decoder.num_layers=2", f"shape={[*SHAPE]}", "likelihood=gaussian"]
        settings = config.compose("train", ["model=conv_hvae", *(f"model.{each}" for each in overrides)]).model
        self.model: ImageAutoencoder = make_model(make_args(settings), input_size=16).eval()
        self.decoder = 0.1 * torch.randn(16, LATENT)
        self.offset = 0.3
        half, decoder, prior = LATENT // 2, self.model.decoder, self.model.prior.given_top
        identity, centre = torch.eye(HIDDEN, half), torch.zeros(2, 2, 3, 3)
        centre[0, 0, 1, 1] = 1.0
        with torch.no_grad():
            for layer in decoder.of_levels:
                open_gates(layer[0], identity)
            into = torch.zeros(16, 2 * HIDDEN)
            into[:, :half], into[:, HIDDEN : HIDDEN + half] = self.decoder[:, :half], self.decoder[:, half:]
            open_gates(decoder.joint[0][0], into)
            open_gates(decoder.layers[0][0], centre[:, :1])
            open_gates(decoder.layers[1][0], centre)
            decoder.layers[2].weight.zero_()
            decoder.layers[2].weight[0, 0] = 1.0
            decoder.layers[2].bias.copy_(torch.tensor([self.offset, 2 * np.log(0.5)]))
            open_gates(prior.hidden[0][0], identity)
            open_gates(prior.hidden[1][0], torch.eye(HIDDEN))
            prior.to_mean.weight.copy_(0.8 * identity.T)
            prior.to_log_variance.bias.fill_(2 * np.log(0.6))

    @property
    def marginal(self) -> MultivariateNormal:
        """p(x) = N(b, B S B' + 0.25 I), where S is the covariance of [z2, z1]."""
        eye = torch.eye(LATENT // 2)
        of_codes = torch.cat([torch.cat([eye, 0.8 * eye], 1), torch.cat([0.8 * eye, (0.64 + 0.36) * eye], 1)])
        covariance = self.decoder @ of_codes @ self.decoder.T + 0.25 * torch.eye(16)
        return MultivariateNormal(torch.full((16,), self.offset), covariance)


@pytest.fixture(scope="module")
def linear() -> LinearImages:
    torch.manual_seed(0)
    return LinearImages()


@pytest.mark.parametrize(("rows_at_once", "num"), [(10**6, 20), (999, 20), (7, 5)])
def test_the_marginal_likelihood_is_exact_with_any_number_of_blocks(linear, monkeypatch, rows_at_once, num):
    model, images = linear.model, linear.marginal.sample((num,))
    monkeypatch.setattr("smim.model.vectors._NUMBERS_AT_ONCE", rows_at_once * model.numbers_per_vector)
    sizes, log_likelihood = [], model.log_likelihood
    monkeypatch.setattr(model, "log_likelihood", lambda x, z: [sizes.append(len(z)), log_likelihood(x, z)][1])
    found = marginal_log_prob(model, images.numpy(), num_samples=SAMPLES, seed=0)
    assert found.dtype == np.float64 and max(sizes) <= rows_at_once and sum(sizes) == num * SAMPLES
    difference = found - linear.marginal.log_prob(images).numpy()
    # The encoder is random and helps little, so an estimate has a standard deviation of up to 0.1.
    assert abs(difference).max() < 0.3


def test_an_exact_posterior_gives_the_marginal_likelihood_from_two_samples(linear):
    """log p(x|z) + log p(z) - log q(z|x) is log p(x) for each z: this checks each of the three densities."""
    model, x = linear.model, linear.marginal.sample((50,))
    z = model.prior.sample(50)
    of_codes = torch.eye(4)
    of_codes[:2, 2:] = of_codes[2:, :2] = 0.8 * torch.eye(2)
    precision = of_codes.inverse() + linear.decoder.T @ linear.decoder / 0.25
    mean = torch.linalg.solve(precision, ((x - linear.offset) @ linear.decoder / 0.25).T).T
    log_posterior = MultivariateNormal(mean, precision_matrix=precision).log_prob(z)
    log_joint = model.log_likelihood(VectorBatch(torch.arange(50), x), z) + model.prior.log_prob(z)
    torch.testing.assert_close(log_joint - log_posterior, linear.marginal.log_prob(x), rtol=1e-3, atol=1e-2)


def test_every_metric_of_two_levels_is_measured_in_blocks(tmp_path, monkeypatch):
    corpus = write_digits(tmp_path / "digits", num=120)
    sizes = ["latent_dim=4", "hidden_dim=8", "encoder.channels=3", "decoder.channels=3", "shape=[1,8,8]"]
    settings = config.compose("train", ["model=conv_hvae", *(f"model.{each}" for each in sizes)]).model
    model = VectorModel(
        make_model(make_args(settings), input_size=64).eval(), {"training": {"objective": "vae"}}, hash="0" * 64
    )
    args = VectorsArgs(importance_samples=20)
    whole = measure_vectors(model, corpus, corpus.split("test"), args, seed=0)
    monkeypatch.setattr("smim.model.vectors._NUMBERS_AT_ONCE", 10 * model.autoencoder.numbers_per_vector)
    blocks = measure_vectors(model, corpus, corpus.split("test"), args, seed=0)
    assert {"kl", "marginal_nll", "mutual_information", "active_units", "knn_accuracy:digit"} <= whole.keys()
    for name in ("kl", "mutual_information", "reconstruction", "rmse_mean", "active_units_relative"):
        assert blocks[name].value == pytest.approx(whole[name].value, rel=1e-4), name
    posterior = model.posterior(corpus.split("test").vectors)
    z = encode(model, corpus.split("test"), seed=0)[1]
    assert whole["mutual_information"].value == pytest.approx(posterior.information(z).mean().item(), rel=1e-4)


def test_a_model_of_pixels_draws_for_the_queries_only(tmp_path):
    corpus = write_digits(tmp_path / "digits", num=120)
    sizes = ["latent_dim=4", "hidden_dim=8", "encoder.channels=3", "decoder.channels=3", "shape=[1,8,8]"]
    settings = config.compose("train", ["model=pixel_hvae", *(f"model.{each}" for each in sizes)]).model
    model = VectorModel(
        make_model(make_args(settings), input_size=64).eval(), {"training": {"objective": "vae"}}, hash="0" * 64
    )
    args = VectorsArgs(importance_samples=4, max_queries=7)
    metrics = measure_vectors(model, corpus, corpus.split("test"), args, seed=0)
    assert (metrics["rmse"].n, metrics["rmse_mean"].n, metrics["reconstruction"].n) == (7, 7, 20)
