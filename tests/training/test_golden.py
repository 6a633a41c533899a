"""Losses of fixed-seed runs, stored: a refactoring that changes them changes the mathematics.

After an intended change: `pytest tests/training/test_golden.py --store-golden` writes them anew.
"""

import json
from pathlib import Path

import pytest

from tests.training.conftest import read_metrics

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
RUNS = {
    "amim": ["objective=amim"],
    "amim_warmup": ["objective=amim", "objective.warmup_steps=40"],
    "mim": ["objective=mim", "objective.max_sampled_length=10"],
    "vae": ["objective=vae"],
    "vae_linear": ["objective=vae", "objective.kl_annealing=linear", "objective.annealing_steps=40"],
    "vae_logistic": ["objective=vae", "objective.kl_annealing=logistic", "objective.annealing_steps=25"],
    "autoencoder": ["objective=autoencoder"],
    "beta_vae": ["objective=beta_vae"],
    "probabilistic_autoencoder": ["objective=probabilistic_autoencoder"],
    "mmd_vae": ["objective=mmd_vae"],
    "stein_vae": ["objective=stein_vae"],
    "adversarial": ["objective=adversarial"],
    "infomax_vae": ["objective=infomax_vae", "objective.critic_learning_rate=0.01"],
    "amim_vamp": ["objective=amim", "model.prior=vamp", "model.num_prior_components=5", "model.pseudo_input_length=6"],
    "vae_mixture": ["objective=vae", "model.prior=gaussian_mixture", "model.num_prior_components=5"],
    "amim_sampled_variance": ["objective=amim", "model.posterior=sampled_variance", "model.min_log_variance=-6"],
}
FIFTY_STEPS = ["train.max_steps=50", "train.log_every=10", "train.learning_rate=0.01"]


def losses(run_dir: Path) -> dict[str, list[float]]:
    lines = read_metrics(run_dir)
    return {split: [line["loss"] for line in lines if line["split"] == split] for split in ("train", "valid")}


@pytest.mark.parametrize("name", RUNS)
def test_fifty_steps_have_the_stored_losses(train, tmp_path, name, request):
    assert train(*RUNS[name], *FIFTY_STEPS).returncode == 0
    ours = losses(tmp_path / "run")
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--store-golden"):
        GOLDEN.write_text(json.dumps({**stored, name: ours}, indent=1) + "\n")
        pytest.skip("stored anew")
    golden = stored[name]
    assert len(golden["train"]) == 5 and len(golden["valid"]) == 10
    for split in golden:
        assert ours[split] == pytest.approx(golden[split], rel=1e-4)
