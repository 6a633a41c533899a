"""What is added to A-MIM, MIM and the VAE: the warm-up of chapter 4, the entropies of section 5.3.2, free bits."""

import pytest
import torch

from smim.errors import UserError
from smim.model.mlp import VectorAutoencoder
from smim.objectives import objective_class
from smim.objectives.amim import AMIM
from smim.objectives.mim import MIM
from smim.vectors.batch import VectorBatch
from tests.models import vector_args
from tests.objectives.checks import check_mean, flat_gradient, gaussian, repeated, vector_model, vectors
from tests.objectives.tabular import DATA, Exact, consistent_model


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (5, 0.5), (10, 1.0), (25, 1.0), (None, 1.0)])
def test_the_warm_up_goes_evenly_from_0_to_1_and_is_1_in_validation(step, weight):
    for kind in (AMIM, MIM):
        assert kind(warmup_steps=10).weight(step) == weight
        assert kind().weight(step) == 1


def loss_at(objective, model: VectorAutoencoder, batch: VectorBatch, step: int | None) -> torch.Tensor:
    torch.manual_seed(2)
    return objective.terms(model, batch, step=step)["loss"]


@pytest.mark.parametrize("name", ["mim", "amim"])
def test_the_warm_up_is_linear_and_ends_at_the_loss(name):
    model, batch = vector_model(), vectors(5)
    objective = objective_class(name)(warmup_steps=10)
    first, half, end, valid = (loss_at(objective, model, batch, step) for step in (0, 5, 10, None))
    plain = loss_at(objective_class(name)(), model, batch, 0)
    torch.testing.assert_close(half, 0.5 * (first + end))
    assert torch.equal(end, plain) and torch.equal(valid, plain) and not torch.allclose(first, plain)


def test_the_warm_up_of_amim_scales_likelihood_and_prior():
    model, batch = vector_model(), vectors(5)
    terms = objective_class("amim")(warmup_steps=10).terms(model, batch, step=3)
    log_likelihood, log_prior, log_posterior = -terms["reconstruction"], terms["log_prior"], terms["log_posterior"]
    torch.testing.assert_close(
        terms["loss"], -0.5 * (log_likelihood + log_posterior + 0.3 * (log_likelihood + log_prior))
    )


@pytest.mark.parametrize("name", ["mim", "amim"])
def test_the_terms_have_the_same_names_at_every_step(name):
    objective, model, batch = objective_class(name)(warmup_steps=10), vector_model(), vectors(5)
    first, end, valid = (list(objective.terms(model, batch, step=step)) for step in (0, 20, None))
    assert first == end == valid and "warmup_weight" in first


def test_the_vae_gains_the_entropy_of_the_posterior():
    model, batch = vector_model(), vectors(5)
    plain = loss_at(objective_class("vae")(), model, batch, 0)
    regularized = loss_at(objective_class("vae")(entropy_weight=1.5), model, batch, 0)
    torch.testing.assert_close(regularized - plain, 1.5 * gaussian(model.posterior(batch)).entropy())


def test_mim_loses_half_of_each_entropy():
    model, batch = vector_model(), vectors(1)
    many = repeated(batch, 50_000)
    lost = loss_at(MIM(), model, many, 0) - loss_at(MIM(entropy_weight=-1.0), model, many, 0)
    of_decoder = gaussian(model.decode(torch.randn(200_000, 2))).entropy().mean()
    check_mean(lost, 0.5 * (gaussian(model.posterior(batch)).entropy() + of_decoder))


def test_the_entropy_of_a_gaussian_decoder_has_the_exact_gradient():
    model = vector_model()
    z = torch.randn(20, 2)
    estimated, exact = -model.log_likelihood(model.sample(z), z), gaussian(model.decode(z)).entropy()
    ours, expected = (flat_gradient(value.mean(), model.decoder) for value in (estimated, exact))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_without_its_entropies_mim_gains_nothing_from_a_consistent_model():
    """Eq. 3.17 less R_H is divergences alone, which are all zero there."""
    exact = Exact(consistent_model(DATA), DATA)
    divergences = exact.mim(exact.elbo) - exact.conditional_entropy()
    assert flat_gradient(divergences, exact.model).abs().max() < 1e-6
    assert flat_gradient(exact.mim(exact.elbo), exact.model).abs().max() > 0.1


@pytest.fixture
def one_dimension_in_use() -> tuple[VectorAutoencoder, VectorBatch]:
    """A model and vectors whose mean KL is below a nat in the first dimension and above in the second."""
    model, batch = vector_model(), vectors(6)
    with torch.no_grad():
        for layer, scale, bias in ((model.to_mean, 5.0, [0.0, 1.5]), (model.to_log_variance, 0.1, [0.0, 0.0])):
            layer.weight.mul_(scale)
            layer.bias.copy_(torch.tensor(bias))
    return model, VectorBatch(batch.rows, 6 * batch.vectors - 3)


def test_free_bits_bound_the_mean_kl_of_each_dimension_from_below(one_dimension_in_use):
    model, batch = one_dimension_in_use
    kl_BD = model.posterior(batch).kl_by_dimension()
    assert kl_BD[:, 0].mean() < 1 < kl_BD[:, 1].mean() and (kl_BD[:, 1] < 1).any()
    terms = objective_class("vae")(free_bits=1.0).terms(model, batch, step=0)
    charged = terms["loss"] - terms["reconstruction"]
    torch.testing.assert_close(charged, 1 + kl_BD[:, 1])
    torch.testing.assert_close(charged.mean(), kl_BD.mean(0).clamp(min=1).sum())


def test_a_dimension_within_its_free_bits_has_no_gradient(one_dimension_in_use):
    model, batch = one_dimension_in_use
    terms = objective_class("vae")(free_bits=1.0).terms(model, batch, step=0)
    (terms["loss"] - terms["reconstruction"]).sum().backward()
    idle, used = model.to_mean.weight.grad
    assert idle.eq(0).all() and used.ne(0).any()


def test_validation_takes_no_free_bits(one_dimension_in_use):
    model, batch = one_dimension_in_use
    free, plain = (objective_class("vae")(free_bits=bits) for bits in (1.0, 0.0))
    assert torch.equal(loss_at(free, model, batch, None), loss_at(plain, model, batch, None))


def test_free_bits_are_refused_under_another_prior():
    with pytest.raises(UserError, match="free_bits"):
        objective_class("vae")(free_bits=0.5).prepare(consistent_model(DATA))
    with pytest.raises(UserError, match=r"one Gaussian q\(z\|x\)"):
        objective_class("vae")(free_bits=0.5).prepare(
            VectorAutoencoder(vector_args(encoder={"name": "mlp", "num_components": 3}), dimension=3)
        )
    objective_class("vae")().prepare(consistent_model(DATA))


def test_cyclical_annealing_grows_in_half_of_each_cycle_and_settles_after_the_last():
    objective = objective_class("vae")(kl_annealing="cyclical", annealing_steps=8, annealing_cycles=2)
    cycle = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert [objective.weight(step) for step in range(20)] == [*cycle, *cycle, 1, 1, 1, 1]
    assert objective.weight(None) == 1
    assert [step for step in range(20) if objective.settled(step)] == [16, 17, 18, 19]


@pytest.mark.parametrize(("name", "setting"), [("amim", "warmup_steps"), ("vae", "free_bits")])
def test_settings_below_zero_are_refused_by_name(name, setting):
    with pytest.raises(UserError, match=f"objective.{setting}"):
        objective_class(name)(**{setting: -1})
