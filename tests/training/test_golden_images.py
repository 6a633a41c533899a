"""Losses of fixed-seed runs on images, stored, and runs that resume bit for bit: see `test_golden.py`."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from smim import config
from smim.model.registry import make_args
from smim.objectives import objective_class
from smim.training.args import TrainArgs
from smim.training.checkpoint import list_checkpoints, load_tensors
from smim.training.trainer import Trainer
from smim.vectors.corpus import VectorCorpus
from tests.images.corpora import write_digits
from tests.training.conftest import read_metrics
from tests.training.test_golden import check_golden

STEPS = 20
# By name: the model, the objective, and settings of the model.
RUNS = {
    "conv_vae_vae": ("conv_vae", "vae", []),
    "conv_vae_mim_gaussian": ("conv_vae", "mim", ["model.likelihood=gaussian"]),
    "conv_hvae_vae": ("conv_hvae", "vae", []),
    "conv_hvae_amim_vamp": ("conv_hvae", "amim", ["model.prior=vamp"]),
    "conv_hvae_mim": ("conv_hvae", "mim", []),
    "conv_hvae_autoencoder": ("conv_hvae", "autoencoder", []),
    "conv_hvae_infomax_vae": ("conv_hvae", "infomax_vae", []),
    "conv_hvae_mmd_vae": ("conv_hvae", "mmd_vae", []),
    "pixel_hvae_amim": ("pixel_hvae", "amim", []),
    "pixel_hvae_vae_logistic": ("pixel_hvae", "vae", ["model.likelihood=discretised_logistic"]),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> VectorCorpus:
    return write_digits(tmp_path_factory.mktemp("data") / "digits", num=180)


def make_trainer(corpus: VectorCorpus, name: str, run_dir: Path, *, steps: int = STEPS, **train) -> Trainer:
    model, objective, overrides = RUNS[name]
    sizes = ["latent_dim=4", "hidden_dim=8", "encoder.channels=3", "decoder.channels=4", "num_prior_components=5"]
    settings = config.compose("train", [f"model={model}", *(f"model.{size}" for size in sizes), *overrides]).model
    return Trainer(
        corpus,
        make_args(settings),
        objective_class(objective)(name=objective),
        TrainArgs(**{
            **{"max_steps": steps, "batch_size": 24, "learning_rate": 0.003, "log_every": STEPS // 5},
            **{"precision": "fp32", "trackers": [], "checkpoint_every": 7, **train},
        }),
        accelerator=Accelerator(cpu=True),
        run_dir=run_dir,
    )  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_training_on_images_has_the_stored_losses(corpus, tmp_path, name, request):
    make_trainer(corpus, name, tmp_path).fit()
    check_golden(request, "image_losses.json", name, tmp_path, absolute=1e-3)


@pytest.mark.parametrize("name", ["conv_hvae_amim_vamp", "conv_hvae_mim"])
def test_a_run_on_images_resumes_bit_for_bit(corpus, tmp_path, name):
    make_trainer(corpus, name, tmp_path / "whole").fit()
    make_trainer(corpus, name, tmp_path / "parts", steps=7).fit()
    make_trainer(corpus, name, tmp_path / "parts", resume="auto").fit()
    losses = {run: {line["step"]: line["loss"] for line in read_metrics(tmp_path / run) if line["split"] == "train"}
              for run in ("whole", "parts")}  # fmt: skip
    assert losses["whole"][STEPS] == losses["parts"][STEPS]
    last = {run: load_tensors(list_checkpoints(tmp_path / run / "checkpoints")[-1], "model") for run in losses}
    assert last["whole"].keys() == last["parts"].keys()
    assert all(torch.equal(weight, last["parts"][name]) for name, weight in last["whole"].items())


def test_pseudo_inputs_start_as_training_images(corpus, tmp_path):
    trainer = make_trainer(corpus, "conv_hvae_amim_vamp", tmp_path)
    images = torch.sigmoid(trainer.model.prior.top.pseudo_inputs).round()
    train = torch.tensor(corpus.split("train").vectors)
    assert ((images[:, None] == train).all(-1).sum(1) >= 1).all() and images.std() > 0.1
    assert trainer.model.args.shape == [1, 8, 8]


def test_drawing_pixel_by_pixel_in_each_step_is_warned_of(corpus, tmp_path, capsys, monkeypatch):
    make_trainer(corpus, "pixel_hvae_amim", tmp_path / "amim")
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setitem(RUNS, "pixel_hvae_mim", ("pixel_hvae", "mim", []))
    make_trainer(corpus, "pixel_hvae_mim", tmp_path / "mim")
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: objective=mim draws from the decoder in each step" in said
