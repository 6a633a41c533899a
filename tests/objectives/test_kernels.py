"""MMD and Stein's direction against double loops, autograd, and integrals of Gaussians."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from smim.model.priors import GaussianMixture, StandardNormal
from smim.objectives.kernels import mmd_squared, score, stein_direction
from tests.objectives.checks import check_mean

KERNELS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "rbf": lambda x, y, bandwidth: torch.exp(-(x - y).square().sum() / (2 * bandwidth**2)),
    "imq": lambda x, y, bandwidth: 2 * bandwidth**2 / (2 * bandwidth**2 + (x - y).square().sum()),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_of_equal_samples_is_0(kernel):
    z = torch.randn(40, 5)
    assert mmd_squared(z, z.clone(), kernel=kernel).item() == pytest.approx(0, abs=1e-7)
    assert mmd_squared(z, z + 0.5, kernel=kernel).item() > 0.01


@pytest.mark.parametrize("bandwidth", [None, 0.7])
@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_that_of_a_double_loop(kernel, bandwidth):
    x, y = torch.randn(6, 3), 2 * torch.randn(9, 3) + 1
    used = math.sqrt(3) if bandwidth is None else bandwidth
    xx, yy, xy = (
        sum(float(KERNELS[kernel](a, b, used)) for a in one for b in other) / (len(one) * len(other))
        for one, other in ((x, x), (y, y), (x, y))
    )
    assert mmd_squared(x, y, kernel=kernel, bandwidth=bandwidth).item() == pytest.approx(xx + yy - 2 * xy, rel=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_has_a_finite_gradient_where_codes_coincide_or_are_far_away(kernel):
    z = torch.cat([torch.zeros(3, 2), torch.full((2, 2), 1e4)]).requires_grad_()
    mmd_squared(z, torch.randn(5, 2), kernel=kernel).backward()
    assert z.grad.isfinite().all()


def test_the_score_is_the_gradient_of_the_log_density():
    mixture, z = GaussianMixture(2, num_components=3), torch.randn(7, 2)
    _, gaussians = mixture.components()
    components = Independent(Normal(gaussians.mean, gaussians.standard_deviation), 1)
    density = MixtureSameFamily(Categorical(logits=mixture.logits), components)
    at = z.clone().requires_grad_()
    [expected] = torch.autograd.grad(density.log_prob(at).sum(), at)
    with torch.no_grad():
        torch.testing.assert_close(score(mixture, z), expected)


def test_steins_direction_is_its_definition_with_the_kernels_gradient_by_autograd():
    z, bandwidth = torch.randn(8, 3), 0.9
    scores = torch.randn(8, 3)
    expected = torch.zeros(8, 3)
    for i in range(8):
        for j in range(8):
            other = z[j].clone().requires_grad_()
            kernel = KERNELS["rbf"](other, z[i], bandwidth)
            [gradient] = torch.autograd.grad(kernel, other)
            expected[i] += (kernel.detach() * scores[j] + gradient) / 8
    torch.testing.assert_close(stein_direction(z, scores, bandwidth=bandwidth), expected)


def test_steins_direction_leads_from_one_gaussian_to_another():
    """By Stein's identity it is E_q[k(z, .) (score of p - score of q)]: from N(m, I) to N(0, I), -m E_q[k(z, .)]."""
    num, shift, bandwidth = 300, torch.tensor([1.0, -0.5]), 1.5
    centre = torch.tensor([0.3, 0.3])
    expected_kernel = (bandwidth**2 / (1 + bandwidth**2)) * math.exp(
        -float((centre - shift).square().sum()) / (2 * (1 + bandwidth**2))
    )
    directions = []
    for _ in range(50):
        z = torch.cat([centre[None], shift + torch.randn(num, 2)])
        directions.append(stein_direction(z, score(StandardNormal(2), z), bandwidth=bandwidth)[0])
    check_mean(torch.stack(directions), -shift * expected_kernel * num / (num + 1) - centre / (num + 1))


def test_codes_that_follow_the_prior_are_hardly_moved():
    z = torch.randn(1000, 2)
    moved, shifted = (stein_direction(codes, -codes).norm(dim=1).mean() for codes in (z, z + 1))
    assert moved < 0.1 * shifted


def test_the_bandwidth_by_default_follows_the_median_distance_of_the_codes():
    z, scores = torch.randn(7, 3), torch.randn(7, 3)
    distances = torch.pdist(z).square()
    of_median = stein_direction(z, scores, bandwidth=math.sqrt(0.5 * float(distances.median())))
    torch.testing.assert_close(stein_direction(z, scores), of_median)


@pytest.mark.parametrize("z", [torch.zeros(4, 2), torch.zeros(1, 2)])
def test_codes_on_top_of_one_another_go_the_way_of_the_score(z):
    scores = torch.ones_like(z)
    torch.testing.assert_close(stein_direction(z, scores), scores)
