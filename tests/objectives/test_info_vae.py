"""InfoVAE with each of its divergences, beta-VAE and the probabilistic autoencoder, written out for vectors."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from smim.errors import UserError
from smim.model.mlp import VectorAutoencoder
from smim.objectives import objective_class
from smim.objectives.info_vae import MMDVAE, Adversarial, SteinVAE
from smim.objectives.kernels import mmd_squared, stein_direction
from tests.models import vector_args
from tests.objectives.checks import check_mean, flat_gradient, gaussian, vector_model, vectors
from tests.objectives.tabular import DATA, Exact, draw, random_model

NAMES = ["mmd_vae", "stein_vae", "adversarial"]


@pytest.fixture
def parts():
    """A model, six vectors, noise, z ~ q(z|x), -log p(x|z), KL, and the draws from the prior after seed 3."""
    model, batch, noise = vector_model(), vectors(6), torch.randn(6, 2)
    posterior = model.posterior(batch)
    z = posterior.mean + noise * posterior.standard_deviation
    prior = Independent(Normal(torch.zeros(6, 2), torch.ones(6, 2)), 1)
    reconstruction = -gaussian(model.decode(z)).log_prob(batch.vectors)
    torch.manual_seed(3)
    drawn = torch.randn(6, 2)
    torch.manual_seed(3)
    return model, batch, noise, z, reconstruction, kl_divergence(gaussian(posterior), prior), drawn


def test_beta_vae_weighs_the_kl_in_validation_too(parts):
    model, batch, noise, _, reconstruction, kl, _ = parts
    for step in (0, None):
        loss = objective_class("beta_vae")(beta=3.0).terms(model, batch, step=step, noise=noise)["loss"]
        torch.testing.assert_close(loss, reconstruction + 3 * kl)


def test_the_probabilistic_autoencoder_reconstructs_from_a_draw(parts):
    model, batch, noise, _, reconstruction, kl, _ = parts
    terms = objective_class("probabilistic_autoencoder")().terms(model, batch, step=0, noise=noise)
    torch.testing.assert_close(terms["loss"], reconstruction)
    torch.testing.assert_close(terms["kl"], kl)


@pytest.mark.parametrize("name", ["beta_vae", "probabilistic_autoencoder"])
def test_the_loss_is_the_exact_one(name):
    exact, objective = Exact(random_model(), DATA), objective_class(name)()
    expected = exact.over_encoder(-exact.log_likelihood)
    if name == "beta_vae":
        expected = expected + 4 * exact.over_encoder(exact.log_posterior - exact.log_prior)
    check_mean(objective.terms(exact.model, draw(DATA, 100_000), step=None)["loss"], expected)


def test_mmd_vae_is_its_equation(parts):
    model, batch, noise, z, reconstruction, kl, drawn = parts
    objective = MMDVAE(alpha=0.3, lambd=5.0, kernel="imq", bandwidth=0.8)
    terms = objective.terms(model, batch, step=0, noise=noise)
    mmd = mmd_squared(z, drawn, kernel="imq", bandwidth=0.8)
    torch.testing.assert_close(terms["mmd"], mmd.expand(6))
    torch.testing.assert_close(terms["loss"], reconstruction + 0.7 * kl + 4.3 * mmd)


def test_stein_vae_has_the_value_of_the_mmd_and_the_gradient_against_steins_direction(parts):
    model, batch, noise, z, reconstruction, kl, drawn = parts
    loss = SteinVAE(alpha=0.3, lambd=5.0).terms(model, batch, step=0, noise=noise)["loss"]
    torch.testing.assert_close(loss, reconstruction + 0.7 * kl + 4.3 * mmd_squared(z, drawn))
    codes = z.detach().requires_grad_()
    SteinVAE().divergence(model, codes, None)[0].sum().backward()
    torch.testing.assert_close(codes.grad, -stein_direction(z, -z.detach()))


def test_the_adversarial_loss_is_the_discriminators_divergence(parts):
    model, batch, noise, z, reconstruction, kl, drawn = parts
    objective = Adversarial(alpha=0.3, lambd=5.0, gradient_penalty=0.0)
    critic = objective.make_critic(model).network
    torch.manual_seed(3)
    terms = objective.terms(model, batch, step=0, noise=noise, critic=critic)
    of_prior, of_code = torch.sigmoid(critic(drawn)), torch.sigmoid(critic(z))
    cross_entropy = -torch.log(of_prior) - torch.log(1 - of_code)
    torch.testing.assert_close(terms["critic_loss"], cross_entropy)
    torch.testing.assert_close(terms["jsd"], math.log(2) - 0.5 * cross_entropy)
    torch.testing.assert_close(terms["loss"], reconstruction + 0.7 * kl + 4.3 * terms["jsd"])


def test_the_discriminators_slope_is_penalized_at_codes_and_draws(parts):
    model, batch, noise, z, _, _, drawn = parts
    critic = Adversarial().make_critic(model).network
    losses = []
    for penalty in (0.0, 3.0):
        torch.manual_seed(3)
        terms = Adversarial(gradient_penalty=penalty).terms(model, batch, step=0, noise=noise, critic=critic)
        losses.append(terms["critic_loss"])
    expected = torch.zeros(6)
    for codes in (drawn, z.detach()):
        at = codes.clone().requires_grad_()
        [slope] = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
        expected = expected + 1.5 * slope.square().sum(-1)
    torch.testing.assert_close(losses[1] - losses[0], expected)
    ours, by_hand = (flat_gradient(loss.sum(), critic.layers[0]) for loss in (losses[1] - losses[0], expected))
    torch.testing.assert_close(ours, by_hand)


def test_the_encoder_descends_the_non_saturating_loss(parts):
    model, _, _, z, *_ = parts
    objective = Adversarial()
    critic = objective.make_critic(model).network
    codes, expected = z.detach().requires_grad_(), z.detach().requires_grad_()
    objective.divergence(model, codes, critic)[0].sum().backward()
    (-torch.log(torch.sigmoid(critic(expected)))).sum().backward()
    torch.testing.assert_close(codes.grad, expected.grad)


class BestDiscriminator(nn.Module):
    """The log odds that z is from N(0, 1), and not from N(shift, 1)."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, z_BD: Tensor) -> Tensor:
        return (0.5 * self.shift**2 - self.shift * z_BD)[:, 0]


def test_the_best_discriminator_says_the_jensen_shannon_divergence():
    model = VectorAutoencoder(vector_args(latent_dim=1, hidden_dim=4), dimension=3)
    z = torch.randn(100_000, 1) + 1.5
    _, terms = Adversarial().divergence(model, z, BestDiscriminator(1.5))
    grid = torch.linspace(-9, 11, 20_001, dtype=torch.float64)
    log_p, log_q = (Normal(mean, 1.0).log_prob(grid) for mean in (0.0, 1.5))
    log_middle = torch.logaddexp(log_p, log_q) - math.log(2)
    jsd = 0.5 * sum((log.exp() * (log - log_middle)).sum() for log in (log_p, log_q)) * float(grid[1] - grid[0])
    check_mean(terms["jsd"], jsd)
    assert 0.2 < jsd < math.log(2)


@pytest.mark.parametrize("objective", [MMDVAE(), SteinVAE()])
def test_codes_that_descend_the_divergence_come_to_the_prior(objective):
    model = vector_model()
    z, drawn = (0.3 * torch.randn(100, 2) + torch.tensor([2.0, -1.0])).requires_grad_(), torch.randn(2000, 2)
    before = mmd_squared(z, drawn)
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        objective.divergence(model, z, None)[0].sum().backward()
        optimizer.step()
    assert mmd_squared(z, drawn) < 0.02 * before


@pytest.mark.parametrize("name", NAMES)
def test_a_learned_prior_is_not_trained(name):
    args = vector_args(latent_dim=2, hidden_dim=6, prior="gaussian_mixture", num_prior_components=3)
    model, objective = VectorAutoencoder(args, dimension=3), objective_class(name)(alpha=0.5)
    objective.prepare(model)
    critic = objective.make_critic(model)
    terms = objective.terms(model, vectors(6), step=0, critic=critic and critic.network)
    (terms["loss"] + terms.get("critic_loss", 0.0)).sum().backward()
    assert all(parameter.grad is None for parameter in model.prior.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("settings", "message"),
    [({"alpha": 1.01}, "objective.alpha is 1.01"), ({"alpha": 0.5, "lambd": 0.4}, "objective.lambd is 0.4")],
)
def test_weights_whose_loss_falls_without_end_are_refused(name, settings, message):
    with pytest.raises(UserError, match=message):
        objective_class(name)(**settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mmd_vae", {"kernel": "rfb"}),
        ("mmd_vae", {"bandwidth": 0.0}),
        ("stein_vae", {"bandwidth": -1.0}),
        ("adversarial", {"gradient_penalty": -1.0}),
        ("beta_vae", {"beta": -1.0}),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(name, settings):
    with pytest.raises(UserError, match=f"objective.{next(iter(settings))}"):
        objective_class(name)(**settings)


def test_an_alpha_of_0_and_a_lambda_of_1_are_the_vae():
    model, batch, noise = vector_model(), vectors(6), torch.randn(6, 2)
    ours = MMDVAE(alpha=0.0, lambd=1.0).terms(model, batch, step=0, noise=noise)["loss"]
    torch.testing.assert_close(ours, objective_class("vae")().terms(model, batch, step=0, noise=noise)["loss"])
