"""Mixtures as q(z|x) and p(x|z): densities, moments, draws and their gradients against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian, GaussianMixtures, concatenated
from smim.model.mlp import VectorAutoencoder
from smim.vectors.batch import VectorBatch
from tests.models import vector_args
from tests.objectives.checks import check_mean


def mixtures(num: int = 3, components: int = 4, dim: int = 2) -> GaussianMixtures:
    random = torch.Generator().manual_seed(0)
    shape = (num, components, dim)
    weights = torch.randn(num, components, generator=random).log_softmax(-1)
    return GaussianMixtures(
        weights, 2 * torch.randn(shape, generator=random), 0.5 * torch.randn(shape, generator=random) - 1
    )


def same(ours: GaussianMixtures) -> MixtureSameFamily:
    components = Independent(Normal(ours.means, (0.5 * ours.log_variances).exp()), 1)
    return MixtureSameFamily(Categorical(logits=ours.log_weights), components)


def test_density_and_moments_are_those_of_torch():
    ours, z = mixtures(), torch.randn(3, 2)
    torch.testing.assert_close(ours.log_prob(z), same(ours).log_prob(z))
    torch.testing.assert_close(ours.mean, same(ours).mean)
    torch.testing.assert_close(ours.log_variance, same(ours).variance.log())
    under_each = torch.stack([ours.take(torch.tensor([i, i, i])).log_prob(z) for i in range(3)], 1)
    torch.testing.assert_close(ours.log_prob_under_each(z), under_each.double(), atol=1e-5, rtol=1e-5)


def test_draws_have_the_density():
    """The entropy, and the mean log density under another distribution, of draws and of torch's draws."""
    ours = mixtures(1)
    many = ours.take(torch.zeros(100_000, dtype=torch.int64))
    torch.manual_seed(0)
    drawn, expected = many.sample(), same(ours).sample((100_000,))[:, 0]
    for value in (many.log_prob, lambda z: z[:, 0], lambda z: z[:, 0] * z[:, 1], lambda z: z.sin().prod(-1)):
        check_mean(value(drawn), value(expected).mean())
    check_mean(many.entropy(), -many.log_prob(expected).mean())


def test_the_noise_decides_a_draw_and_one_component_is_a_gaussian():
    noise = torch.randn(3, 2)
    ours = mixtures()
    assert torch.equal(ours.sample(noise), ours.sample(noise))
    one = mixtures(components=1)
    gaussian = DiagonalGaussian(one.means[:, 0], one.log_variances[:, 0])
    torch.testing.assert_close(one.sample(noise), gaussian.sample(noise))


def test_the_gradient_of_a_draw_is_that_of_its_expectation():
    """d/d(parameters) E f(z), by draws and by a sum over a grid of z, in two dimensions."""
    random = torch.Generator().manual_seed(1)
    parameters = [
        torch.randn(size, generator=random, dtype=torch.float64).mul(0.7).requires_grad_()
        for size in ((1, 3), (1, 3, 2), (1, 3, 2))
    ]

    def made(times: int) -> GaussianMixtures:
        weights, means, log_variances = (each.expand(times, *each.shape[1:]) for each in parameters)
        return GaussianMixtures(weights.log_softmax(-1), means, log_variances)

    def value(z):
        return (z[:, 0] + 0.5 * z[:, 1]).sin() + z[:, 0] * z[:, 1]

    ticks = torch.linspace(-9, 9, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks)
    exact = (made(len(grid)).log_prob(grid).exp() * value(grid)).sum() * (ticks[1] - ticks[0]) ** 2
    expected = torch.cat([each.flatten() for each in torch.autograd.grad(exact, parameters)])
    torch.manual_seed(0)
    found = []
    for _ in range(40):
        drawn = value(made(2_000).sample()).mean()
        found.append(torch.cat([each.flatten() for each in torch.autograd.grad(drawn, parameters)]))
    check_mean(torch.stack(found), expected)
    assert expected.abs().max() > 0.1


def test_the_information_is_that_of_the_densities():
    ours = mixtures()
    z = ours.sample()
    torch.testing.assert_close(
        concatenated([ours.take(torch.tensor([0])), ours.take(torch.tensor([1, 2]))]).means, ours.means
    )
    densities = ours.log_prob_under_each(z)
    expected = ours.log_prob(z).double() - densities.logsumexp(1) + math.log(3)
    torch.testing.assert_close(ours.information(z), expected, atol=1e-5, rtol=1e-5)


def test_a_model_predicts_mixtures_and_its_kl_is_estimated():
    torch.manual_seed(0)
    args = vector_args(latent_dim=1, hidden_dim=6, num_components=3, activation="swish")
    model = VectorAutoencoder(args, dimension=2)
    batch = VectorBatch(torch.arange(4), torch.randn(4, 2))
    posterior = model.posterior(batch)
    assert posterior.means.shape == (4, 3, 1) and model.decode(torch.randn(5, 1)).means.shape == (5, 3, 2)
    many = posterior.take(torch.zeros(50_000, dtype=torch.int64))
    grid = torch.linspace(-8, 8, 20_001)[:, None]
    log_q = posterior.take(torch.zeros(len(grid), dtype=torch.int64)).log_prob(grid)
    exact = (log_q.exp() * (log_q - model.prior.log_prob(grid))).sum() * (grid[1] - grid[0]).item()
    check_mean(model.prior.kl(many, many.sample()), exact)
    assert {id(each) for each in model.to_weights.parameters()} <= {id(each) for each in model.inference_parameters()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"encoder": {"name": "mlp", "num_components": 2}, "prior": "vamp"},
            r"encoder\.num_components=2 needs model\.prior",
        ),
        ({"encoder": {"name": "mlp", "num_components": 2}, "posterior": "sampled_variance"}, r"needs model\.posterior"),
        (
            {"decoder": {"name": "mlp", "num_components": 2, "likelihood": "bernoulli"}},
            r"model\.decoder\.num_components=2 needs model\.decoder\.likelihood=gaussian",
        ),
    ],
)
def test_what_a_mixture_does_not_support_is_named(settings, message):
    with pytest.raises(UserError, match=message):
        vector_args(**settings)
