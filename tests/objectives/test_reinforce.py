"""REINFORCE (eq. 3.26) through symbols, bits and words, against gradients of sums over all of them."""

from itertools import product

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from smim.model.autoencoder import SentenceAutoencoder
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.mlp import VectorAutoencoder
from smim.objectives.mim import MIM, reinforce
from smim.text.batch import Batch, collate
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID
from smim.vectors.batch import VectorBatch
from tests.models import sentence_args
from tests.objectives.checks import check_mean, flat_gradient, gaussian, repeated, vector_model, vectors
from tests.objectives.tabular import DATA, Exact, draw, random_model

LOGITS, VALUES = torch.tensor([0.3, -1.0, 0.5]), torch.tensor([10.0, 11.0, 13.0])
MAX_LENGTH = 2
WORDS = [UNK_ID, 4, 5]


def gradients(surrogate, drawn: torch.Tensor) -> torch.Tensor:
    """Of each row of draws x of LOGITS, the gradient of the mean of a surrogate for E[VALUES[x]]."""

    def gradient(row: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda logits: surrogate(VALUES[row], logits.log_softmax(0)[row]).mean())(LOGITS)

    return torch.vmap(gradient)(drawn)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_reinforce_is_unbiased_in_batches_of_any_size(size):
    exact = torch.autograd.functional.jacobian(lambda logits: (logits.softmax(0) * VALUES).sum(), LOGITS)
    check_mean(gradients(reinforce, Categorical(logits=LOGITS).sample((40_000, size))), exact)


def test_the_baseline_lowers_the_variance_of_the_gradient():
    drawn = Categorical(logits=LOGITS).sample((5_000, 8))
    plain, with_baseline = gradients(lambda value, log_prob: value * log_prob, drawn), gradients(reinforce, drawn)
    assert with_baseline.var(0).sum() < 0.1 * plain.var(0).sum()


def test_reinforce_keeps_the_value():
    value = torch.tensor([3.0, 1e6, -2.0])
    assert torch.equal(reinforce(value, torch.full((3,), -1e5, requires_grad=True)), value)


def repeated_gradients(objective: MIM, model: LatentVariableModel, batch, *, term: str, times: int) -> torch.Tensor:
    return torch.stack([flat_gradient(objective.terms(model, batch, step=3)[term].mean(), model) for _ in range(times)])


@pytest.mark.parametrize("settings", [{}, {"entropy_weight": -1.0, "warmup_steps": 10}])
def test_the_gradient_through_symbols_is_unbiased(settings):
    objective, exact = MIM(**settings), Exact(random_model(), DATA)
    loss = exact.mim(exact.elbo, beta=0.3 if settings else 1.0)
    loss = loss + objective.entropy_weight * exact.conditional_entropy()
    drawn = [
        flat_gradient(objective.terms(exact.model, draw(DATA, 500), step=3)["loss"].mean(), exact.model)
        for _ in range(400)
    ]
    check_mean(torch.stack(drawn), flat_gradient(loss, exact.model))


def test_the_gradient_through_bits_is_unbiased():
    model, batch = vector_model("bernoulli"), repeated(vectors(1), 2000)
    drawn = repeated_gradients(MIM(), model, batch, term="decoding_half", times=100)
    check_mean(drawn, flat_gradient(decoding_of_bits(model), model))


def decoding_of_bits(model: VectorAutoencoder) -> torch.Tensor:
    """The decoder's half: a sum over all bits, and over a grid of two latent dimensions."""
    bits = VectorBatch(torch.arange(8), torch.tensor(list(product([0.0, 1.0], repeat=3))))
    line = torch.linspace(-5, 5, 61)
    z_ZD, cell = torch.cartesian_prod(line, line), float(line[1] - line[0]) ** 2
    prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    log_likelihood_ZX = Independent(Bernoulli(logits=model.decode(z_ZD).base_dist.logits[:, None]), 1).log_prob(
        bits.vectors
    )
    log_joint_ZX = log_likelihood_ZX + prior.log_prob(z_ZD)[:, None]
    log_q_ZX = gaussian(model.posterior(bits)).log_prob(z_ZD[:, None])
    elbo_X = (log_q_ZX.exp() * (log_joint_ZX - log_q_ZX)).sum(0) * cell
    return (log_joint_ZX.exp() * -0.5 * (log_joint_ZX + log_q_ZX + elbo_X)).sum() * cell


@pytest.fixture
def three_words() -> SentenceAutoencoder:
    """A GRU of three words, with dropout, that gives `<pad>` and `<sos>` no probability."""
    args = sentence_args(latent_dim=1, hidden_dim=4, embedding_dim=3, embedding_dropout=0.5)
    model = SentenceAutoencoder(args, vocabulary_size=6)
    with torch.no_grad():
        model.to_vocabulary.bias[[PAD_ID, SOS_ID]] = -1e4
        model.to_vocabulary.bias[EOS_ID] += 0.5
    return model


@pytest.fixture(scope="module")
def all_sentences() -> Batch:
    """The empty sentence, those of one word, and those of two, which are cut."""
    ids = [list(words) for length in range(MAX_LENGTH + 1) for words in product(WORDS, repeat=length)]
    batch = collate(ids, range(len(ids)))
    return Batch(batch.rows, batch.tokens, batch.lengths, cut=batch.lengths == MAX_LENGTH)


def test_sentences_are_drawn_with_their_probability_empty_and_cut_ones_too(three_words, all_sentences):
    z = torch.tensor([[0.7]])
    probability = three_words.eval().log_likelihood(all_sentences, z.expand(len(all_sentences), 1)).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-5)
    drawn = three_words.sample(z.expand(20_000, 1), max_length=MAX_LENGTH)
    check_mean((drawn.tokens[:, None] == all_sentences.tokens).all(-1).double(), probability)
    assert torch.equal(drawn.cut, drawn.lengths == MAX_LENGTH)


def test_the_gradient_through_words_is_unbiased_under_dropout(three_words, all_sentences):
    objective, observed = MIM(max_sampled_length=MAX_LENGTH), collate([[4, 5]] * 1000, range(1000))
    drawn = repeated_gradients(objective, three_words.train(), observed, term="decoding_half", times=100)
    assert all(module.training for module in three_words.modules())
    check_mean(drawn, flat_gradient(decoding_of_sentences(three_words.eval(), all_sentences), three_words))


def decoding_of_sentences(model: SentenceAutoencoder, sentences: Batch) -> torch.Tensor:
    """The decoder's half: a sum over all sentences, and over a grid of z."""
    grid = torch.linspace(-7, 7, 101)
    step, size = float(grid[1] - grid[0]), len(grid)
    parts = (sentences.rows, sentences.tokens, sentences.lengths, sentences.cut)
    each_at_all_z = Batch(*(part.repeat_interleave(size, 0) for part in parts))
    log_likelihood = model.log_likelihood(each_at_all_z, grid.repeat(len(sentences))[:, None])
    log_joint = log_likelihood.view(-1, size) + Normal(0, 1).log_prob(grid)
    posterior = model.posterior(sentences)
    log_q = Normal(posterior.mean, posterior.standard_deviation).log_prob(grid)
    elbo = (log_q.exp() * (log_joint - log_q)).sum(1, keepdim=True) * step
    return (log_joint.exp() * -0.5 * (log_joint + log_q + elbo)).sum() * step
