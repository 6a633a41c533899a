"""Losses of fixed-seed runs on vectors, stored, for every objective that there is: see `test_golden.py`."""

import pytest
from accelerate import Accelerator

from data_prep import build
from smim import config
from smim.objectives import OBJECTIVES, objective_class
from smim.objectives.contrast import Contrast
from smim.training.args import TrainArgs
from smim.training.trainer import Trainer
from smim.vectors.corpus import VectorCorpus
from tests.models import vector_args
from tests.training.test_golden import check_golden

# Beside each objective as it is by default: settings that change what is computed for vectors.
SETTINGS: dict[str, dict] = {name: {"name": name} for name in OBJECTIVES} | {
    "vae_free_bits_entropy": {"name": "vae", "free_bits": 0.2, "entropy_weight": 0.5},
    "cmim": {"name": "amim", "contrast": Contrast(1.0)},
    "mim_warmup_entropy": {"name": "mim", "warmup_steps": 40, "entropy_weight": -1.0},
    # By default its critic has learned too little to be seen in the loss.
    "infomax_vae_dual": {"name": "infomax_vae", "dual": "donsker_varadhan", "critic_learning_rate": 0.002},
}
# A critic that learns so fast makes a processor's own rounding as large as the tolerance after twenty steps.
STEPS = {"infomax_vae_dual": 10}
# By likelihood: the corpus, and what of it is trained on.
CORPORA = {
    "gaussian": ["corpus=gmm", "corpus.train=320", "corpus.valid=100", "corpus.test=20"],
    "bernoulli": ["corpus=digits", "corpus.valid=0.05", "corpus.test=0.75"],
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[str, VectorCorpus]:
    folder = tmp_path_factory.mktemp("data")
    for likelihood, overrides in CORPORA.items():
        build.main(config.compose("build", [f"output={folder / likelihood}", *overrides]))
    return {likelihood: VectorCorpus.open(folder / likelihood) for likelihood in CORPORA}


@pytest.mark.parametrize("likelihood", CORPORA)
@pytest.mark.parametrize("name", SETTINGS)
def test_training_on_vectors_has_the_stored_losses(corpora, tmp_path, name, likelihood, request):
    settings, steps = dict(SETTINGS[name]), STEPS.get(name, 50)
    trainer = Trainer(
        corpora[likelihood],
        vector_args(latent_dim=3, hidden_dim=8, likelihood=likelihood),
        objective_class(settings["name"])(**settings),
        TrainArgs(
            max_steps=steps, batch_size=32, learning_rate=0.01, log_every=steps // 5, precision="fp32", trackers=[]
        ),
        accelerator=Accelerator(cpu=True),
        run_dir=tmp_path,
    )
    trainer.fit()
    check_golden(request, "vector_losses.json", f"{name}_{likelihood}", tmp_path, absolute=1e-4)
