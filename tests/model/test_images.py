"""Models of images: their distributions, settings and files, and what users see of them."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from smim import config, vector_model
from smim.errors import UserError
from smim.model.directory import load_model, save_model
from smim.model.distributions import DiagonalGaussian, TwoLevelGaussian
from smim.model.images import ImageAutoencoder
from smim.model.registry import make_args, make_model, read_args
from smim.vector_model import VectorModel
from smim.vectors.batch import VectorBatch
from tests.images.corpora import write_digits
from tests.objectives.checks import check_mean

MODELS = ["conv_vae", "conv_hvae", "pixel_hvae"]
TRAINING = {"objective": "amim", "corpus": "digits"}


def args_of(name: str, *overrides: str, shape: tuple[int, ...] = (1, 8, 8)):
    sizes = ["model.latent_dim=6", "model.hidden_dim=12", "model.encoder.channels=4", "model.decoder.channels=4"]
    return make_args(config.compose("train", [f"model={name}", *sizes, f"model.shape={[*shape]}", *overrides]).model)


def make(name: str, *overrides: str, shape: tuple[int, ...] = (1, 8, 8)) -> ImageAutoencoder:
    return make_model(args_of(name, *overrides, shape=shape), input_size=math.prod(shape))


def bits(num: int, dimension: int = 64) -> VectorBatch:
    return VectorBatch(torch.arange(num), torch.randint(2, (num, dimension)).float())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretised_logistic"])
@pytest.mark.parametrize("name", MODELS)
def test_each_part_has_the_shape_of_its_images(name, likelihood, shape):
    model, num = make(name, f"model.likelihood={likelihood}", shape=shape), math.prod(shape)
    batch, z = bits(2, num), torch.randn(2, 6)
    posterior = model.posterior(batch)
    assert posterior.mean.shape == posterior.log_variance.shape == posterior.sample().shape == (2, 6)
    assert posterior.log_prob(z).shape == model.log_likelihood(batch, z).shape == model.prior.log_prob(z).shape == (2,)
    assert model.mean(z).shape == model.sample(z).vectors.shape == (2, num)
    assert model.input_size == model.summary_dim == num and torch.equal(model.summary(batch), batch.vectors)
    assert model.prior.sample(3).shape == (3, 6)
    assert model.reparameterized is (likelihood == "gaussian" and name != "pixel_hvae")
    assert model.sample(z.requires_grad_()).vectors.requires_grad is model.reparameterized


def test_one_level_is_a_diagonal_gaussian_and_two_levels_are_not():
    kinds = {name: type(make(name).posterior(bits(2))) for name in MODELS}
    assert kinds == {"conv_vae": DiagonalGaussian, "conv_hvae": TwoLevelGaussian, "pixel_hvae": TwoLevelGaussian}


def test_z1_depends_on_z2_and_z2_is_of_the_image_alone():
    model, batch = make("conv_hvae"), bits(3)
    posterior, z2 = model.posterior(batch), torch.randn(3, 3)
    one, other = (posterior.given_top(posterior.features, each) for each in (z2, z2 + 1))
    assert ((one.mean - other.mean).abs() > 1e-4).any()
    assert torch.equal(posterior.top.mean, model.posterior(batch).top.mean)
    assert posterior.top.mean.shape == one.mean.shape == (3, 3)


def test_the_architecture_is_that_of_tomczak_and_welling():
    """Kernel sizes, strides and channels of the encoder's two stacks, and widths of the fully connected layers."""
    settings = config.compose("train", ["model=conv_hvae", "model.shape=[1,28,28]", "model.prior=vamp"]).model
    model = make_model(make_args(settings), input_size=784)

    def layers(part):
        found = (layer for layer in part.modules() if isinstance(layer, torch.nn.Conv2d))
        return [(each.in_channels, each.out_channels // 2, each.kernel_size[0], each.stride[0]) for each in found]

    rest = [(32, 32, 3, 2), (32, 64, 5, 1), (64, 64, 3, 2), (64, 6, 3, 1)]
    assert layers(model.encoder.for_z2) == [(1, 32, 7, 1), *rest]
    assert layers(model.encoder.for_z1) == [(1, 32, 3, 1), rest[0], (32, 64, 3, 1), *rest[2:]]
    assert layers(model.decoder.layers)[:-1] == [(1, 64, 3, 1), *[(64, 64, 3, 1)] * 3]
    assert (model.encoder.output_dim, model.encoder.hidden_dim) == (294, 300)
    assert model.args.latent_dim == 80 and model.prior.top.pseudo_inputs.shape == (500, 784)


def test_width_scales_channels_and_hidden_units():
    model = make("conv_hvae", "model.width=0.5")
    assert model.encoder.hidden_dim == 6 and model.decoder.layers[0][0].out_channels == 2 * 2
    assert make("conv_hvae", "model.width=1e-9").encoder.hidden_dim == 1


@pytest.mark.parametrize("name", MODELS)
def test_the_probabilities_of_all_images_add_up_to_one(name):
    every = torch.tensor([[i >> bit & 1 for bit in range(6)] for i in range(64)]).float()
    model = make(name, shape=(1, 2, 3))
    log_prob = model.log_likelihood(VectorBatch(torch.arange(64), every), torch.randn(1, 6).expand(64, -1))
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5) and log_prob.std() > 0.01


@pytest.mark.parametrize("name", ["conv_vae", "pixel_hvae"])
def test_drawn_images_have_the_probabilities(name):
    model, z = make(name, shape=(1, 2, 2)), torch.randn(1, 6).expand(20_000, -1)
    weights = torch.tensor([8.0, 4.0, 2.0, 1.0])
    every = torch.tensor([[i >> bit & 1 for bit in (3, 2, 1, 0)] for i in range(16)]).float()
    probability = model.log_likelihood(VectorBatch(torch.arange(16), every), z[:16]).exp()
    numbers = (model.draw(z) @ weights).long()
    check_mean(torch.nn.functional.one_hot(numbers, 16).float(), probability)
    if name == "conv_vae":
        torch.testing.assert_close(model.mean(z[:1])[0], probability @ every)
    else:
        check_mean(model.mean(z)[:, 1:], (probability @ every)[1:])
        torch.testing.assert_close(model.mean(z[:1])[0, 0], (probability @ every)[0])


def test_a_pixels_mean_is_given_the_pixels_before_it():
    model, z = make("pixel_hvae", shape=(1, 3, 3)), torch.randn(4, 6)
    torch.manual_seed(5)
    drawn = model.draw(z)
    torch.manual_seed(5)
    mean = model.mean(z)
    of_drawn = model.decoder.network(drawn.view(4, 1, 3, 3), model.decoder._features(z))
    torch.testing.assert_close(mean, of_drawn.flatten(1).sigmoid())


def test_vamp_pseudo_inputs_are_training_images():
    model = make("conv_hvae", "model.prior=vamp", "model.num_prior_components=5")
    assert model.num_initial_observations == 5 and "VampPrior of 5" in model.prior.description
    batch = VectorBatch(torch.arange(5), torch.rand(5, 64) * 0.8 + 0.1)
    model.initialize(batch)
    top = model.posterior(batch).top
    torch.testing.assert_close(model.prior.top.components()[1].mean, top.mean)
    expected = torch.logsumexp(top.log_prob_under_each(batch.vectors[:, :3]), 1) - math.log(5)
    torch.testing.assert_close(model.prior.top.log_prob(batch.vectors[:, :3]), expected.float())


def test_freezing_the_variance_leaves_means_and_decoder():
    model = make("conv_hvae")
    model.freeze_variance()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"to_log_variance.{level}.{each}" for level in (0, 1) for each in ("weight", "bias")}


def test_only_q_is_trained_by_the_encoders_own_steps():
    model = make("conv_hvae")
    own = {id(parameter) for parameter in model.inference_parameters()}
    names = {name.split(".")[0] for name, parameter in model.named_parameters() if id(parameter) in own}
    assert names == {"encoder", "to_mean", "to_log_variance"}


def test_an_images_flops_are_those_of_its_layers():
    model = make("conv_vae", shape=(1, 4, 4))
    # Weights times positions: convolutions with gates on 4 x 4, 2 x 2 and 1 x 1 pixels, and linear layers.
    encoder = 49 * 8 * 16 + (9 * 4 * 8 + 25 * 4 * 16) * 4 + 9 * 8 * 16 + 9 * 8 * 12 + 6 * 6 * 2
    decoder = 6 * 24 + 12 * 32 + (9 * 1 * 8 + 3 * 9 * 4 * 8 + 4) * 16
    assert model.flops_per_token(1.0) == 6 * (encoder + decoder)


@pytest.mark.parametrize("overrides", [[], ["model.prior=vamp"], ["model.prior=gaussian_mixture"]])
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_loaded_as_it_was(name, overrides, tmp_path):
    model = make(name, *overrides, "model.num_prior_components=3").eval()
    save_model(tmp_path / "model", model, None, training=TRAINING)
    loaded, _, stored = load_model(tmp_path / "model", "vector")
    assert loaded.args == model.args and stored["model"]["shape"] == [1, 8, 8] and not loaded.training
    batch, z = bits(3), torch.randn(3, 6)
    assert torch.equal(loaded.log_likelihood(batch, z), model.log_likelihood(batch, z))
    assert torch.equal(loaded.posterior(batch).mean, model.posterior(batch).mean)
    assert torch.equal(loaded.prior.log_prob(z), model.prior.log_prob(z))


def test_what_users_see_is_the_model_in_blocks(tmp_path, monkeypatch):
    model = make("conv_hvae").eval()
    save_model(tmp_path / "model", model, None, training=TRAINING)
    monkeypatch.setattr("smim.model.vectors._NUMBERS_AT_ONCE", 3 * model.numbers_per_vector)
    loaded, batch = vector_model.load(tmp_path / "model"), bits(10)
    assert loaded.autoencoder.rows_at_once == 3
    posterior, codes = model.posterior(batch), loaded.encode(batch.vectors)
    np.testing.assert_allclose(codes, posterior.mean.detach(), atol=1e-5)
    z = posterior.sample().detach()
    torch.testing.assert_close(loaded.posterior(batch.vectors).log_prob(z), posterior.log_prob(z), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(loaded.decode(codes), model.mean(torch.tensor(codes)).detach(), atol=1e-5)
    found = loaded.log_likelihood(batch.vectors, codes)
    np.testing.assert_allclose(found, model.log_likelihood(batch, torch.tensor(codes)).detach(), rtol=1e-5)
    assert set(np.unique(loaded.draw(codes, seed=1))) == {0, 1} and loaded.sample(4).shape == (4, 64)
    with pytest.raises(UserError, match="there are 10 vectors, but 9 codes"):
        loaded.log_likelihood(batch.vectors, codes[:9])


def test_reconstructions_of_pixels_are_a_function_of_the_seed():
    loaded = VectorModel(make("pixel_hvae").eval(), {"training": TRAINING}, hash="0" * 64)
    codes = np.random.default_rng(0).standard_normal((2, 6), np.float32)
    before = torch.random.get_rng_state()
    assert np.array_equal(loaded.decode(codes, seed=3), loaded.decode(codes, seed=3))
    assert not np.array_equal(loaded.decode(codes, seed=3), loaded.decode(codes, seed=4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_shape_is_the_corpuss(tmp_path):
    args, corpus = replace(args_of("conv_vae"), shape=None), write_digits(tmp_path / "digits")
    assert args.for_corpus(corpus) == args_of("conv_vae")
    with pytest.raises(UserError, match=r"is \[3, 8, 8\], but the images of .*digits have shape \[1, 8, 8\]"):
        replace(args, shape=[3, 8, 8]).for_corpus(corpus)


def test_vectors_without_a_shape_are_refused(tmp_path):
    corpus = write_digits(tmp_path / "vectors")
    del corpus.card["shape"]
    with pytest.raises(UserError, match=r"vectors holds vectors that are no images, which model=conv does not support"):
        args_of("conv_vae").for_corpus(corpus)


@pytest.mark.parametrize("shape", [None, [1, 8, 9]])
def test_a_shape_of_another_size_is_refused(shape):
    with pytest.raises(UserError, match=r"model.shape is .*, but it must be \[C, H, W\] with a product of 64"):
        make_model(replace(args_of("conv_vae"), shape=shape), input_size=64)


def test_several_mistakes_are_listed_together():
    with pytest.raises(UserError) as error:
        args_of("conv_hvae", "model.latent_dim=7", "model.posterior=sampled_variance", shape=(1, 0, 8))
    for said in ("model.shape is [1, 0, 8]", "latent_dim is 7, but it must be even", "posterior=sampled_variance"):
        assert said in str(error.value)
    with pytest.raises(UserError, match=r"levels is 3.*decoder.channels is 0.*likelihood is 'bernouli'"):
        args_of("conv_hvae", "model.levels=3", "model.decoder.channels=0", "model.likelihood=bernouli")
    with pytest.raises(UserError, match=r"model.encoder=conv is for images; model.decoder=mlp is for vectors"):
        args_of("conv_vae", "model.decoder=mlp")


def test_stored_settings_are_read_and_wrong_ones_named_with_the_file(tmp_path):
    model = make("pixel_hvae")
    save_model(tmp_path / "model", model, None, training=TRAINING)
    file = tmp_path / "model" / "config.json"
    stored = json.loads(file.read_text())
    assert read_args(stored["model"], file) == model.args
    wrong = [{"shape": shape} for shape in ([1, 8, 9], [2**40, 2**20, 2**20], None)]
    wrong += [{part: {**stored["model"][part], "channels": 2**62}} for part in ("encoder", "decoder")]
    for settings in wrong:
        file.write_text(json.dumps({**stored, "model": {**stored["model"], **settings}}))
        with pytest.raises(UserError, match=r"model.shape|does not fit the configuration"):
            load_model(tmp_path / "model", "vector")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [([], None), (["model.likelihood=discretised_logistic"], r"numbers that are no grey values k / 255")],
)
def test_numbers_that_the_likelihood_cannot_have_are_refused(overrides, message, tmp_path):
    split = write_digits(tmp_path / "grey", bits=False).split("train")
    args = args_of("conv_vae", *overrides)
    if message is None:
        args.check_split(split, cut=None)
    else:
        with pytest.raises(UserError, match=message):
            args.check_split(split, cut=None)
    args.check_split(write_digits(tmp_path / "bits").split("train"), cut=None)


def test_numbers_outside_0_and_1_are_no_images(tmp_path):
    split = write_digits(tmp_path / "wide", bits=False).split("train")
    split.__dict__["vectors"] = split.vectors * 2
    with pytest.raises(UserError, match=r"holds numbers from 0 to 2, but images need numbers in \[0, 1\]"):
        args_of("conv_vae", "model.likelihood=gaussian").check_split(split, cut=None)
