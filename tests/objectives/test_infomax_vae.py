"""InfoMax-VAE: its loss written out and by enumeration, and its estimates of mutual information against exact ones."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from smim.errors import UserError
from smim.objectives.critics import MLPCritic
from smim.objectives.infomax_vae import DUALS, InfoMaxVAE, dual_information, random_cycle
from tests.objectives.checks import check_mean, gaussian, vector_model, vectors
from tests.objectives.tabular import DATA, GRID, STEP, Exact, draw, random_model

CORRELATION = 0.8
# Of two independent pairs.
INFORMATION = -math.log(1 - CORRELATION**2)


def correlated_pairs(num: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two standard normals x, as many z that correlate with them, and the z of others."""
    x = torch.randn(num, 2)
    z = CORRELATION * x + math.sqrt(1 - CORRELATION**2) * torch.randn(num, 2)
    return x, z, z[random_cycle(num)]


def log_ratio(x: Tensor, z: Tensor) -> Tensor:
    """log p(z|x) / p(z) of such pairs: the best critic."""
    conditional = Normal(CORRELATION * x, math.sqrt(1 - CORRELATION**2))
    return (conditional.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)


@pytest.mark.parametrize("dual", DUALS)
def test_the_best_critic_says_the_exact_information(dual):
    check_mean(dual_information(log_ratio, *correlated_pairs(200_000), dual=dual), INFORMATION)


@pytest.mark.parametrize("dual", DUALS)
def test_a_trained_critic_says_a_little_less_than_the_information(dual):
    critic = MLPCritic(4, 64)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(500):
        optimizer.zero_grad()
        (-dual_information(critic, *correlated_pairs(512), dual=dual)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        estimate = dual_information(critic, *correlated_pairs(100_000), dual=dual)
    standard_error = float(estimate.std()) / math.sqrt(len(estimate))
    assert 0.9 * INFORMATION < estimate.mean() < INFORMATION + 2 * standard_error


@pytest.mark.parametrize("dual", DUALS)
def test_a_critic_that_knows_nothing_says_0(dual):
    silent = dual_information(lambda x, z: 0 * x[:, 0] * z[:, 0], *correlated_pairs(10), dual=dual)
    torch.testing.assert_close(silent, torch.zeros(10))


def test_the_donsker_varadhan_dual_is_the_tighter_one():
    for critic in (lambda x, z: 0.5 * log_ratio(x, z), lambda x, z: 0.7 * log_ratio(x, z) - 1):
        pairs = correlated_pairs(50_000)
        f_divergence, donsker_varadhan = (dual_information(critic, *pairs, dual=dual).mean() for dual in DUALS)
        assert f_divergence < donsker_varadhan < INFORMATION


@pytest.mark.parametrize("num", [1, 2, 3, 50])
def test_a_random_cycle_comes_to_each_place_once_before_it_returns(num):
    cycle = random_cycle(num)
    place, visited = 0, []
    for _ in range(num):
        place = int(cycle[place])
        visited.append(place)
    assert visited[-1] == 0 and sorted(visited) == list(range(num))


def test_a_code_comes_to_each_other_observation_equally_often():
    drawn = torch.stack([random_cycle(4) for _ in range(4000)])
    check_mean((drawn[:, :1] == torch.tensor([1, 2, 3])).double(), torch.full((3,), 1 / 3))


@pytest.mark.parametrize("dual", DUALS)
def test_the_loss_is_its_equation(dual):
    model, batch, noise = vector_model(), vectors(6), torch.randn(6, 2)
    objective = InfoMaxVAE(alpha=3.0, beta=0.4, dual=dual)
    critic = objective.make_critic(model).network
    posterior = model.posterior(batch)
    z = posterior.mean + noise * posterior.standard_deviation
    prior = Independent(Normal(torch.zeros(6, 2), torch.ones(6, 2)), 1)
    torch.manual_seed(3)
    joint, marginal = (1 + critic(batch.vectors, codes) for codes in (z, z[random_cycle(6)]))
    of_marginals = torch.exp(marginal - 1) if dual == "f_divergence" else marginal.exp().mean().log()
    reconstruction = -gaussian(model.decode(z)).log_prob(batch.vectors)
    torch.manual_seed(3)
    terms = objective.terms(model, batch, step=0, noise=noise, critic=critic)
    torch.testing.assert_close(terms["mutual_information"], joint - of_marginals)
    torch.testing.assert_close(terms["critic_loss"], of_marginals - joint)
    kl = kl_divergence(gaussian(posterior), prior)
    torch.testing.assert_close(terms["loss"], reconstruction + 0.4 * kl - 3 * (joint - of_marginals))


class BestCritic(nn.Module):
    """log q(z|x) / q(z) of a tabular model, for x one-hot."""

    def __init__(self, exact: Exact) -> None:
        super().__init__()
        self.log_ratio_XZ = (exact.log_posterior - log_aggregate(exact)).detach()

    def forward(self, x_BX: Tensor, z_BD: Tensor) -> Tensor:
        nearest = ((z_BD[:, 0] - GRID[0]) / STEP).round().long()
        return self.log_ratio_XZ[x_BX.argmax(1), nearest]


def log_aggregate(exact: Exact) -> Tensor:
    """log q(z) [1, Z]."""
    return torch.logsumexp(exact.log_posterior + exact.data_X.log()[:, None], 0, keepdim=True)


@pytest.mark.parametrize("dual", DUALS)
def test_the_loss_is_the_exact_one_at_the_best_critic(dual):
    exact = Exact(random_model(), DATA)
    information = exact.over_encoder(exact.log_posterior - log_aggregate(exact))
    objective = InfoMaxVAE(alpha=2.0, beta=0.5, dual=dual)
    terms = objective.terms(exact.model, draw(DATA, 100_000), step=None, critic=BestCritic(exact))
    kl = exact.over_encoder(exact.log_posterior - exact.log_prior)
    check_mean(terms["mutual_information"], information)
    check_mean(terms["loss"], exact.over_encoder(-exact.log_likelihood) + 0.5 * kl - 2 * information)
    assert 0.1 < information < kl


@pytest.mark.parametrize("dual", DUALS)
def test_of_an_observation_alone_the_estimate_is_0_without_a_gradient(dual):
    objective, model = InfoMaxVAE(dual=dual), vector_model()
    critic = objective.make_critic(model).network
    terms = objective.terms(model, vectors(1), step=0, critic=critic)
    assert terms["mutual_information"].item() == 0
    terms["critic_loss"].sum().backward()
    assert all(parameter.grad.eq(0).all() for parameter in critic.parameters())


@pytest.mark.parametrize("dual", DUALS)
def test_a_critic_that_is_sure_of_a_wrong_pair_has_a_finite_loss_and_gradient(dual):
    said = torch.tensor([1e4, 0.0], requires_grad=True)
    loss = -dual_information(
        lambda x, z: said + 0 * z[:, 0], torch.zeros(2, 1), torch.zeros(2, 1), torch.ones(2, 1), dual=dual
    )
    loss.sum().backward()
    assert loss.isfinite().all() and said.grad.isfinite().all() and said.grad[0] > 0


@pytest.mark.parametrize(("setting", "value"), [("alpha", -1.0), ("beta", -1.0), ("dual", "kl")])
def test_settings_that_cannot_be_are_refused_by_name(setting, value):
    with pytest.raises(UserError, match=f"objective.{setting}"):
        InfoMaxVAE(**{setting: value})
