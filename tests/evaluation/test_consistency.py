"""Densities of a model in one dimension against a linear Gaussian model, all of whose densities are Gaussian."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from smim.errors import UserError
from smim.evaluation.consistency import OF_CONSISTENCY, densities
from smim.evaluation.section import measure
from smim.model.mlp import VectorAutoencoder
from smim.objectives import objective_class
from smim.objectives.mim import MIM, LatentAnchor
from smim.vector_model import VectorModel
from tests.models import vector_args

# q(z|x) = N(A x, S²), p(x|z) = N(B z, T²); anchors P(x) = N(1, 0.5²) and P(z) = N(-0.5, 0.8²).
A, S, B, T = 0.7, 0.6, 0.9, 0.4
DENSITY = {"means": [[1.0]], "standard_deviation": 0.5}
ANCHOR = LatentAnchor([[-0.5]], 0.8)


@pytest.fixture(scope="module")
def model() -> VectorModel:
    args = vector_args(latent_dim=1, hidden_dim=2, num_layers=1, activation="relu", min_log_variance=-20.0)
    autoencoder = VectorAutoencoder(args, dimension=1).eval()
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.zero_()
        both_signs = torch.tensor([[1.0], [-1.0]])  # x = relu(x) - relu(-x)
        for layers, head, slope in (
            (autoencoder.encoder, autoencoder.to_mean, A),
            (autoencoder.decoder, autoencoder.to_vector, B),
        ):
            layers[0].weight.copy_(both_signs)
            head.weight.copy_(slope * both_signs.T)
        autoencoder.to_log_variance.bias.fill_(2 * math.log(S))
        autoencoder.to_vector_log_variance.bias.fill_(2 * math.log(T))
    return VectorModel(autoencoder, {"training": {"objective": "mim", "deterministic": False}}, hash="0" * 64)


def gaussian(points: np.ndarray, mean: float, variance: float) -> np.ndarray:
    return np.exp(-0.5 * (points - mean) ** 2 / variance) / math.sqrt(2 * math.pi * variance)


def pair(model, tmp_path, **settings):
    return densities(model, MIM(latent_anchor=ANCHOR, **settings), DENSITY, tmp_path / "critic.safetensors")


def test_the_densities_are_those_of_the_linear_model(model, tmp_path):
    of_x, of_z = pair(model, tmp_path, data_prior="standard_normal")
    x, z = of_x.points, of_z.points
    given_x, given_z = A**2 * 0.25 + S**2, B**2 * 0.64 + T**2  # variances of what the anchors become
    expected = {
        "x": [gaussian(x, 1, 0.25), gaussian(x, 0, 1), gaussian(x, A * B, B**2 * given_x + T**2),
              gaussian(x, -0.5 * B, given_z), gaussian(x, 0, B**2 + T**2)],
        "z": [gaussian(z, -0.5, 0.64), gaussian(z, 0, 1), gaussian(z, -0.5 * A * B, A**2 * given_z + S**2),
              gaussian(z, A, given_x), gaussian(z, 0, A**2 + S**2)],
    }  # fmt: skip
    for name, found in (("x", of_x), ("z", of_z)):
        given = (found.anchor, found.prior, found.reconstruction, found.from_anchor, found.from_prior)
        for each, exact in zip(given, expected[name], strict=True):
            assert each == pytest.approx(exact, abs=0.01)


def test_the_distance_is_half_of_the_absolute_difference(model, tmp_path):
    of_x, _ = pair(model, tmp_path, data_prior="standard_normal")
    # Two unit Gaussians at distance d differ by 2 Phi(d / 2) - 1; here the anchor and N(0, 1), by a plain sum.
    exact = 0.5 * np.abs(gaussian(of_x.points, 1, 0.25) - gaussian(of_x.points, 0, 1)).sum()
    assert of_x.distance("anchor", "prior") == pytest.approx(exact * (of_x.points[1] - of_x.points[0]), rel=1e-6)
    assert of_x.distance("prior", "prior") == 0


def test_the_mixture_of_the_data_is_that_of_its_file(model, tmp_path):
    objective = MIM(latent_anchor=ANCHOR, data_prior="gaussian_mixture", data_prior_components=2)
    mixture = objective.make_critic(model.autoencoder).network
    save_file(mixture.state_dict(), tmp_path / "critic.safetensors")
    of_x, _ = pair(model, tmp_path, data_prior="gaussian_mixture", data_prior_components=2)
    exact = mixture(torch.tensor(of_x.points, dtype=torch.float32)[:, None]).exp().detach().numpy()
    assert of_x.prior == pytest.approx(exact, rel=1e-5)
    with pytest.raises(UserError, match=r"does not hold the mixture q\(x\)"):
        pair(model, tmp_path, data_prior="gaussian_mixture", data_prior_components=3)
    with pytest.raises(UserError, match="cannot be loaded"):
        pair(model, tmp_path / "elsewhere", data_prior="gaussian_mixture")


def test_a_consistent_model_has_no_distance_between_priors(model, tmp_path):
    """N(0, 1) is kept by encoder and decoder with A = B = 0.6 and S = T = 0.8."""
    autoencoder = VectorAutoencoder(model.autoencoder.args, dimension=1).eval()
    autoencoder.load_state_dict(model.autoencoder.state_dict())
    with torch.no_grad():
        autoencoder.to_mean.weight.mul_(0.6 / A)
        autoencoder.to_vector.weight.mul_(0.6 / B)
        for bias in (autoencoder.to_log_variance.bias, autoencoder.to_vector_log_variance.bias):
            bias.fill_(2 * math.log(0.8))
    consistent = VectorModel(autoencoder, model.config, hash="0" * 64)
    metrics = measure(OF_CONSISTENCY, pair(consistent, tmp_path, data_prior="standard_normal"))
    assert metrics["prior_distance"].value < 0.01 < 0.1 < metrics["anchor_distance"].value
    inconsistent = measure(OF_CONSISTENCY, pair(model, tmp_path, data_prior="standard_normal"))
    assert inconsistent["prior_distance"].value > 0.02


def test_only_models_of_one_dimension_with_known_densities_are_measured(model, tmp_path):
    mim = MIM(data_prior="standard_normal")
    assert densities(model, mim, DENSITY, tmp_path)
    for objective, density in ((mim, None), (MIM(), DENSITY), (objective_class("vae")(), DENSITY)):
        assert densities(model, objective, density, tmp_path) is None
