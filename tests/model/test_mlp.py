"""The model of vectors: its distributions, its files, and what users see of it."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from smim import vector_model
from smim.errors import UserError
from smim.model.directory import load_model, save_model
from smim.model.mlp import VectorAutoencoder
from smim.vectors.batch import VectorBatch
from smim.vectors.corpus import VectorSplit
from tests.models import vector_args
from tests.objectives.checks import check_mean, gaussian

TRAINING = {"objective": "mim", "corpus": "gmm"}


def make(dimension: int = 5, **settings) -> VectorAutoencoder:
    return VectorAutoencoder(vector_args(**{"latent_dim": 3, "hidden_dim": 8, **settings}), dimension=dimension)


def batch_of(vectors: torch.Tensor) -> VectorBatch:
    return VectorBatch(torch.arange(len(vectors)), vectors)


@pytest.fixture
def saved(tmp_path):
    """A model and its directory."""
    model = make(prior="vamp", num_prior_components=4).eval()
    save_model(tmp_path / "model", model, None, training=TRAINING)
    return model, tmp_path / "model"


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_each_part_has_the_shape_of_its_vectors(likelihood):
    model, batch, z = make(likelihood=likelihood), batch_of(torch.rand(7, 5)), torch.randn(7, 3)
    posterior = model.posterior(batch)
    assert posterior.mean.shape == posterior.log_variance.shape == (7, 3)
    assert model.log_likelihood(batch, z).shape == (7,)
    assert model.mean(z).shape == model.sample(z).vectors.shape == (7, 5)
    assert model.input_size == model.summary_dim == 5 and torch.equal(model.summary(batch), batch.vectors)
    assert model.sample(z).rows.tolist() == list(range(7))


@pytest.mark.parametrize("num_layers", [1, 3])
def test_hidden_layers_are_as_many_and_as_wide_as_asked_for(num_layers):
    model = make(num_layers=num_layers, activation="relu")
    for part, before in ((model.encoder, 5), (model.decoder, 3)):
        widths = [tuple(layer.weight.shape) for layer in part if isinstance(layer, torch.nn.Linear)]
        assert widths == [(8, before), *[(8, 8)] * (num_layers - 1)]
        assert sum(isinstance(layer, torch.nn.ReLU) for layer in part) == num_layers


def test_a_gaussian_likelihood_is_that_of_torch():
    model, batch, z = make(), batch_of(torch.randn(7, 5)), torch.randn(7, 3)
    torch.testing.assert_close(model.log_likelihood(batch, z), gaussian(model.decode(z)).log_prob(batch.vectors))
    assert torch.equal(model.mean(z), model.decode(z).mean)


@pytest.mark.parametrize("values", ["bits", "between"])
def test_a_bernoulli_likelihood_is_the_cross_entropy_of_each_number(values):
    model, z = make(likelihood="bernoulli"), torch.randn(7, 3)
    batch = batch_of(torch.randint(2, (7, 5)).float() if values == "bits" else torch.rand(7, 5))
    logits = model.to_vector(model.decoder(z))
    log_prob = batch.vectors * logits.sigmoid().log() + (1 - batch.vectors) * (-logits).sigmoid().log()
    torch.testing.assert_close(model.log_likelihood(batch, z), log_prob.sum(-1))
    torch.testing.assert_close(model.mean(z), logits.sigmoid())


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_samples_have_the_moments_of_the_likelihood(likelihood):
    model, z = make(likelihood=likelihood), torch.randn(1, 3)
    drawn = model.sample(z.expand(20_000, -1)).vectors
    mean = model.mean(z)
    check_mean(drawn, mean)
    variance = model.decode(z).log_variance.exp() if likelihood == "gaussian" else mean * (1 - mean)
    check_mean((drawn - mean).square(), variance)


def test_draws_of_numbers_are_reparameterised_and_draws_of_bits_are_not():
    z = torch.randn(4, 3, requires_grad=True)
    numbers, bits = make(), make(likelihood="bernoulli")
    assert numbers.reparameterized and numbers.sample(z).vectors.requires_grad
    drawn = bits.sample(z).vectors
    assert not bits.reparameterized and not drawn.requires_grad and drawn.unique().tolist() == [0, 1]


def test_log_variances_never_fall_below_their_clamps():
    model = make(min_log_variance=0.05, min_decoder_log_variance=0.02)
    of_code = model.posterior(batch_of(torch.randn(50, 5))).log_variance
    of_vector = model.decode(torch.randn(50, 3)).log_variance
    for log_variance, clamp in ((of_code, 0.05), (of_vector, 0.02)):
        assert log_variance.min().item() == pytest.approx(clamp) and log_variance.max() > clamp


def test_a_frozen_variance_is_that_of_the_posterior_alone():
    model = make()
    model.freeze_variance()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"to_log_variance.weight", "to_log_variance.bias"}


@pytest.mark.parametrize("settings", [{"likelihood": "bernoulli"}, {"prior": "vamp"}, {"prior": "gaussian_mixture"}])
def test_a_saved_model_is_loaded_as_it_was(settings, tmp_path):
    model = make(**settings, activation="leaky_relu", posterior="sampled_variance").eval()
    save_model(tmp_path / "model", model, None, training=TRAINING)
    loaded, _, config = load_model(tmp_path / "model", "vector")
    assert loaded.args == model.args and loaded.input_size == 5 and not loaded.training
    assert config["num_parameters"] == model.num_parameters and config["training"] == TRAINING
    z = torch.randn(6, 3)
    assert torch.equal(loaded.prior.log_prob(z), model.prior.log_prob(z))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), loaded.parameters(), strict=True))
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == model.state_dict().keys()


def test_the_card_says_how_vectors_are_encoded(saved):
    card = (saved[1] / "README.md").read_text()
    assert "# A latent variable model of vectors" in card and "| dimensions of a vector | 5 |" in card
    assert "| objective | mim |" in card and "| prior | vamp |" in card and "vector_model.load" in card


def test_codes_and_vectors_are_those_of_the_autoencoder(saved):
    model, directory = saved
    loaded, vectors = vector_model.load(directory), np.random.default_rng(0).random((6, 5))
    posterior = model.posterior(batch_of(torch.tensor(vectors, dtype=torch.float32)))
    codes = loaded.encode(vectors)
    assert loaded.latent_dim == 3 and codes.dtype == np.float32
    np.testing.assert_array_equal(codes, posterior.mean.detach())
    np.testing.assert_array_equal(loaded.posterior(vectors).log_variance, posterior.log_variance.detach())
    np.testing.assert_array_equal(loaded.decode(codes), model.mean(torch.from_numpy(codes)).detach())


def test_samples_are_of_the_models_prior_and_decoder_by_the_seed(saved):
    model, directory = saved
    loaded = vector_model.load(directory)
    drawn = loaded.sample(6, seed=3)
    assert (drawn == loaded.sample(6, seed=3)).all() and not (drawn == loaded.sample(6, seed=4)).any()
    torch.manual_seed(3)
    np.testing.assert_array_equal(drawn, model.sample(model.prior.sample(6)).vectors.detach())


def test_a_markov_chain_comes_to_the_data_that_the_decoder_is_the_best_for(tmp_path):
    """Eq. 3 of InfoVAE, for x ~ N(0, 1), q(z|x) = N(x, 1), and so p(x|z) = N(z / 2, 1 / 2)."""
    model = make(1, latent_dim=1, hidden_dim=2, num_layers=1, activation="relu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        both_signs = torch.tensor([[1.0], [-1.0]])  # x = relu(x) - relu(-x)
        for first, last, scale in ((model.encoder, model.to_mean, 1.0), (model.decoder, model.to_vector, 0.5)):
            first[0].weight.copy_(both_signs)
            last.weight.copy_(scale * both_signs.T)
        model.to_vector_log_variance.bias.fill_(np.log(0.5))
    save_model(tmp_path / "model", model, None, training={**TRAINING, "objective": "probabilistic_autoencoder"})
    loaded, start = vector_model.load(tmp_path / "model"), np.full((20_000, 1), 4.0)
    chains = torch.from_numpy(loaded.markov_chain(start, steps=20, seed=3))
    assert chains.shape == (20_000, 20, 1)
    check_mean(chains[:, 0], 2.0)
    before, last = chains[:, -2], chains[:, -1]
    for values, expected in ((last, 0.0), (last.square(), 1.0), (last * before, 0.5)):
        check_mean(values, expected)
    assert np.array_equal(loaded.markov_chain(start, steps=2, seed=3), chains[:, :2])
    assert not np.array_equal(loaded.markov_chain(start, steps=2, seed=4), chains[:, :2])


def test_sampling_leaves_the_random_numbers_of_the_program_alone(saved):
    loaded = vector_model.load(saved[1])
    before = torch.random.get_rng_state()
    loaded.sample(3, seed=5)
    loaded.markov_chain(np.zeros((2, 3)), steps=2, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_no_vector_or_code_of_the_model_is_refused(saved):
    loaded = vector_model.load(saved[1])
    with pytest.raises(UserError, match=r"vectors have shape \(2, 4\), but this model's are \[N, 5\]"):
        loaded.encode(np.zeros((2, 4)))
    with pytest.raises(UserError, match=r"vectors have shape \(5,\)"):
        loaded.encode(np.zeros(5))
    with pytest.raises(UserError, match="vectors contain NaN"):
        loaded.encode(np.full((1, 5), np.nan))
    with pytest.raises(UserError, match=r"codes have shape \(2, 5\), but this model's are \[N, 3\]"):
        loaded.decode(np.zeros((2, 5)))
    with pytest.raises(UserError, match="num is 0"):
        loaded.sample(0)
    with pytest.raises(UserError, match="steps is 0"):
        loaded.markov_chain(np.zeros((2, 3)), steps=0)


def test_models_of_vectors_and_of_sentences_are_told_apart(saved, tiny_model):
    with pytest.raises(UserError, match=r"is a model of vectors; load it with smim.vector_model.load"):
        load_model(saved[1])
    with pytest.raises(UserError, match=r"is a model of sentences; load it with smim.load"):
        vector_model.load(tiny_model)


def test_a_damaged_model_is_refused(saved):
    weights = saved[1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(UserError, match="missing or damaged"):
        vector_model.load(saved[1])


def test_a_model_of_before_there_were_priors_has_the_usual_ones(tmp_path):
    save_model(tmp_path / "model", make(), None, training=TRAINING)
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    for name in ("prior", "num_prior_components", "posterior", "max_log_variance"):
        del config["model"][name]
    file.write_text(json.dumps(config))
    assert load_model(tmp_path / "model", "vector")[0].args == make().args


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_bernoulli_likelihood_is_refused_for_numbers_beyond_0_and_1(value):
    column = pa.FixedSizeListArray.from_arrays(pa.array([0.0, 1.0, 0.5, value], pa.float32()), 2)
    split = VectorSplit(name="train", table=pa.table({"vector": column}))
    vector_args().check_split(split, cut=None)
    with pytest.raises(UserError, match=r"split 'train' holds numbers from -?\d.*model.likelihood=gaussian"):
        vector_args(likelihood="bernoulli").check_split(split, cut=None)
    vector_args(likelihood="bernoulli").check_split(VectorSplit(name="train", table=split.table[:1]), cut=None)


def test_several_mistakes_are_listed_together():
    with pytest.raises(UserError, match=r"hidden_dim is 0.*likelihood is 'bernouli'; did you mean 'bernoulli'"):
        vector_args(likelihood="bernouli", hidden_dim=0)
