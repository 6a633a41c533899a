"""Flows can be undone, and their densities are densities."""

import pytest
import torch
from torch import Tensor

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian
from smim.tzk.args import PriorArgs
from smim.tzk.flows import Flow
from smim.tzk.prior import CodePrior
from smim.tzk.standardization import Standardization
from tests.tzk.densities import Integral, randomize


@pytest.fixture(params=[2, 5, 32])
def flow(request: pytest.FixtureRequest) -> Flow:
    flow = Flow(request.param, num_layers=6, hidden_dim=16)
    randomize(flow, 0.1)
    return flow


def test_flow_is_undone_by_its_inverse(flow: Flow) -> None:
    t = torch.randn(50, len(flow._ordered()[0].order))
    z, _ = flow.to_base(t)
    assert (z - t).abs().max() > 0.1
    torch.testing.assert_close(flow.from_base(z), t, rtol=0, atol=1e-5)


def test_log_determinant_is_that_of_autograds_jacobian(flow: Flow) -> None:
    flow.double()
    t = torch.randn(4, len(flow._ordered()[0].order), dtype=torch.float64)
    _, log_det = flow.to_base(t)
    for point, value in zip(t, log_det, strict=True):
        jacobian = torch.func.jacrev(lambda x: flow.to_base(x[None])[0][0])(point)
        torch.testing.assert_close(value, torch.linalg.slogdet(jacobian).logabsdet)


def test_untrained_flow_only_shuffles() -> None:
    t = torch.randn(3, 6)
    z, log_det = Flow(6, num_layers=4, hidden_dim=8).to_base(t)
    assert torch.equal(z.sort(-1).values, t.sort(-1).values) and not log_det.any()


def test_standardised_codes_have_mean_zero_and_unit_covariance() -> None:
    posterior = DiagonalGaussian(torch.randn(400, 3) @ torch.randn(3, 3) + 5, torch.randn(400, 3) - 1)
    standardization = Standardization(3)
    standardization.fit(posterior)
    t = standardization.standardize(posterior.mean)
    variance = (posterior.log_variance.exp().mean(0).diag() @ standardization.whitening).T @ standardization.whitening
    torch.testing.assert_close(t.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(t.T @ t / 400 + variance, torch.eye(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(standardization.restore(t), posterior.mean, rtol=0, atol=1e-4)


def test_codes_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(UserError, match="does not distinguish sentences"):
        Standardization(2).fit(DiagonalGaussian(torch.ones(9, 2), torch.full((9, 2), -torch.inf)))


def test_a_direction_without_variance_does_not_make_the_map_infinite() -> None:
    mean = torch.randn(100, 1) @ torch.ones(1, 2)
    standardization = Standardization(2)
    standardization.fit(DiagonalGaussian(mean, torch.full((100, 2), -torch.inf)))
    assert torch.isfinite(standardization.log_prob(mean)).all()


@torch.no_grad()
def test_densities_of_the_prior_and_of_the_gaussian_integrate_to_one(
    prior: CodePrior, grid: tuple[Tensor, float], integral: Integral
) -> None:
    assert integral(prior.log_prob(grid[0])) == pytest.approx(1, abs=1e-3)
    assert integral(prior.standardization.log_prob(grid[0])) == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_samples_of_the_prior_follow_its_density(prior: CodePrior, grid: tuple[Tensor, float]) -> None:
    points, area = grid
    weight = (prior.log_prob(points).double().exp() * area)[:, None]
    samples = prior.sample(20_000, generator=torch.Generator().manual_seed(0)).double()
    for power in (1, 2):
        error = samples.pow(power).mean(0) - (weight * points.double().pow(power)).sum(0)
        assert (error.abs() < 4 * samples.pow(power).std(0) / 20_000**0.5).all()


def test_settings_that_are_too_low_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"prior\.num_coupling_layers is 0, but it must be at least 1; prior\.hidden_dim is 0"
    ):
        PriorArgs(num_coupling_layers=0, hidden_dim=0)
