"""Each loss against its equation, written out with torch.distributions for one sentence."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from smim.errors import UserError
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.mlp import VectorAutoencoder
from smim.objectives import objective_class
from smim.objectives.registry import OBJECTIVES
from smim.text.batch import collate
from tests.models import sentence_args, vector_args
from tests.objectives.checks import vectors

BATCH = collate([[5, 6, 7, 8]], [0])
NOISE = torch.tensor([[0.3, -1.2, 0.7]])


@pytest.fixture(scope="module")
def model() -> SentenceAutoencoder:
    torch.manual_seed(0)
    return SentenceAutoencoder(sentence_args(latent_dim=3, hidden_dim=16, embedding_dim=8), vocabulary_size=20).eval()


@pytest.fixture(scope="module")
def parts(model):
    """q(z|x), the draw z, and log p(x|z) with `<eos>`."""
    posterior = model.posterior(BATCH)
    q = Independent(Normal(posterior.mean, posterior.standard_deviation), 1)
    z = posterior.mean + posterior.standard_deviation * NOISE
    return q, z, model.log_prob(BATCH, z).with_eos


PRIOR = Independent(Normal(torch.zeros(1, 3), torch.ones(1, 3)), 1)


def test_amim_is_equation_6_14(model, parts):
    q, z, log_p = parts
    expected = -log_p - 0.5 * (q.log_prob(z) + PRIOR.log_prob(z))
    loss = objective_class("amim")().terms(model, BATCH, step=0, noise=NOISE)["loss"]
    torch.testing.assert_close(loss, expected)


def test_vae_is_the_negative_elbo(model, parts):
    q, _, log_p = parts
    loss = objective_class("vae")().terms(model, BATCH, step=0, noise=NOISE)["loss"]
    torch.testing.assert_close(loss, -log_p + kl_divergence(q, PRIOR))


def test_autoencoder_decodes_the_mean(model, parts):
    q, _, _ = parts
    loss = objective_class("autoencoder")().terms(model, BATCH, step=0, noise=NOISE)["loss"]
    torch.testing.assert_close(loss, -model.log_prob(BATCH, q.mean).with_eos)


def test_autoencoder_never_trains_the_variance(model):
    model.zero_grad()
    objective_class("autoencoder")().terms(model, BATCH, step=0)["loss"].sum().backward()
    assert model.to_log_variance.weight.grad is None
    assert model.to_mean.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kind", "step", "weight"),
    [
        ("none", 0, 1.0),
        ("linear", 0, 0.0),
        ("linear", 2_500, 0.25),
        ("linear", 20_000, 1.0),
        ("logistic", 10_000, 0.5),
        ("logistic", 11_000, 1 / (1 + math.exp(-2.5))),
        ("linear", None, 1.0),
        ("logistic", 1_000_000, 1.0),
        ("logistic", None, 1.0),
    ],
)
def test_kl_weight_follows_its_schedule_and_is_one_in_validation(kind, step, weight):
    assert objective_class("vae")(kl_annealing=kind).weight(step) == pytest.approx(weight)


def test_an_objective_is_settled_once_its_weights_change_no_more():
    annealed = objective_class("vae")(kl_annealing="linear", annealing_steps=100)
    warmed = objective_class("amim")(warmup_steps=100)
    for objective in (annealed, warmed, objective_class("mim")(warmup_steps=100)):
        assert [objective.settled(step) for step in (0, 99, 100, 101)] == [False, False, True, True]
    assert all(objective_class(name)().settled(0) for name in ("amim", "vae", "autoencoder", "mmd_vae"))


def test_annealed_loss_weighs_the_kl(model, parts):
    q, _, log_p = parts
    objective = objective_class("vae")(kl_annealing="linear", annealing_steps=10)
    loss = objective.terms(model, BATCH, step=3, noise=NOISE)["loss"]
    torch.testing.assert_close(loss, -log_p + 0.3 * kl_divergence(q, PRIOR))


@pytest.mark.parametrize("prior", ["gaussian_mixture", "vamp"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_trained_has_a_gradient_and_the_loss_depends_on_nothing_else(name, prior):
    """DDP refuses a step that leaves a weight without a gradient."""
    args = vector_args(latent_dim=2, hidden_dim=6, prior=prior, num_prior_components=3)
    model, objective = VectorAutoencoder(args, dimension=3), objective_class(name)()
    objective.prepare(model)
    critic = objective.make_critic(model)
    terms = objective.terms(model, vectors(6), step=0, critic=critic and critic.network)
    (terms["loss"] + terms.get("critic_loss", 0.0)).sum().backward()
    for parameter in model.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad


def test_a_loss_that_asks_for_a_density_twice_has_it_computed_once(model, monkeypatch):
    calls = []
    for owner, name in ((model, "log_likelihood"), (model.prior, "log_prob")):
        kept = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, kept=kept, name=name: calls.append(name) or kept(*given))
    terms = objective_class("amim")().terms(model, BATCH, step=0, noise=NOISE)
    assert sorted(calls) == ["log_likelihood", "log_prob"]
    assert list(terms) == ["loss", "reconstruction", "log_posterior", "log_prior", "kl", "clamped"]


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="'amim'"):
        objective_class("amin")()
    with pytest.raises(UserError, match="'logistic'"):
        objective_class("vae")(kl_annealing="logistics")
