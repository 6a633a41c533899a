"""L_MIM, L_CE and R_MIM of appendix B against integrals over a grid of x and z, both of one dimension."""

import math

import pytest
import torch
from torch import Tensor

from smim.errors import UserError
from smim.model.distributions import GaussianMixtures
from smim.model.mlp import VectorAutoencoder
from smim.objectives.mim import MIM, LatentAnchor
from smim.vectors.batch import VectorBatch
from tests.models import vector_args
from tests.objectives.checks import check_mean, flat_gradient

TICKS = torch.linspace(-16, 16, 801)
STEP = (TICKS[1] - TICKS[0]).item()
DATA_MEANS, ANCHOR_MEANS, STDEV = [[-1.0], [1.5]], [[-2.0], [0.5]], 0.6
ANCHOR = LatentAnchor(ANCHOR_MEANS, STDEV)


def anchor_log_prob(means: list[list[float]]) -> Tensor:
    """The log density of the anchor with these means at the grid's points [N]."""
    num = len(means)
    mixture = GaussianMixtures(
        torch.full((1, num), -math.log(num)), torch.tensor(means)[None], torch.full((1, num, 1), 2 * math.log(STDEV))
    )
    return mixture.take(torch.zeros(len(TICKS), dtype=torch.int64)).log_prob(TICKS[:, None])


class Grid:
    """A model with mixtures for all four of its distributions, and its log densities at a grid of (x, z) [N, N]."""

    def __init__(self, objective: MIM) -> None:
        torch.manual_seed(2)
        args = vector_args(latent_dim=1, hidden_dim=6, num_components=3, activation="swish", min_log_variance=-3.0,
                           min_decoder_log_variance=-3.0, prior="gaussian_mixture", num_prior_components=3)  # fmt: skip
        self.model = VectorAutoencoder(args, dimension=1)
        for parameter in self.model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        self.critic = objective.make_critic(self.model).network
        points = TICKS[:, None]
        posterior, decoder = (
            self.model.posterior(VectorBatch(torch.arange(len(points)), points)),
            self.model.decode(points),
        )
        self.log_posterior = posterior.log_prob_under_each(points).T.detach()
        self.log_likelihood = decoder.log_prob_under_each(points).detach()
        self.log_p = self.log_likelihood + self.model.prior.log_prob(points).detach()
        self.log_q = self.log_posterior + self.critic(points).detach()[:, None]

    def over_samples(self, values: Tensor) -> Tensor:
        """The mean of values [N, N] over M_S: half over x ~ P(x), z ~ q(z|x), half over z ~ P(z), x ~ p(x|z)."""
        encoding = anchor_log_prob(DATA_MEANS)[:, None] + self.log_posterior
        decoding = anchor_log_prob(ANCHOR_MEANS) + self.log_likelihood
        densities = 0.5 * (encoding.exp() + decoding.exp())
        assert densities.sum() * STEP**2 == pytest.approx(1, abs=2e-4)
        return (densities * values).sum() * STEP**2

    def terms(self, objective: MIM, num: int, step: int | None = None) -> dict[str, Tensor]:
        torch.manual_seed(1)
        x = LatentAnchor(DATA_MEANS, STDEV).sample(num, torch.device("cpu"))
        return objective.terms(self.model, VectorBatch(torch.arange(num), x), step=step, critic=self.critic)


def objective(weight: float, **settings) -> MIM:
    return MIM(data_prior="gaussian_mixture", data_prior_components=4, consistency_weight=weight,
               latent_anchor=ANCHOR, **settings)  # fmt: skip


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_the_cross_entropy_and_its_share_of_the_consistency_term(weight):
    exact = Grid(objective(weight))
    cross_entropy = exact.over_samples(math.log(2) - torch.logaddexp(exact.log_p, exact.log_q))
    mim = exact.over_samples(-0.5 * (exact.log_p + exact.log_q))
    assert mim - cross_entropy > 0.2
    loss = exact.terms(objective(weight), 60_000)["loss"]
    check_mean(loss, cross_entropy + weight * (mim - cross_entropy))


def test_the_loss_switches_at_its_step_and_validation_does_not():
    switched, exact = objective(1.0, switch_step=5), Grid(objective(1.0))
    first, later, valid = (exact.terms(switched, 50, step=step)["loss"] for step in (4, 5, None))
    torch.testing.assert_close(first, exact.terms(objective(0.0), 50)["loss"])
    torch.testing.assert_close(later, exact.terms(objective(1.0), 50)["loss"])
    torch.testing.assert_close(later, valid)
    assert [switched.settled(step) for step in (4, 5)] == [False, True]


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_mixture_and_model_each_get_the_gradient_of_the_one_loss(weight):
    chosen = objective(weight)
    exact = Grid(chosen)
    terms = exact.terms(chosen, 40)
    of_critic = flat_gradient(terms["critic_loss"].mean(), exact.critic)
    parameters = torch.nn.utils.parameters_to_vector(exact.critic.parameters()).detach()
    direction = torch.nn.functional.normalize(of_critic, dim=0)
    ends = []
    for step in (1e-2, -1e-2):
        torch.nn.utils.vector_to_parameters(parameters + step * direction, exact.critic.parameters())
        ends.append(exact.terms(chosen, 40)["loss"].mean().item())
    assert of_critic.norm().item() == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.02)


def test_the_decoders_half_draws_from_the_anchor():
    drawn = ANCHOR.sample(50_000, torch.device("cpu"))
    check_mean(drawn[:, 0], -0.75)
    check_mean(drawn[:, 0].square(), 0.5 * (4 + 0.25) + STDEV**2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"consistency_weight": 0.5}, r"consistency_weight=0\.5 with switch_step=0 needs a density q\(x\)"),
        ({"consistency_weight": 1.5}, r"objective\.consistency_weight is 1\.5, but it must be at most 1"),
        (
            {"switch_step": 3, "data_prior": "gaussian_mixture", "warmup_steps": 5},
            r"has no warm-up",
        ),
        (
            {"latent_anchor": LatentAnchor([[0.0], [1.0, 2.0]])},
            r"means of \[1, 2\] numbers, but all must",
        ),
        ({"latent_anchor": LatentAnchor([[0.0]], 0.0)}, r"objective\.latent_anchor\.standard_deviation is 0\.0"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(UserError, match=message):
        MIM(**settings)


def test_an_anchor_of_another_size_than_the_codes_is_refused():
    args = vector_args(latent_dim=2)
    with pytest.raises(UserError, match=r"means of 1 numbers, but model\.latent_dim is 2"):
        MIM(latent_anchor=ANCHOR).prepare(VectorAutoencoder(args, dimension=3))
