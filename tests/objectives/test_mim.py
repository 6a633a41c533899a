"""MIM against enumeration over symbols and a grid of z, and its algorithms written out for vectors."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal

from smim.errors import UserError
from smim.model.autoencoder import SentenceAutoencoder
from smim.objectives import objective_class
from smim.objectives.mim import MIM
from smim.text.corpus import Corpus
from smim.vectors.batch import VectorBatch
from tests.models import sentence_args
from tests.objectives.checks import check_mean, flat_gradient, gaussian, vector_model, vectors
from tests.objectives.tabular import DATA, STEP, Exact, consistent_model, draw, random_model


@pytest.fixture(scope="module")
def exact() -> Exact:
    return Exact(random_model(), DATA)


@pytest.mark.parametrize("settings", [{}, {"entropy_weight": -1.0}, {"warmup_steps": 10}])
def test_the_loss_is_the_exact_one(exact, settings):
    objective = MIM(**settings)
    loss = objective.terms(exact.model, draw(DATA, 200_000), step=3)["loss"]
    beta = 0.3 if "warmup_steps" in settings else 1.0
    check_mean(loss, exact.mim(exact.elbo, beta=beta) + objective.entropy_weight * exact.conditional_entropy())
    assert loss.std() < 3


def test_the_halves_are_those_of_encoder_and_decoder(exact):
    terms = MIM().terms(exact.model, draw(DATA, 200_000), step=None)
    log_joint = exact.log_likelihood + exact.log_prior
    check_mean(terms["encoding_half"], exact.over_encoder(-log_joint))
    check_mean(terms["decoding_half"], exact.over_decoder(-0.5 * (log_joint + exact.log_posterior + exact.elbo)))


def test_the_loss_bounds_the_entropy_of_the_samples(exact):
    """Eq. 3.18, with Algorithm 3's bound of log q(x) on top."""
    ours, mim = exact.mim(exact.elbo), exact.mim(exact.log_marginal)
    assert ours > mim > exact.cross_entropy(exact.log_marginal) > exact.sample_entropy()


def test_the_consistency_term_is_what_equation_3_16_says(exact):
    log_decoding, log_encoding = exact.log_likelihood + exact.log_prior, exact.log_posterior + exact.log_marginal
    log_mixture = torch.logaddexp(log_decoding, log_encoding) - math.log(2)
    expected = exact.over_samples(log_mixture - 0.5 * (log_decoding + log_encoding))
    consistency = exact.mim(exact.log_marginal) - exact.cross_entropy(exact.log_marginal)
    torch.testing.assert_close(consistency, expected)
    assert consistency > 0.01


def test_a_consistent_model_reaches_every_bound():
    exact = Exact(consistent_model(DATA), DATA)
    entropy = exact.sample_entropy()
    for log_data in (exact.elbo, exact.log_marginal):
        torch.testing.assert_close(exact.mim(log_data), entropy)
        torch.testing.assert_close(exact.cross_entropy(log_data), entropy)
    check_mean(MIM().terms(exact.model, draw(DATA, 100_000), step=None)["loss"], entropy)


def test_the_loss_is_the_sum_of_equation_3_17(exact):
    log_p, log_q = exact.log_likelihood + exact.log_prior, exact.log_posterior + exact.elbo
    log_data = DATA.log()[:, None]
    entropy_of_anchor = -(exact.log_prior.exp() * exact.log_prior).sum() * STEP
    entropies = exact.conditional_entropy() + 0.5 * (Categorical(DATA).entropy() + entropy_of_anchor)
    data_divergence = (DATA[:, None] * (log_data - exact.elbo)).sum()  # that of the latent anchor is 0
    divergences = exact.over_encoder(exact.log_posterior + log_data - log_p) + exact.over_decoder(log_p - log_q)
    torch.testing.assert_close(exact.mim(exact.elbo), entropies + 0.25 * (data_divergence + divergences))


@pytest.fixture
def written_out():
    """A model, five vectors, noise, and the log densities of both halves as drawn from seed 3."""
    model, batch, noise = vector_model(), vectors(5), torch.randn(5, 2)
    prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    torch.manual_seed(3)
    posterior = model.posterior(batch)
    z = posterior.mean + noise * posterior.standard_deviation
    drawn_z = torch.randn(5, 2)
    decoder = model.decode(drawn_z)
    drawn_x = decoder.mean + torch.randn(5, 3) * decoder.standard_deviation
    posterior_of_drawn = model.posterior(VectorBatch(batch.rows, drawn_x))
    again = posterior_of_drawn.mean + torch.randn(5, 2) * posterior_of_drawn.standard_deviation
    log_likelihood_again = gaussian(model.decode(again)).log_prob(drawn_x)
    log = {
        "encoder": gaussian(model.decode(z)).log_prob(batch.vectors) + prior.log_prob(z),
        "encoder_q": gaussian(posterior).log_prob(z),
        "decoder": gaussian(decoder).log_prob(drawn_x) + prior.log_prob(drawn_z),
        "decoder_q": gaussian(posterior_of_drawn).log_prob(drawn_z),
        "elbo": log_likelihood_again + prior.log_prob(again) - gaussian(posterior_of_drawn).log_prob(again),
    }
    return model, batch, noise, drawn_x, log


def test_a_marginal_data_prior_is_algorithm_3(written_out):
    model, batch, noise, _, log = written_out
    torch.manual_seed(3)
    loss = MIM().terms(model, batch, step=0, noise=noise)["loss"]
    decoding = -0.5 * (log["decoder_q"] + log["decoder"] + log["elbo"])
    torch.testing.assert_close(loss, 0.5 * (-log["encoder"] + decoding))


def test_a_learned_data_prior_is_algorithm_1(written_out):
    model, batch, noise, drawn_x, log = written_out
    objective = MIM(data_prior="gaussian_mixture", data_prior_components=4)
    mixture = objective.make_critic(model).network
    torch.manual_seed(3)
    loss = objective.terms(model, batch, step=0, noise=noise, critic=mixture)["loss"]
    encoding = -0.5 * (log["encoder"] + log["encoder_q"] + mixture(batch.vectors))
    decoding = -0.5 * (log["decoder"] + log["decoder_q"] + mixture(drawn_x))
    torch.testing.assert_close(loss, 0.5 * (encoding + decoding))


def test_the_warm_up_begins_with_the_decoding_joint_alone(written_out):
    model, batch, noise, _, log = written_out
    torch.manual_seed(3)
    loss = MIM(warmup_steps=10).terms(model, batch, step=0, noise=noise)["loss"]
    torch.testing.assert_close(loss, -0.25 * (log["encoder"] + log["decoder"]))


@pytest.mark.parametrize("data_prior", ["marginal", "gaussian_mixture"])
def test_the_gradient_through_vectors_is_the_numerical_one(data_prior):
    model, batch = vector_model(), vectors(50)
    objective = MIM(data_prior=data_prior)
    critic = objective.make_critic(model)

    def loss() -> torch.Tensor:
        torch.manual_seed(5)
        return objective.terms(model, batch, step=0, critic=critic and critic.network)["loss"].mean()

    gradient = flat_gradient(loss(), model)
    parameters = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    direction = torch.nn.functional.normalize(gradient, dim=0)
    ends = []
    for step in (1e-2, -1e-2):
        torch.nn.utils.vector_to_parameters(parameters + step * direction, model.parameters())
        ends.append(loss().item())
    assert gradient.norm().item() == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.01)


def test_mixture_and_model_each_learn_their_share_of_one_loss():
    model, batch = vector_model(), vectors(6)
    objective = MIM(data_prior="gaussian_mixture", warmup_steps=4)
    mixture = objective.make_critic(model).network

    def terms() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        return objective.terms(model, batch, step=1, critic=mixture)

    (terms()["loss"] + terms()["critic_loss"].detach()).sum().backward()
    assert all(parameter.grad is None for parameter in mixture.parameters())
    of_model = [parameter.grad.clone() for parameter in model.parameters()]
    terms()["critic_loss"].sum().backward()
    assert all(torch.equal(old, new.grad) for old, new in zip(of_model, model.parameters(), strict=True))
    ends = []
    for shift in (1e-2, -2e-2):
        mixture.log_variances.data += shift
        ends.append(terms()["loss"].sum().item())
    assert mixture.log_variances.grad.sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.01)


def test_the_mixture_comes_to_fit_the_vectors():
    model, batch = vector_model(), vectors(64)
    objective = MIM(data_prior="gaussian_mixture", data_prior_learning_rate=0.02)
    critic = objective.make_critic(model)
    before = critic.network(batch.vectors).mean()
    for step in range(100):
        objective.terms(model, batch, step=step, critic=critic.network)["critic_loss"].mean().backward()
        critic.optimizer.step()
        critic.optimizer.zero_grad()
    assert critic.network(batch.vectors).mean() > before + 0.5


def test_what_has_a_gradient_stays_in_training_mode(corpus: Corpus):
    """cuDNN refuses the backward pass of a GRU in evaluation mode."""
    model = SentenceAutoencoder(
        sentence_args(latent_dim=2, hidden_dim=4, embedding_dim=3), vocabulary_size=corpus.input_size
    )
    modes = []
    for part in (model.encoder.gru, model.decoder.gru):
        part.register_forward_hook(lambda gru, *_: modes.append(gru.training))
    MIM(max_sampled_length=3).terms(model.train(), corpus.split("train").batch(range(4)), step=0)
    assert len(modes) == 5 and all(modes) and all(module.training for module in model.modules())


def test_the_loss_of_sentences_falls(corpus: Corpus):
    batch = corpus.split("train").batch(range(40))
    args = sentence_args(latent_dim=4, hidden_dim=32, embedding_dim=12)
    model = SentenceAutoencoder(args, vocabulary_size=corpus.input_size).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(60):
        loss = MIM(max_sampled_length=10).terms(model, batch, step=step)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("model", [vector_model("bernoulli"), SentenceAutoencoder(sentence_args(), vocabulary_size=6)])
def test_a_learned_data_prior_is_refused_for_words_and_bits(model):
    with pytest.raises(UserError, match="data_prior=marginal"):
        MIM(data_prior="gaussian_mixture").prepare(model)
    MIM().prepare(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_prior": "marginals"}, "'marginal'"),
        ({"max_sampled_length": 0}, "max_sampled_length"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"data_prior_components": 0}, "data_prior_components"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        objective_class("mim")(**settings)
