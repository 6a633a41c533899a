"""Learned priors as densities, and what they are to the models that hold them; the posterior of sampled variance."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from smim.errors import UserError
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.distributions import DiagonalGaussian
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.mlp import VectorAutoencoder
from smim.model.priors import GaussianMixture, Mixture, StandardNormal, VampPrior
from smim.model.registry import make_model
from smim.objectives import objective_class
from smim.text.batch import collate
from smim.text.tokenizer import SOS_ID
from smim.vectors.batch import VectorBatch
from tests.models import sentence_args, vector_args
from tests.objectives.checks import check_mean, gaussian

NUM = 4
SMALL = {"hidden_dim": 16, "embedding_dim": 8, "num_layers": 1, "num_heads": 2, "num_prior_components": NUM}
LEARNED = ["gaussian_mixture", "vamp"]


def vector_model(prior: str, *, latent_dim: int = 2, **settings) -> VectorAutoencoder:
    """One whose posteriors differ well: the weights are larger than they begin."""
    args = vector_args(latent_dim=latent_dim, hidden_dim=6, prior=prior, num_prior_components=NUM, **settings)
    model = VectorAutoencoder(args, dimension=3)
    with torch.no_grad():
        for layer in (model.encoder[0], model.to_mean, model.to_log_variance):
            for parameter in layer.parameters():
                parameter.mul_(2)
        if isinstance(model.prior, GaussianMixture):
            torch.nn.init.normal_(model.prior.logits)
            torch.nn.init.normal_(model.prior.log_variances, std=0.5)
    return model


def sentence_model(**settings) -> SentenceAutoencoder:
    return SentenceAutoencoder(sentence_args(**{"latent_dim": 3, **SMALL, **settings}), vocabulary_size=20)


def sentences():
    return collate([[5, 6, 7], [8, 9], [10, 11, 12, 13], [14]], range(4))


def vectors(num: int = 5) -> VectorBatch:
    return VectorBatch(torch.arange(num), torch.rand(num, 3))


def of_torch(mixture: Mixture) -> MixtureSameFamily:
    log_weights, components = mixture.components()
    return MixtureSameFamily(Categorical(logits=log_weights), gaussian(components))


@pytest.mark.parametrize("prior", LEARNED)
def test_the_density_is_that_of_torch(prior):
    mixture, z = vector_model(prior).prior, 3 * torch.randn(50, 2)
    torch.testing.assert_close(mixture.log_prob(z), of_torch(mixture).log_prob(z))


def test_narrow_components_in_many_dimensions_have_the_density_of_torch():
    mixture = GaussianMixture(512, num_components=3)
    with torch.no_grad():
        mixture.log_variances.fill_(-10)
    z = mixture.means.detach() + math.exp(-5) * torch.randn(3, 512)
    torch.testing.assert_close(mixture.log_prob(z), of_torch(mixture).log_prob(z), rtol=1e-4, atol=0)


@pytest.mark.parametrize("prior", LEARNED)
def test_the_density_integrates_to_one(prior):
    mixture = vector_model(prior).prior
    axis = torch.linspace(-12, 12, 801, dtype=torch.float64)
    density = mixture.log_prob(torch.cartesian_prod(axis, axis)).exp().detach()
    assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("prior", LEARNED)
def test_samples_have_the_moments_of_the_density(prior):
    mixture = vector_model(prior).prior
    drawn, expected = mixture.sample(50_000), of_torch(mixture)
    check_mean(drawn, expected.mean)
    check_mean((drawn - expected.mean).square(), expected.variance)
    # The mean log density is minus the entropy, which torch's own draws estimate too.
    differences = mixture.log_prob(drawn) - expected.log_prob(expected.sample((50_000,)))
    check_mean(differences, 0)
    assert not drawn.requires_grad


def test_a_mixture_begins_with_the_moments_of_the_standard_normal():
    drawn = GaussianMixture(3, num_components=20_000).sample(50_000)
    check_mean(drawn, 0)
    check_mean(drawn.square(), 1)


@pytest.mark.parametrize("prior", ["standard_normal", *LEARNED])
def test_the_kl_of_one_draw_is_right_on_average(prior):
    mixture = vector_model(prior).prior
    posterior = DiagonalGaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]]))
    many = DiagonalGaussian(posterior.mean.expand(20_000, -1), posterior.log_variance.expand(20_000, -1))
    z = many.sample()
    axis = torch.linspace(-10, 10, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_q = gaussian(posterior).log_prob(grid)
    exact = (log_q.exp() * (log_q - mixture.log_prob(grid))).sum() * (axis[1] - axis[0]) ** 2
    kl = mixture.kl(many, z)
    check_mean(kl, exact) if prior in LEARNED else torch.testing.assert_close(kl[0].double(), exact)
    known = mixture.kl(many, z, log_prior=mixture.log_prob(z))
    assert torch.equal(known, kl)


def test_a_vamp_prior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs():
    model = vector_model("vamp")
    posteriors = model.posterior(VectorBatch(torch.arange(NUM), model.prior.pseudo_inputs))
    log_weights, components = model.prior.components()
    assert torch.equal(components.mean, posteriors.mean)
    assert torch.equal(components.log_variance, posteriors.log_variance)
    torch.testing.assert_close(log_weights, torch.full((NUM,), -math.log(NUM)))


@pytest.mark.parametrize("encoder", ["gru", "transformer"])
def test_a_vamp_prior_of_sentences_encodes_its_embeddings_as_a_sentences(encoder):
    model = sentence_model(prior="vamp", encoder=encoder, pseudo_input_length=3).eval()
    batch = collate([[5, 6, 7], [8, 9, 10], [11, 12, 13], [14, 15, 16]], range(4))
    model.prior.initialize(batch)
    _, components = model.prior.components()
    torch.testing.assert_close(components.mean, model.posterior(batch).mean)
    torch.testing.assert_close(components.log_variance, model.posterior(batch).log_variance)


def test_pseudo_inputs_begin_as_the_first_words_of_sentences_and_repeat_short_ones():
    model = sentence_model(prior="vamp", pseudo_input_length=3)
    model.prior.initialize(sentences())
    words = torch.tensor([[7, 6, 5], [8, 9, 8], [12, 11, 10], [14, 14, 14]])
    assert torch.equal(model.prior.pseudo_inputs, model.embedding(words))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_pseudo_inputs_begin_as_vectors(likelihood):
    model, batch = vector_model("vamp", likelihood=likelihood), VectorBatch(torch.arange(NUM), torch.rand(NUM, 3))
    batch.vectors.clamp_(0.1, 0.9)
    model.prior.initialize(batch)
    torch.testing.assert_close(model.prior.components()[1].mean, model.posterior(batch).mean)


def test_pseudo_inputs_of_bits_stay_in_range_and_keep_a_gradient():
    model = vector_model("vamp", likelihood="bernoulli")
    seen: list[Tensor] = []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model.prior.initialize(VectorBatch(torch.arange(NUM), torch.randint(2, (NUM, 3)).float()))
    model.prior.log_prob(torch.randn(5, 2)).sum().backward()
    assert (model.prior.pseudo_inputs.grad.abs() > 0).all()
    with torch.no_grad():
        model.prior.pseudo_inputs.mul_(100)
        model.prior.components()
    assert all(((inputs >= 0) & (inputs <= 1)).all() for inputs in seen) and len(seen) == 2


@pytest.mark.parametrize("make", [lambda: vector_model("vamp"), lambda: sentence_model(prior="vamp")])
def test_the_density_has_a_gradient_in_pseudo_inputs_and_encoder(make):
    model = make()
    model.prior.log_prob(torch.randn(5, model.args.latent_dim)).sum().backward()
    assert model.prior.pseudo_inputs.grad.abs().sum() > 0
    for part in (model.encoder, model.to_mean, model.to_log_variance):
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())


def test_pseudo_inputs_are_encoded_once_for_a_density():
    model, calls = sentence_model(prior="vamp"), []
    model.encoder.register_forward_hook(lambda *_: calls.append(None))
    model.prior.log_prob(torch.randn(50, 3))
    assert len(calls) == 1


def test_the_model_holds_each_weight_once():
    model, plain = sentence_model(prior="vamp"), sentence_model()
    assert model.state_dict().keys() - plain.state_dict().keys() == {"prior.pseudo_inputs"}
    assert plain.state_dict().keys() <= model.state_dict().keys()
    assert model.num_parameters == plain.num_parameters + NUM * 10 * 8
    mixture = sentence_model(prior="gaussian_mixture")
    assert mixture.num_parameters == plain.num_parameters + NUM * (1 + 2 * 3)


@pytest.mark.parametrize("prior", LEARNED)
def test_a_copy_and_a_model_of_its_weights_have_the_same_prior_and_their_own(prior):
    model, z = sentence_model(prior=prior).eval(), torch.randn(5, 3)
    expected = model.prior.log_prob(z)
    twin = copy.deepcopy(model)
    loaded = make_model(model.args, input_size=20).eval()
    loaded.load_state_dict({name: parameter.detach() for name, parameter in model.named_parameters()})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(twin.prior.log_prob(z), expected) and torch.equal(loaded.prior.log_prob(z), expected)
    assert not torch.equal(model.prior.log_prob(z), expected)


@pytest.mark.parametrize("prior", ["standard_normal", *LEARNED])
@pytest.mark.parametrize("posterior", ["gaussian", "sampled_variance"])
@pytest.mark.parametrize("name", ["amim", "mim", "vae", "autoencoder"])
def test_every_weight_that_is_trained_has_a_gradient(prior, posterior, name):
    """DDP refuses a model that has others."""
    objective = objective_class(name)()
    of_vectors = vector_model(prior, posterior=posterior)
    of_sentences = sentence_model(prior=prior, posterior=posterior)
    models: list[tuple[LatentVariableModel, object]] = [(of_vectors, vectors()), (of_sentences, sentences())]
    for model, batch in models:
        objective.prepare(model)
        terms = objective.terms(model, batch, step=0)
        assert all(value.isfinite().all() for value in terms.values())
        terms["loss"].sum().backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        assert all(p.requires_grad == (name != "autoencoder") for p in model.prior.parameters())


@pytest.mark.parametrize("prior", ["standard_normal", *LEARNED])
@pytest.mark.parametrize("name", ["amim", "mim", "vae"])
def test_the_kl_that_is_logged_is_to_the_models_own_prior(prior, name):
    model, batch, noise = vector_model(prior), vectors(), torch.randn(5, 2)
    posterior = model.posterior(batch)
    terms = objective_class(name)().terms(model, batch, step=0, noise=noise)
    torch.testing.assert_close(terms["kl"], model.prior.kl(posterior, posterior.sample(noise)).detach())
    assert not terms["kl"].requires_grad


def test_a_sampled_variance_spans_its_range_in_training_and_is_the_same_in_all_dimensions():
    model = vector_model("standard_normal", posterior="sampled_variance", min_log_variance=-6, max_log_variance=-1)
    drawn = model.posterior(vectors(20_000)).log_variance
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    share = (drawn[:, 0] + 6) / 5
    assert -0.001 < share.min() < 0.001 and 0.999 < share.max() <= 1
    check_mean(share, 1 / 2)
    check_mean((share - 1 / 2).square(), 1 / 12)


def test_a_sampled_variance_is_the_lower_end_at_inference():
    model = sentence_model(posterior="sampled_variance", min_log_variance=-6.0).eval()
    assert (model.posterior(sentences()).log_variance == -6).all()


def test_a_sampled_variance_has_no_weights_and_none_to_freeze():
    model = sentence_model(posterior="sampled_variance")
    assert not [name for name in model.state_dict() if "log_variance" in name]
    model.freeze_variance()
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_no_dimension_is_on_the_clamp_where_none_is_predicted(training):
    sampled, predicted = (
        vector_model("standard_normal", posterior=posterior, min_log_variance=low).train(training)
        for posterior, low in (("sampled_variance", -6.0), ("gaussian", 9.0))
    )
    on_clamp = [objective_class("amim")().terms(m, vectors(), step=0)["clamped"].unique() for m in (sampled, predicted)]
    assert on_clamp == [0, 1]


@pytest.mark.parametrize("make", [sentence_model, lambda **settings: vector_model("standard_normal", **settings)])
def test_samples_of_mim_are_encoded_with_a_sampled_variance_too(make):
    model = make(posterior="sampled_variance").train()
    batch, seen = sentences() if isinstance(model, SentenceAutoencoder) else vectors(), []
    model.to_log_variance.register_forward_hook(lambda module, inputs, output: seen.append(output))
    objective_class("mim")().terms(model, batch, step=0)
    assert len(seen) == 2 and all((drawn > -10).all() for drawn in seen)
    assert all(module.training for module in model.modules())


def test_the_default_prior_is_the_standard_normal_and_learns_nothing():
    for model in (sentence_model(), VectorAutoencoder(vector_args(), dimension=3)):
        assert isinstance(model.prior, StandardNormal) and not list(model.prior.parameters())


def test_priors_say_what_they_are():
    descriptions = [vector_model(prior).prior.description for prior in ("standard_normal", *LEARNED)]
    assert descriptions == ["N(0, I)", "mixture of 4 Gaussians", "VampPrior of 4 pseudo-inputs"]


@pytest.mark.parametrize("args", [sentence_args, vector_args])
def test_wrong_settings_are_refused_together(args):
    with pytest.raises(UserError, match=r"model.posterior is 'normal'; .*model.prior is 'vampp'; did you mean 'vamp'"):
        args(posterior="normal", prior="vampp")
    with pytest.raises(UserError, match=r"num_prior_components is 0.*max_log_variance is -11.*min_log_variance, -10"):
        args(num_prior_components=0, posterior="sampled_variance", max_log_variance=-11.0)
    assert args(min_log_variance=1.0).max_log_variance == 0  # of no account where the variance is predicted


def test_a_pseudo_input_of_sentences_ends_with_sos():
    model, seen = sentence_model(prior="vamp"), []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    model.prior.components()
    [(embedded, lengths)] = seen
    assert lengths.tolist() == [11] * NUM and embedded.shape == (NUM, 11, 8)
    assert torch.equal(embedded[:, -1], model.embedding.weight[SOS_ID].expand(NUM, -1))
    assert isinstance(model.prior, VampPrior) and torch.equal(embedded[:, :-1], model.prior.pseudo_inputs)
