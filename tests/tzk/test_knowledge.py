"""A label's loss, densities and draws, against sums by hand and over a grid."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from smim.tzk.args import KnowledgeArgs
from smim.tzk.knowledge import Knowledge
from smim.tzk.prior import CodePrior, Point
from tests.tzk.densities import Integral, randomize


def bounded(value: float) -> float:
    return 2 * math.tanh(value / 2)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("encoding", [False, True])
def test_loss_is_half_of_encoder_and_decoder_as_computed_by_hand(exists: bool, encoding: bool) -> None:
    """Regressors that are constants: p(c|e, t) = N(0.5, s^2), the z-flow's base N((1, 2), r^2 I)."""
    knowledge = Knowledge(2, KnowledgeArgs(code_dim=1, num_coupling_layers=1, hidden_dim=4), frequency=0.5)
    conditional = knowledge.conditional(exists)
    [step] = conditional.flow._ordered()
    constants = {
        conditional.encoder: [0.5, 0.3],
        conditional.decoder: [1.0, 2.0, -0.4, -0.4],
        knowledge.of_t: [0.7],
        knowledge.of_c: [-1.1],
    }
    with torch.no_grad():
        step.order.copy_(torch.tensor([1, 0]))
        for regressor, bias in constants.items():
            regressor[-1].bias.copy_(torch.tensor(bias))
    point = Point(t=torch.tensor([[0.2, -0.6]]), z=torch.tensor([[0.4, 1.5]]), log_det=torch.tensor([0.25]))
    [loss] = knowledge.loss(point, exists=exists, noise_BC=torch.tensor([[0.8]]), encoding=encoding).tolist()

    def log_normal(x: float, mean: float, scale: float) -> float:
        return float(Normal(mean, scale).log_prob(torch.tensor(x)))

    c = 0.5 + 0.8 * math.exp(bounded(0.3)) if encoding else 0.8
    sign, r = (1 if exists else -1), math.exp(bounded(-0.4))
    log_q = log_normal(0.4, 0, 1) + log_normal(1.5, 0, 1) + 0.25
    log_q += math.log(sigmoid(sign * 0.7)) + log_normal(c, 0.5, math.exp(bounded(0.3)))
    log_p = log_normal(1.5, 1, r) + log_normal(0.4, 2, r) + 0.25  # the z-flow exchanges the two dimensions
    log_p += math.log(sigmoid(sign * -1.1)) + log_normal(c, 0, 1)
    assert loss == pytest.approx(-0.5 * (log_q + log_p), abs=1e-5)


def test_conditional_begins_as_the_prior(prior: CodePrior) -> None:
    knowledge = Knowledge(2, KnowledgeArgs(), frequency=0.2)
    point = prior.point(torch.randn(7, 2))
    torch.testing.assert_close(knowledge.conditional(True).log_prob(point, torch.randn(7, 4)), point.log_prior)
    torch.testing.assert_close(torch.sigmoid(knowledge.log_odds(point.t)), torch.full((7,), 0.2))


def quadrature(knowledge: Knowledge, point: Point) -> Tensor:
    """p(t|e = 1), the mean of p(t|1, c) over p(c|e = 1), summed over a fine grid of c [B]."""
    c = torch.linspace(-6, 6, 601)[:, None]
    weight = (torch.sigmoid(knowledge.of_c(c)) * Normal(0, 1).log_prob(c).exp()).double()
    densities = [knowledge.conditional(True).log_prob(point, each.expand(len(point.z), 1)).double().exp() for each in c]
    return (torch.stack(densities) * weight).sum(0) / weight.sum()


@torch.no_grad()
def test_density_of_a_label_is_estimated_without_bias(prior: CodePrior, knowledge: Knowledge) -> None:
    point = prior.point(prior.sample(5, generator=torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(0)
    estimates = torch.stack([knowledge.log_prob(point, generator=generator).double().exp() for _ in range(400)])
    exact = quadrature(knowledge, point)
    assert (exact - point.log_prior.double().exp()).abs().max() > 0.02
    # p(e = 1) is estimated once, from draws of p(c): within 1 % here.
    assert ((estimates.mean(0) - exact).abs() < 4 * estimates.std(0) / 20 + 0.01 * exact).all()


@torch.no_grad()
def test_densities_of_a_label_integrate_to_one(
    prior: CodePrior, knowledge: Knowledge, grid: tuple[Tensor, float], integral: Integral
) -> None:
    point = prior.point(grid[0])
    for exists in (False, True):
        log_prob = knowledge.conditional(exists).log_prob(point, torch.full((len(point.z), 1), 0.7))
        assert integral(log_prob) == pytest.approx(1, abs=1e-3)
    assert integral(knowledge.log_prob(point, generator=torch.Generator().manual_seed(0))) == pytest.approx(1, abs=0.01)


@torch.no_grad()
def test_draws_of_a_label_follow_its_density(
    prior: CodePrior, knowledge: Knowledge, grid: tuple[Tensor, float]
) -> None:
    points, area = grid
    weight = knowledge.log_prob(prior.point(points), generator=torch.Generator().manual_seed(0)).double().exp() * area
    z = knowledge.sample(20_000, generator=torch.Generator().manual_seed(0))
    samples = prior.standardization.restore(prior.flow.from_base(z)).double()
    for power in (1, 2):
        error = samples.pow(power).mean(0) - (weight[:, None] * points.double().pow(power)).sum(0)
        # One hundredth of it for the estimate of p(e = 1).
        scale = 4 * samples.pow(power).std(0) / 20_000**0.5 + 0.01 * samples.pow(power).mean(0).abs()
        assert (error.abs() < scale).all()


@pytest.fixture
def flowed() -> Knowledge:
    """A label whose p(c) and p(c|e, t) are flows of two dimensions."""
    args = KnowledgeArgs(code_dim=2, num_coupling_layers=2, hidden_dim=8, num_code_layers=2)
    knowledge = Knowledge(2, args, frequency=0.3)
    randomize(knowledge, 0.3, seed=1)
    return knowledge


@torch.no_grad()
def test_learned_densities_of_c_integrate_to_one_and_are_no_gaussians(flowed: Knowledge) -> None:
    ticks = torch.linspace(-12, 12, 401)
    c = torch.cartesian_prod(ticks, ticks)
    area = float(ticks[1] - ticks[0]) ** 2
    for density in (flowed.code_prior, flowed.conditional(True).posterior(torch.tensor([[0.3, -0.4]]))):
        log_prob = density.log_prob(c)
        weight = log_prob.double().exp() * area
        assert float(weight.sum()) == pytest.approx(1, abs=1e-3)
        noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
        draws = density.sample(noise).double()
        mean = (weight[:, None] * c).sum(0)
        assert ((draws.mean(0) - mean).abs() < 4 * draws.std(0) / 20_000**0.5).all()
    assert (flowed.code_prior.log_prob(c[:9]) - Normal(0, 1).log_prob(c[:9]).sum(-1)).abs().max() > 0.01


@torch.no_grad()
def test_draws_of_a_label_with_a_learned_prior_of_c_follow_its_density(
    prior: CodePrior, flowed: Knowledge, grid: tuple[Tensor, float], integral: Integral
) -> None:
    test_draws_of_a_label_follow_its_density(prior, flowed, grid)
    log_prob = flowed.log_prob(prior.point(grid[0]), generator=torch.Generator().manual_seed(0))
    assert integral(log_prob) == pytest.approx(1, abs=0.01)


@torch.no_grad()
def test_density_at_one_code_is_that_of_the_decoder_and_depends_on_the_encoder(
    prior: CodePrior, flowed: Knowledge
) -> None:
    point = prior.point(prior.sample(5, generator=torch.Generator().manual_seed(0)))
    found = flowed.log_prob_of_code(point, generator=torch.Generator().manual_seed(0))
    c = (
        flowed.conditional(True)
        .posterior(point.t)
        .sample(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))
    )
    torch.testing.assert_close(found, flowed.conditional(True).log_prob(point, c))
    untrained = Knowledge(2, flowed.args, frequency=0.3)
    at_prior = untrained.log_prob_of_code(point, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(at_prior, point.log_prior)
