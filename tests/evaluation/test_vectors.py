"""Metrics of vectors: against a linear Gaussian model whose exact values are known, and as reports."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from eval import compare
from smim import config, vector_model
from smim.errors import UserError
from smim.evaluation import run
from smim.evaluation.vectors import VectorsArgs, images_of, marginal_log_prob, measure_vectors, plane, take
from smim.model.directory import save_model
from smim.model.mlp import VectorAutoencoder
from smim.preparation.gmm import GMMArgs, build
from smim.preparation.vectors import LabelledVectors, write_corpus
from smim.vector_model import VectorModel
from smim.vectors.corpus import VectorCorpus
from tests.models import vector_args
from tests.scripts import run_script

TRAINING = {"objective": "vae", "corpus": "gmm", "seed": 0, "step": 5, "epoch": 1, "valid_loss": 2.0}
STDEV = 0.25


def gmm(output: Path, **settings) -> VectorCorpus:
    sizes = {"train": 500, "valid": 10, "test": 4000}
    mixture = {"num_components": 5, "standard_deviation": STDEV, "radius": 1.0, "center": True}
    given = {"seed": 0, "dimension": 2, **mixture, **sizes}
    build(GMMArgs(**{"builder": "gmm", "name": "gmm", "dir": "", **given, **settings}), output)
    return VectorCorpus.open(output)


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory) -> VectorCorpus:
    """Vectors from N(0, STDEV² I) in two dimensions: a mixture of one."""
    return gmm(tmp_path_factory.mktemp("data") / "gaussian", num_components=1)


class Linear:
    """q(z|x) = N(A x, diag(s²)) and p(x|z) = N(B z + b, diag(t²)), as a model of fully connected layers.

    A linear map goes through rectifiers as their difference: x = relu(x) - relu(-x).
    """

    encoder = torch.tensor([[2.0, 1.0], [-1.0, 3.0]])
    decoder = torch.tensor([[0.3, -0.1], [0.1, 0.2]])
    offset = torch.tensor([0.05, -0.1])
    encoder_stdev = torch.tensor([0.3, 0.8])
    decoder_stdev = torch.tensor([0.15, 0.4])

    def __init__(self, encoder_stdev: torch.Tensor | None = None) -> None:
        if encoder_stdev is not None:
            self.encoder_stdev = encoder_stdev
        args = vector_args(latent_dim=2, hidden_dim=4, num_layers=1, activation="relu", min_log_variance=-20.0)
        model = VectorAutoencoder(args, dimension=2).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            both_signs = torch.cat([torch.eye(2), -torch.eye(2)])
            model.encoder[0].weight.copy_(both_signs)
            model.decoder[0].weight.copy_(both_signs)
            model.to_mean.weight.copy_(self.encoder @ both_signs.T)
            model.to_log_variance.bias.copy_(2 * self.encoder_stdev.log())
            model.to_vector.weight.copy_(self.decoder @ both_signs.T)
            model.to_vector.bias.copy_(self.offset)
            model.to_vector_log_variance.bias.copy_(2 * self.decoder_stdev.log())
        settings = {"training": TRAINING, "model": {"likelihood": "gaussian"}, "num_parameters": model.num_parameters}
        self.model = VectorModel(model, settings, hash="0" * 64)

    @property
    def marginal(self) -> MultivariateNormal:
        """p(x) = N(b, B B' + diag(t²))."""
        return MultivariateNormal(self.offset, self.decoder @ self.decoder.T + torch.diag(self.decoder_stdev**2))

    @property
    def aggregate(self) -> MultivariateNormal:
        """q(z) over x ~ N(0, STDEV² I)."""
        covariance = STDEV**2 * self.encoder @ self.encoder.T + torch.diag(self.encoder_stdev**2)
        return MultivariateNormal(torch.zeros(2), covariance)

    @property
    def information(self) -> float:
        """I(x; z) = H(z) - H(z|x)."""
        noise = MultivariateNormal(torch.zeros(2), torch.diag(self.encoder_stdev**2))
        return float(self.aggregate.entropy() - noise.entropy())

    @property
    def squared_error(self) -> torch.Tensor:
        """E (E[x'|z] - x)² of each dimension, z ~ q(z|x), fp32 [2]; of a draw x' it is larger by t²."""
        left = torch.eye(2) - self.decoder @ self.encoder
        noise = self.decoder @ torch.diag(self.encoder_stdev**2) @ self.decoder.T
        return (STDEV**2 * left @ left.T + noise).diag() + self.offset**2


@pytest.fixture(scope="module")
def linear() -> Linear:
    return Linear()


@pytest.fixture(scope="module")
def metrics(linear, gaussian):
    return measure_vectors(linear.model, gaussian, gaussian.split("test"), VectorsArgs(max_queries=4000), seed=1)


def assert_near(metric, exact: float, *, bias: float = 0.0) -> None:
    """Within four standard errors, and what bias is allowed."""
    assert metric.value == pytest.approx(exact, abs=4 * metric.standard_error + bias)


def test_both_estimates_of_mutual_information_are_those_of_the_linear_model(linear, metrics):
    assert linear.information > 1
    assert_near(metrics["mutual_information_ksg"], linear.information, bias=0.03)
    assert_near(metrics["mutual_information"], linear.information)


def test_the_marginal_likelihood_is_that_of_the_linear_model(linear, gaussian, metrics):
    vectors = torch.tensor(gaussian.split("test").vectors)
    exact = -linear.marginal.log_prob(vectors).mean()
    assert metrics["marginal_nll"].value == pytest.approx(float(exact), abs=0.005)
    assert_near(metrics["data_nll"], 2 * (0.5 + np.log(STDEV * np.sqrt(2 * np.pi))))


def test_the_marginal_likelihood_is_right_where_the_posterior_is_far_too_narrow(gaussian):
    narrow = Linear(encoder_stdev=torch.tensor([1e-3, 1e-3]))
    vectors = gaussian.split("test").vectors[:200]
    ours = marginal_log_prob(narrow.model.autoencoder, vectors, num_samples=2000, seed=0)
    exact = narrow.marginal.log_prob(torch.tensor(vectors)).numpy()
    assert ours == pytest.approx(exact, abs=0.25) and ours.mean() == pytest.approx(exact.mean(), abs=0.02)


def test_the_marginal_probabilities_of_bits_add_up_to_one():
    torch.manual_seed(3)
    model = VectorAutoencoder(vector_args(latent_dim=2, hidden_dim=6, likelihood="bernoulli"), dimension=3).eval()
    every = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], np.float32)
    probabilities = np.exp(marginal_log_prob(model, every, num_samples=20_000, seed=0))
    assert probabilities.sum() == pytest.approx(1, abs=0.01) and probabilities.std() > 0.005


def test_the_errors_of_reconstruction_are_those_of_the_linear_model(linear, metrics):
    of_mean = float(linear.squared_error.mean())
    of_draw = of_mean + float((linear.decoder_stdev**2).mean())
    assert_near(metrics["rmse"], of_draw**0.5)
    assert_near(metrics["rmse_mean"], of_mean**0.5)


def test_reconstruction_and_kl_are_those_of_the_linear_model(linear, metrics):
    variance = linear.decoder_stdev**2
    terms = linear.squared_error / variance + variance.log() + np.log(2 * np.pi)
    assert_near(metrics["reconstruction"], float(0.5 * terms.sum()))
    # KL(q(z|x) || N(0, I)) on average is I(x; z) + KL(q(z) || N(0, I)).
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2))
    assert_near(metrics["kl"], linear.information + float(kl_divergence(linear.aggregate, prior)))
    # Var(mean) is 0.31 and 0.62 against 0.09 and 0.64.
    assert (metrics["active_units"].value, metrics["active_units_relative"].value) == (2, 1)


def test_the_rmse_has_the_standard_error_of_its_spread_over_draws(linear, gaussian):
    split = gaussian.split("test")
    args = VectorsArgs(max_queries=10, importance_samples=2)
    parts = [split.table.slice(start, 100) for start in range(0, 4000, 100)]
    found = [
        measure_vectors(linear.model, gaussian, type(split)("test", part), args, seed=i)["rmse"]
        for i, part in enumerate(parts)
    ]
    spread = np.std([metric.value for metric in found], ddof=1)
    assert np.mean([metric.standard_error for metric in found]) == pytest.approx(spread, rel=4 / np.sqrt(2 * 40))


def test_neighbours_tell_the_components_where_the_code_does(tmp_path):
    corpus = gmm(tmp_path / "apart", radius=5.0, test=300)
    metrics = measure_vectors(Linear().model, corpus, corpus.split("test"), VectorsArgs(), seed=0)
    assert metrics["knn_accuracy:component"].value == 1
    assert metrics["majority_accuracy:component"].value == pytest.approx(0.2, abs=0.1)
    blind = Linear(encoder_stdev=torch.tensor([1e3, 1e3]))
    metrics = measure_vectors(blind.model, corpus, corpus.split("test"), VectorsArgs(), seed=0)
    assert_near(metrics["knn_accuracy:component"], 0.2)
    assert metrics["mutual_information_ksg"].value == pytest.approx(0, abs=0.2)


def test_bits_have_no_mutual_information_from_neighbours(tmp_path):
    """Of bits and independent codes the estimate would be up to 2.3 nats, by the scale of the codes alone."""
    random = np.random.default_rng(0)
    bits = {
        name: LabelledVectors((random.random((80, 2)) < 0.5).astype(np.float32), ["a"] * 80)
        for name in ("train", "valid", "test")
    }
    write_corpus(tmp_path / "bits", bits, name="bits", label="letter", source={})
    corpus = VectorCorpus.open(tmp_path / "bits")
    metrics = measure_vectors(Linear().model, corpus, corpus.split("test"), VectorsArgs(max_queries=50), seed=0)
    assert "mutual_information_ksg" not in metrics and "mutual_information" in metrics


def test_an_autoencoder_has_no_metrics_of_a_posterior(gaussian):
    linear = Linear()
    linear.model.config["training"] = {**TRAINING, "objective": "autoencoder"}
    metrics = measure_vectors(linear.model, gaussian, gaussian.split("test"), VectorsArgs(max_queries=100), seed=0)
    assert {"kl", "marginal_nll", "mutual_information"}.isdisjoint(metrics)
    assert metrics["mutual_information_ksg"].value > 3  # the mean is an invertible map of x


@pytest.fixture
def saved(linear, tmp_path) -> Path:
    directory = tmp_path / "run" / "model"
    save_model(directory, linear.model.autoencoder, None, training=TRAINING)
    return directory


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A mixture of five with 60 vectors to evaluate."""
    return gmm(tmp_path_factory.mktemp("data") / "small", test=60).directory


def evaluate(model: Path, corpus: Path, *more: str) -> dict:
    run.main(config.compose("evaluate", [f"model.dir={model}", f"corpus.dir={corpus}", *more]))
    return compare.read_report(model.parent / "report")


def test_a_model_of_vectors_is_reported_with_a_picture(saved, small):
    report = evaluate(saved, small)
    assert report["corpus"]["sentences"] == 60 and report["metrics"]["rmse"]["n"] == 60
    page = (saved.parent / "report" / "report.md").read_text()
    assert page.startswith("# VAE (2) on gmm, test\n\nEvaluated: 60 vectors of 2 dimensions, gmm, test.")
    assert "tokens" not in page.partition("## Provenance")[0]
    assert (saved.parent / "report" / "plots" / "vectors.png").stat().st_size > 10_000
    assert "data:image/png;base64," in (saved.parent / "report" / "report.html").read_text()


def test_a_mixture_of_posteriors_is_drawn_by_its_moments(small, tmp_path):
    corpus = VectorCorpus.open(small)
    args = vector_args(latent_dim=2, likelihood="gaussian", encoder={"name": "mlp", "num_components": 3})
    model = VectorModel(
        VectorAutoencoder(args, dimension=2), {"training": TRAINING, "model": {}, "num_parameters": 1}, hash="0" * 64
    )
    metrics = {"mutual_information_ksg": 0.0, "rmse": 0.0}
    shown = plane(model, corpus.split("test"), title="", metrics=metrics, seed=0)
    assert shown.posterior.mean.shape == shown.posterior.log_variance.shape == (len(corpus.split("test")), 2)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> VectorCorpus:
    """Images of 4x4 pixels."""
    output = tmp_path_factory.mktemp("data") / "images"
    pixels = np.random.default_rng(0).random((60, 16), dtype=np.float32)
    splits = {name: LabelledVectors(pixels, ["a", "b"] * 30) for name in ("train", "valid", "test")}
    write_corpus(output, splits, name="images", label="letter", source={}, shape=[1, 4, 4])
    return VectorCorpus.open(output)


@pytest.fixture
def of_images(tmp_path) -> Path:
    """The directory of a model of these images."""
    model = VectorAutoencoder(vector_args(latent_dim=3, likelihood="bernoulli"), dimension=16)
    save_model(tmp_path / "run" / "model", model, None, training=TRAINING)
    return tmp_path / "run" / "model"


def test_a_report_of_images_shows_reconstructions_and_samples(of_images, images):
    evaluate(of_images, images.directory)
    assert "](plots/images.png)" in (of_images.parent / "report" / "report.md").read_text()
    assert (of_images.parent / "report" / "plots" / "images.png").stat().st_size > 3_000


def test_reconstructions_come_from_the_images_and_samples_from_the_prior(of_images, images):
    model = vector_model.load(of_images)
    with torch.no_grad():
        # A decoder that shows its code: each pixel is sigmoid of z's first number.
        model.autoencoder.decoder = torch.nn.Identity()
        model.autoencoder.to_vector = torch.nn.Linear(3, 16)
        model.autoencoder.to_vector.weight.copy_(torch.eye(3)[:1].expand(16, 3))
        model.autoencoder.to_vector.bias.zero_()
        model.autoencoder.to_mean.bias.fill_(5.0)
    test = images.split("test")
    shown, reconstructions, samples = images_of(model, take(test, np.arange(40)), seed=0)
    np.testing.assert_array_equal(shown, test.vectors[:40])
    codes, drawn = (np.log(each / (1 - each)) for each in (reconstructions, samples))
    assert codes.mean() == pytest.approx(5, abs=1) and abs(drawn.mean()) < 0.6
    assert drawn[:, 0].std() == pytest.approx(1, abs=0.4)
    again = images_of(model, take(test, np.arange(40)), seed=0)
    np.testing.assert_array_equal(again[2], samples)


def test_reports_of_vectors_stand_side_by_side(saved, small):
    other = evaluate(saved, small, "eval.seed=1")
    tables = compare.as_markdown([evaluate(saved, small), other])
    assert "gmm, test: 60 vectors" in tables and "VAE (2)" in tables and "sVAE" not in tables


def test_a_part_of_the_split_is_drawn_by_the_seed(saved, small):
    one, other = (evaluate(saved, small, "eval.max_sentences=20", f"eval.seed={seed}") for seed in (0, 1))
    assert one["corpus"]["sentences"] == other["corpus"]["sentences"] == 20
    assert one["metrics"]["data_nll"]["value"] != other["metrics"]["data_nll"]["value"]


def test_two_processes_give_the_same_report(saved, small):
    alone = evaluate(saved, small)
    output = saved.parent / "two"
    overrides = [f"model.dir={saved}", f"corpus.dir={small}", f"output={output}"]
    assert run_script("eval/run.py", overrides, processes=2).returncode == 0
    both = compare.read_report(output)
    assert both["processes"] == 2
    assert {name: metric["value"] for name, metric in both["metrics"].items()} == pytest.approx(
        {name: metric["value"] for name, metric in alone["metrics"].items()}, rel=1e-5, abs=1e-6
    )


def test_vectors_of_other_dimensions_or_sentences_are_refused(saved, tiny_model, tiny_corpus, small, tmp_path):
    other = gmm(tmp_path / "other", dimension=3, test=10)
    with pytest.raises(UserError, match=r"holds vectors of 3 dimensions, but the model takes vectors of 2"):
        evaluate(saved, other.directory)
    bernoulli = VectorAutoencoder(vector_args(latent_dim=2, likelihood="bernoulli"), dimension=2)
    save_model(tmp_path / "bernoulli", bernoulli, None, training=TRAINING)
    with pytest.raises(UserError, match=r"needs numbers in \[0, 1\]"):
        evaluate(tmp_path / "bernoulli", small)
    with pytest.raises(UserError, match=r"tiny holds sentences, but vectors are needed here"):
        evaluate(saved, tiny_corpus)
    with pytest.raises(UserError, match=r"small holds vectors, but sentences are needed here"):
        run.main(
            config.compose("evaluate", [f"model.dir={tiny_model}", f"corpus.dir={small}", f"output={tmp_path / 'o'}"])
        )


def test_classes_are_read_from_codes_and_sampled_as_often_as_the_model_draws_them(tmp_path):
    corpus = gmm(tmp_path / "apart", radius=5.0, test=300)
    metrics = measure_vectors(Linear().model, corpus, corpus.split("test"), VectorsArgs(), seed=0)
    assert metrics["svm_accuracy:component"].value == 1
    assert metrics["linear_accuracy:component"].value == 1
    # Its samples are near the origin, so all of them are of one of the five components.
    assert metrics["class_divergence:component"].value > 2
    blind = Linear(encoder_stdev=torch.tensor([1e3, 1e3]))
    metrics = measure_vectors(blind.model, corpus, corpus.split("test"), VectorsArgs(), seed=0)
    assert_near(metrics["svm_accuracy:component"], 0.2)


def test_the_log_determinant_is_that_of_the_aggregate_of_the_linear_model(linear, metrics):
    exact = torch.logdet(linear.aggregate.covariance_matrix) / 2
    assert metrics["log_det_covariance"].value == pytest.approx(float(exact), abs=0.05)
