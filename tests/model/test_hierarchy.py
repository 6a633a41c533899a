"""Two levels of latent variables against sums over symbols and a grid of z = [z2, z1]."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from smim.model.distributions import DiagonalGaussian, TwoLevelGaussian, concatenated
from smim.model.hierarchy import Conditional, TwoLevelPrior
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.priors import GaussianMixture, Prior, StandardNormal
from smim.objectives import objective_class
from tests.models import vector_args
from tests.objectives.checks import check_mean, flat_gradient
from tests.objectives.tabular import Symbols, draw

DATA = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
LINE = torch.linspace(-8, 8, 481, dtype=torch.float64)
AREA = float(LINE[1] - LINE[0]) ** 2
Z2, Z1 = (each.flatten() for each in torch.meshgrid(LINE, LINE, indexing="ij"))
NUM = 100_000


class LinearConditional(nn.Module):
    """p(z1|z2) = N(0.8 z2 - 0.3, 0.6² exp(0.2 z2))."""

    def forward(self, z2: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(0.8 * z2 - 0.3, 2 * math.log(0.6) + 0.2 * z2)


class TwoLevelModel(LatentVariableModel):
    """Three symbols, two latent dimensions. By symbol: q(z2|x) = N(m, s²), q(z1|x, z2) = N(a + b z2, 0.4² exp(0.4 z2)).

    p(x|z) = softmax over the symbols of (u z2 + v z1 + w). `top` is p(z2).
    """

    reparameterized = False

    def __init__(self, top: Prior) -> None:
        super().__init__()
        self.args = vector_args(latent_dim=2)
        self.input_size = self.summary_dim = len(DATA)
        random = torch.Generator().manual_seed(2)
        self.encoder_table = nn.Parameter(0.7 * torch.randn(3, 4, generator=random).double())  # m, log s, a, b
        self.decoder_table = nn.Parameter(torch.randn(3, 3, generator=random).double())  # u, v, w
        self.prior = TwoLevelPrior(top.double(), LinearConditional())

    @staticmethod
    def given_top(features: Tensor, z2: Tensor) -> DiagonalGaussian:
        mean = features[..., :1] + features[..., 1:] * z2
        return DiagonalGaussian(mean, 2 * math.log(0.4) + 0.4 * z2)

    def posterior(self, batch: Symbols) -> TwoLevelGaussian:
        mean, log_stdev, *_ = self.encoder_table[batch.symbols].split(1, -1)
        return TwoLevelGaussian(
            DiagonalGaussian(mean, 2 * log_stdev), self.encoder_table[batch.symbols][:, 2:], self.given_top
        )

    def log_prob_of_all(self, z: Tensor) -> Tensor:
        return torch.log_softmax(z @ self.decoder_table[:, :2].T + self.decoder_table[:, 2], -1)

    def log_likelihood(self, batch: Symbols, z_BD: Tensor) -> Tensor:
        return self.log_prob_of_all(z_BD).gather(1, batch.symbols[:, None])[:, 0]

    @torch.no_grad()
    def sample(self, z_BD: Tensor, *, max_length: int = 100) -> Symbols:
        symbols = torch.multinomial(self.log_prob_of_all(z_BD).exp(), 1)[:, 0]
        return Symbols(torch.arange(len(symbols)), symbols)

    def summary(self, batch: Symbols) -> Tensor:
        return nn.functional.one_hot(batch.symbols, 3).float()


@dataclass(frozen=True)
class Exact:
    """Log densities in nats [3, points of the grid], and expectations, written out."""

    log_q: Tensor
    log_x: Tensor
    log_p: Tensor

    @classmethod
    def of(cls, model: TwoLevelModel) -> "Exact":
        m, log_s, a, b = (column[:, None] for column in model.encoder_table.T)
        u, v, w = (column[:, None] for column in model.decoder_table.T)
        log_q = Normal(m, log_s.exp()).log_prob(Z2) + Normal(a + b * Z2, 0.4 * (0.2 * Z2).exp()).log_prob(Z1)
        log_top = Normal(0.0, 1.0).log_prob(Z2)
        if isinstance(top := model.prior.top, GaussianMixture):
            of_components = Normal(top.means, (0.5 * top.log_variances).exp()).log_prob(Z2)
            log_top = torch.logsumexp(torch.log_softmax(top.logits, 0)[:, None] + of_components, 0)
        log_p = log_top + Normal(0.8 * Z2 - 0.3, 0.6 * (0.1 * Z2).exp()).log_prob(Z1)
        return cls(log_q, torch.log_softmax(u * Z2 + v * Z1 + w, 0), log_p)

    def over_encoder(self, values: Tensor) -> Tensor:
        """E over q(z|x) for each symbol [3]."""
        return (self.log_q.exp() * values).sum(1) * AREA

    @property
    def kl(self) -> Tensor:
        return self.over_encoder(self.log_q - self.log_p)

    @property
    def entropy(self) -> Tensor:
        return self.over_encoder(-self.log_q)

    def loss(self, name: str) -> Tensor:
        """The expected loss of an objective over symbols from DATA."""
        reconstruction = self.over_encoder(-self.log_x)
        if name == "vae":
            return DATA @ (reconstruction + self.kl)
        if name == "amim":
            return DATA @ (reconstruction - 0.5 * self.over_encoder(self.log_q + self.log_p))
        elbo = -(reconstruction + self.kl)[:, None]
        encoding = DATA @ self.over_encoder(-(self.log_x + self.log_p))
        log_joint = self.log_x + self.log_p
        # The loss has no gradient through the draws of p(z).
        sampled = self.log_x.exp() * self.log_p.exp().detach()
        decoding = (sampled * -0.5 * (log_joint + self.log_q + elbo)).sum() * AREA
        return 0.5 * (encoding + decoding)


@pytest.fixture
def model() -> TwoLevelModel:
    return TwoLevelModel(StandardNormal(1))


@pytest.fixture
def with_mixture() -> TwoLevelModel:
    """With a learned p(z2) of two Gaussians."""
    return TwoLevelModel(GaussianMixture(1, num_components=2))


def every(num: int) -> Symbols:
    """Each symbol `num` times in turn."""
    return Symbols(torch.arange(3 * num), torch.arange(3).repeat(num))


def test_the_grid_holds_all_probability(model):
    exact = Exact.of(model)
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(exact.over_encoder(torch.ones_like(exact.log_q)), ones, rtol=0, atol=1e-6)
    assert float(exact.log_p.exp().sum() * AREA) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("prior", ["model", "with_mixture"])
@pytest.mark.parametrize("name", ["vae", "amim", "mim"])
def test_the_losses_are_the_exact_ones(request, prior, name):
    model = request.getfixturevalue(prior)
    terms = objective_class(name)(name=name).terms(model, draw(DATA, NUM), step=None)
    exact = Exact.of(model)
    check_mean(terms["loss"], exact.loss(name))
    check_mean(terms["kl"], DATA @ exact.kl)
    check_mean(terms["reconstruction"], DATA @ exact.over_encoder(-exact.log_x))


@pytest.mark.parametrize("prior", ["model", "with_mixture"])
@pytest.mark.parametrize("name", ["vae", "amim", "mim"])
def test_the_gradients_are_those_of_the_exact_losses(request, prior, name):
    """In ten parts, to see how far they scatter."""
    model = request.getfixturevalue(prior)
    expected = flat_gradient(Exact.of(model).loss(name), model)
    parts = []
    for _ in range(10):
        loss = objective_class(name)(name=name).terms(model, draw(DATA, NUM // 5), step=None)["loss"].mean()
        parts.append(flat_gradient(loss, model))
    found = torch.stack(parts)
    error = found.std(0) / math.sqrt(len(parts))
    assert ((found.mean(0) - expected).abs() <= 6 * error + 1e-9).all()


def test_densities_and_draws_are_those_of_the_two_levels(model):
    batch = every(NUM)
    posterior = model.posterior(batch)
    z = posterior.sample()
    exact = Exact.of(model)
    second_moments = torch.stack([exact.over_encoder(each) for each in (Z2, Z1, Z2 * Z1, Z1 * Z1)], 1)
    drawn = torch.stack([z[:, 0], z[:, 1], z[:, 0] * z[:, 1], z[:, 1].square()], 1)
    for symbol in range(3):
        check_mean(drawn[symbol::3], second_moments[symbol])
    points = torch.stack([Z2, Z1], 1)[::4801]
    ours = model.posterior(every(1)).log_prob_under_each(points)
    torch.testing.assert_close(ours, Exact.of(model).log_q.T[::4801])
    for symbol in range(3):
        one = posterior.take(torch.full((len(points),), symbol))
        torch.testing.assert_close(one.log_prob(points), ours[:, symbol])
    torch.testing.assert_close(model.prior.log_prob(points), exact.log_p[::4801])


def test_given_noise_determines_the_draw(model):
    posterior, noise = model.posterior(every(2)), torch.randn(6, 2).double()
    z = posterior.sample(noise)
    torch.testing.assert_close(z[:, :1], posterior.top.sample(noise[:, :1]))
    torch.testing.assert_close(z[:, 1:], model.given_top(posterior.features, z[:, :1]).sample(noise[:, 1:]))
    torch.testing.assert_close(posterior.sample(torch.zeros_like(noise)), posterior.mean)
    assert torch.equal(posterior.log_variance[:, :1], posterior.top.log_variance)


def test_the_entropy_is_right_on_average(model):
    entropy = model.posterior(every(NUM)).entropy().view(-1, 3)
    check_mean(entropy.mean(1), Exact.of(model).entropy.mean())


def test_the_kl_to_a_standard_normal_is_no_closed_form_of_diagonal_gaussians(model):
    """It is estimated, as E[log q(z|x) - log p(z)], because the levels depend on each other."""
    posterior = model.posterior(every(NUM))
    exact = Exact.of(model)
    normal = Normal(0.0, 1.0).log_prob(Z2) + Normal(0.0, 1.0).log_prob(Z1)
    expected = exact.over_encoder(exact.log_q - normal).mean()
    estimated = StandardNormal(2).kl(posterior, posterior.sample()).view(-1, 3).mean(1)
    check_mean(estimated, expected)
    wrong = DiagonalGaussian(posterior.mean, posterior.log_variance).kl_to_standard_normal().mean()
    assert abs(wrong - expected) > 0.05


def test_the_prior_draws_from_its_density(model):
    z = model.prior.sample(NUM)
    moments = torch.stack([z[:, 0], z[:, 1], z[:, 0] * z[:, 1], z[:, 1].square()], 1)
    check_mean(moments, torch.tensor([0.0, -0.3, 0.8, 0.8**2 + 0.3**2 + 0.6**2 * math.exp(0.02)]))


def test_information_compares_all_pairs(model):
    posterior = model.posterior(every(4))
    z = posterior.sample()
    pairs = torch.stack([posterior.take(torch.full((12,), row)).log_prob(z) for row in range(12)], 1)
    expected = pairs.diagonal() - pairs.logsumexp(1) + math.log(12)
    torch.testing.assert_close(posterior.information(z), expected)


def test_posteriors_are_concatenated_in_order(model):
    whole, parts = model.posterior(every(2)), [model.posterior(every(1)), model.posterior(every(1))]
    z = whole.sample()
    torch.testing.assert_close(concatenated(parts).log_prob(z), whole.log_prob(z))
    tops = concatenated([part.top for part in parts])
    assert torch.equal(tops.mean, whole.top.mean) and torch.equal(tops.log_variance, whole.top.log_variance)


def test_at_first_z1_is_normal_given_z2():
    z2 = torch.randn(5, 3)
    given = Conditional(3, hidden_dim=7, min_log_variance=-6.0)(z2)
    assert not given.mean.any() and not given.log_variance.any()


def test_the_clamp_of_z1_given_z2_holds():
    conditional = Conditional(2, hidden_dim=4, min_log_variance=-1.5)
    with torch.no_grad():
        conditional.to_log_variance.bias.fill_(-9)
    assert (conditional(torch.randn(5, 2)).log_variance == -1.5).all()


def test_a_mixture_over_z2_keeps_the_precision_of_codes():
    prior = TwoLevelPrior(GaussianMixture(2, num_components=3), Conditional(2, hidden_dim=4, min_log_variance=-6.0))
    z = prior.sample(6)
    assert z.shape == (6, 4) and not z.requires_grad and prior.num_initial_observations == 0
    assert prior.log_prob(z).dtype == torch.float32 and prior.log_prob(z.double()).dtype == torch.float64
