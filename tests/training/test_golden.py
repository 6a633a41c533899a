"""Losses of fixed-seed runs, stored: a refactoring that changes them changes the mathematics.

For a new objective, `pytest tests/training -k golden --store-golden` stores what `tests/golden/` lacks, also of
`test_golden_vectors.py`, and compares the rest. After an intended change: first delete what is meant to change there.
"""

import json
from pathlib import Path

import pytest

from smim.objectives import OBJECTIVES
from tests.training.conftest import read_metrics

GOLDEN = Path(__file__).parents[1] / "golden"
# Beside each objective as it is by default: settings and parts of the model that change what is computed.
RUNS = {name: [f"objective={name}"] for name in OBJECTIVES} | {
    "mim": ["objective=mim", "objective.max_sampled_length=10"],
    "infomax_vae": ["objective=infomax_vae", "objective.critic_learning_rate=0.01"],
    "cmim": ["objective=cmim"],
    "amim_warmup": ["objective=amim", "objective.warmup_steps=40"],
    "vae_linear": ["objective=vae", "objective.kl_annealing=linear", "objective.annealing_steps=40"],
    "vae_logistic": ["objective=vae", "objective.kl_annealing=logistic", "objective.annealing_steps=25"],
    "amim_vamp": ["objective=amim", "model.prior=vamp", "model.num_prior_components=5", "model.pseudo_input_length=6"],
    "vae_mixture": ["objective=vae", "model.prior=gaussian_mixture", "model.num_prior_components=5"],
    "amim_sampled_variance": ["objective=amim", "model.posterior=sampled_variance", "model.min_log_variance=-6"],
}
# On a corpus with a teacher's vectors and pairs.
VIEWED = {
    "amim_similarities": ["objective.second_view.weight=5"],
    "amim_vector": ["objective.second_view.weight=5", "objective.second_view.loss=vector"],
    "amim_head": ["objective.second_view.weight=5", "objective.second_view.loss=head"],
    "amim_pairs": ["objective.pairs.weight=0.5", "objective.pairs.loss=both"],
}
FIFTY_STEPS = ["train.max_steps=50", "train.log_every=10", "train.learning_rate=0.01"]


def check_golden(request: pytest.FixtureRequest, file: str, name: str, run_dir: Path, *, absolute: float) -> None:
    """The losses of a run are those that are stored under `name`: five of training, one of each validation."""
    lines = read_metrics(run_dir)
    ours = {split: [line["loss"] for line in lines if line["split"] == split] for split in ("train", "valid")}
    stored = json.loads((GOLDEN / file).read_text())
    if name not in stored and request.config.getoption("--store-golden"):
        (GOLDEN / file).write_text(json.dumps({**stored, name: ours}, indent=1) + "\n")
        pytest.skip("stored")
    assert len(ours["train"]) == 5 and ours.keys() == stored[name].keys()
    for split, golden in stored[name].items():
        assert ours[split] == pytest.approx(golden, rel=1e-4, abs=absolute)


@pytest.mark.parametrize("name", RUNS)
def test_fifty_steps_have_the_stored_losses(train, tmp_path, name, request):
    assert train(*RUNS[name], *FIFTY_STEPS).returncode == 0
    check_golden(request, "losses.json", name, tmp_path / "run", absolute=0)


@pytest.mark.parametrize("name", VIEWED)
def test_fifty_steps_with_second_views_have_the_stored_losses(train, viewed_corpus, tmp_path, name, request):
    assert train(*viewed_corpus, *VIEWED[name], *FIFTY_STEPS).returncode == 0
    check_golden(request, "losses.json", name, tmp_path / "run", absolute=0)
