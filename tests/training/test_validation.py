"""Validation: the same numbers whenever it is made, of a model as it is used, and nothing of the training moves."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

import smim
from smim.generation import SentenceModel
from smim.model import noise
from smim.objectives import objective_class
from smim.text.batches import evaluation_batches
from smim.text.corpus import Corpus
from smim.training import validation
from smim.training.validation import active_units, validate


def test_active_units_are_counted_absolutely_and_relative_to_the_posterior() -> None:
    # Means at +-s around 5 have the variance s^2: below and above 0.01, and the posterior's below and above that.
    scales, variances = [0.09, 0.11, 0.11, 0.001, 3.0], [0.008, 0.012, 0.013, 0.9e-6, 10.0]
    mean = torch.tensor([[5 - s for s in scales], [5 + s for s in scales]], dtype=torch.float64)
    sums = mean.sum(0), mean.square().sum(0), 2 * torch.tensor(variances, dtype=torch.float64)
    assert active_units(torch.full((5,), 2.0), *sums) == {"active_units": 3, "active_units_relative": 3}


@pytest.fixture
def check(model: SentenceModel, corpus: Corpus):
    """Validates the tiny model on its training sentences."""

    def run(objective: str = "amim", *, seed: int = 0, **settings: object) -> dict[str, float]:
        made = objective_class(objective)(**settings)
        split = corpus.split("train")
        return validate(model.autoencoder, made, split, accelerator=Accelerator(cpu=True), seed=seed)

    return run


def test_terms_are_means_of_all_sentences_with_noise_by_seed_and_sentence(check, model, corpus) -> None:
    split, autoencoder = corpus.split("train"), model.autoencoder
    batch = split.batch(range(40))
    drawn = noise.normal(3, range(40), 0, 8)
    with torch.no_grad():
        terms = objective_class("vae")().terms(autoencoder, batch, step=None, noise=drawn)
        posterior = autoencoder.posterior(batch)
    found = check("vae", seed=3)
    for name in ("loss", "reconstruction", "kl"):
        assert found[name] == pytest.approx(float(terms[name].double().mean()), rel=1e-5)
    assert (found["sentences"], found["tokens"]) == (40, float(split.lengths.sum()))
    spread, variance = posterior.mean.var(0, correction=0), posterior.log_variance.exp().mean(0)
    assert found["active_units"] == int((spread > 0.01).sum()) > 0
    assert found["active_units_relative"] == int((spread > variance).sum())
    assert check("vae", seed=4)["loss"] != found["loss"]
    assert found["code_deviation"] == pytest.approx(float(posterior.mean.square().mean().sqrt()), rel=1e-5)


def test_how_far_codes_lie_from_zero_is_that_of_their_meaning_part(meaning_model, corpus) -> None:
    autoencoder, split = smim.load(meaning_model, device="cpu").autoencoder, corpus.split("train")
    found = validate(autoencoder, objective_class("amim")(), split, accelerator=Accelerator(cpu=True), seed=0)
    meaning = autoencoder.posterior(split.batch(range(40))).mean[:, :6]
    assert found["code_deviation"] == pytest.approx(float(meaning.square().mean().sqrt()), rel=1e-5)


def test_weights_that_grow_during_training_are_the_final_ones(check) -> None:
    plain = check("vae")
    assert check("vae", kl_annealing="linear", free_bits=5.0)["loss"] == plain["loss"]
    assert check("amim", warmup_steps=10)["loss"] == check("amim")["loss"]


@pytest.mark.parametrize("objective", ["amim", "mim", "mmd_vae"])
def test_the_number_of_processes_does_not_show(objective: str, model, corpus, monkeypatch) -> None:
    """What each of three processes adds up is together what one does, also where an objective draws more than z."""
    made, split = objective_class(objective)(), corpus.split("train")

    def small(*arguments, **options):
        return evaluation_batches(*arguments, tokens_per_batch=40, **options)

    monkeypatch.setattr(validation, "evaluation_batches", small)

    def totals(rank: int, world_size: int) -> tuple[float, float]:
        alone = SimpleNamespace(process_index=rank, num_processes=world_size, device="cpu", reduce=lambda x, **_: x)
        found = validate(model.autoencoder, made, split, accelerator=alone, seed=0)
        return found["loss"] * found["sentences"], found["sentences"]

    torch.manual_seed(1)
    shares = [totals(rank, 3) for rank in range(3)]
    torch.manual_seed(2)
    loss, sentences = totals(0, 1)
    assert all(share[1] for share in shares) and sum(share[1] for share in shares) == sentences == 40
    assert sum(share[0] for share in shares) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_training_goes_on_with_the_mode_and_the_random_numbers_that_it_had(check, model, training: bool) -> None:
    autoencoder = model.autoencoder
    before = autoencoder.training
    try:
        autoencoder.train(training)
        torch.manual_seed(5)
        first = check("mim")
        assert autoencoder.training is training
        after = torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(after, torch.rand(3))
        autoencoder.eval()
        assert check("mim") == first  # dropout is off, whatever the mode was
    finally:
        autoencoder.train(before)


def test_it_tells_of_each_sentence_that_it_is_done(model, corpus) -> None:
    split, told = corpus.split("valid"), []
    accelerator = Accelerator(cpu=True)
    validate(model.autoencoder, objective_class("vae")(), split, accelerator=accelerator, seed=0, done=told.append)
    assert sum(told) == len(split)
