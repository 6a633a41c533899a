"""Trainings with learned priors and the posterior of sampled variance, as a user turns them on."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smim.model.directory import load_model
from smim.text.corpus import Corpus
from smim.training import checkpoint
from tests.training.conftest import read_metrics
from tests.training.test_parallel import check_same_losses
from tests.training.test_resume import outcome

PRIORS = {
    "mixture": ["model.prior=gaussian_mixture", "model.num_prior_components=5"],
    "vamp": ["model.prior=vamp", "model.num_prior_components=5", "model.pseudo_input_length=6"],
}
SAMPLED = ["model.posterior=sampled_variance", "model.min_log_variance=-6"]


def checkpoints(run_dir: Path) -> list[Path]:
    return checkpoint.list_checkpoints(run_dir / "checkpoints")


@pytest.mark.parametrize("settings", [*PRIORS.values(), SAMPLED], ids=[*PRIORS, "sampled_variance"])
def test_training_lowers_the_loss(train, tmp_path, settings):
    assert train(*settings, "train.max_steps=40", "train.learning_rate=0.01").returncode == 0
    first, *_, last = [line["loss"] for line in read_metrics(tmp_path / "run") if line["split"] == "valid"]
    assert last < first - 5


@pytest.mark.parametrize(
    ("prior", "objective"),
    [
        ("vamp", "vae"),
        *(
            pytest.param(prior, objective, marks=pytest.mark.slow)
            for prior, objective in [("vamp", "amim"), ("vamp", "mim"), ("mixture", "vae"), ("mixture", "amim")]
        ),
    ],
)
def test_two_processes_train_all_of_a_prior(train, tmp_path, prior, objective):
    """DDP refuses a step that leaves a weight without a gradient."""
    finished = train(*PRIORS[prior], f"objective={objective}", "train.max_steps=6", processes=2)
    assert finished.returncode == 0, finished.stderr
    early, late = (load_file(path / "model.safetensors") for path in checkpoints(tmp_path / "run")[-2:])
    names = [name for name in late if name.startswith("prior.")]
    assert names and not any(torch.equal(early[name], late[name]) for name in names)


def test_pseudo_inputs_begin_as_training_sentences(train, tmp_path, tiny_corpus):
    # At so low a rate hardly anything moves.
    assert train(*PRIORS["vamp"], "train.max_steps=1", "train.learning_rate=1e-8").returncode == 0
    model, *_ = load_model(tmp_path / "run" / "model")
    words_KL = torch.cdist(model.prior.pseudo_inputs, model.embedding.weight).argmin(-1)
    torch.testing.assert_close(model.embedding(words_KL), model.prior.pseudo_inputs)
    split = Corpus.open(tiny_corpus).split("train")
    starts = [[*ids, *ids][5::-1] for ids in split.ids(range(len(split)))]
    assert all(words in starts for words in words_KL.tolist())
    assert len({tuple(words) for words in words_KL.tolist()}) == 5


def test_a_resumed_run_ends_as_one_that_was_not_stopped(train, tmp_path):
    run_dir, settings = tmp_path / "run", [*PRIORS["vamp"], *SAMPLED, "train.max_steps=9"]
    assert train(*settings).returncode == 0
    whole = outcome(run_dir)
    for later in checkpoints(run_dir)[1:]:
        shutil.rmtree(later)
    resumed = train(*settings, "train.resume=auto")
    assert resumed.returncode == 0 and "resumed from" in resumed.stderr
    assert outcome(run_dir) == whole


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("prior", PRIORS)
def test_zero_has_the_losses_of_ddp(train, tmp_path, prior, stage):
    check_same_losses(lambda *settings, **how: train(*PRIORS[prior], *settings, **how), tmp_path, "gru", "amim", stage)
