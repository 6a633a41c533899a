"""Critics in the training loop: clipping, checkpoints, several processes. And an annealed weight in a resumed run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from smim import storage
from smim.errors import UserError
from smim.objectives import Critic, objective_class
from smim.text.corpus import Corpus
from smim.training import checkpoint, checks
from smim.training.args import TrainArgs
from smim.training.parallel import Replicated
from smim.training.trainer import Trainer
from tests.models import sentence_args
from tests.objectives.checks import vector_model
from tests.training.conftest import read_metrics
from tests.training.test_resume import STEPS, kill_at_touch, outcome

NAMES = ["adversarial", "infomax_vae"]


def with_critic(run_dir) -> tuple:
    """What must be the same after a resume: all that a run leaves, and its critic."""
    last = checkpoint.list_checkpoints(run_dir / "checkpoints")[-1]
    return *outcome(run_dir), storage.sha256(last / "critic.safetensors")


def fit(corpus: Corpus, run_dir: Path, name: str, *, accelerator: Accelerator | None = None, **settings) -> None:
    """Trains in this process."""
    set_up = {"batch_size": 8, "precision": "fp32", "log_every": 1, "trackers": []}
    Trainer(
        corpus,
        sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12),
        objective_class(name)(),
        TrainArgs(**{**set_up, **settings}),
        accelerator=accelerator or Accelerator(cpu=True),
        run_dir=run_dir,
    ).fit()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_a_critic_goes_on_as_if_it_had_not_stopped(corpus, tmp_path, name):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(corpus, whole, name, max_steps=12)
    fit(corpus, stopped, name, max_steps=7)
    fit(corpus, stopped, name, max_steps=12, resume="auto")
    # The validation at the end of the first part has a line of its own.
    lines = [[line for line in read_metrics(run_dir) if line["split"] == "train"] for run_dir in (whole, stopped)]
    assert lines[0] == lines[1] and len(lines[0]) == 12
    assert with_critic(stopped)[-2:] == with_critic(whole)[-2:]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_a_critic_that_was_killed_ends_as_one_that_was_not(command, train, tmp_path, name):
    run_dir, objective = tmp_path / "run", f"objective={name}"
    touches = kill_at_touch(command, run_dir, 0, objective)
    expected = with_critic(run_dir)
    saved = next(i for i, touch in enumerate(touches) if "step-00000006" in touch and "manifest" in touch)
    shutil.rmtree(run_dir)
    kill_at_touch(command, run_dir, saved + 5, objective)
    assert [path.name for path in checkpoint.list_checkpoints(run_dir / "checkpoints")][-1] == "step-00000006"
    assert train(objective, STEPS, "train.resume=auto").returncode == 0
    assert with_critic(run_dir) == expected


def test_an_annealed_weight_goes_on_as_if_the_run_had_not_stopped(command, train, tmp_path):
    run_dir = tmp_path / "run"
    objective = ["objective=vae", "objective.kl_annealing=linear", "objective.annealing_steps=20"]
    touches = kill_at_touch(command, run_dir, 0, *objective)
    expected = outcome(run_dir)
    saved = next(i for i, touch in enumerate(touches) if "step-00000006" in touch and "manifest" in touch)
    shutil.rmtree(run_dir)
    kill_at_touch(command, run_dir, saved + 5, *objective)
    assert train(*objective, STEPS, "train.resume=auto").returncode == 0
    assert outcome(run_dir) == expected
    weights = [line["kl_weight"] for line in expected[0] if line["split"] == "train"]
    assert weights == pytest.approx([step / 20 for step in range(12)])


# Without noise: one pseudo-input, and posteriors as good as without variance, are prior and codes.
NO_NOISE = [
    *("model.embedding_dropout=0", "model.prior=vamp", "model.num_prior_components=1", "model.pseudo_input_length=4"),
    *("model.posterior=sampled_variance", "model.min_log_variance=-30", "model.max_log_variance=-30"),
]


def test_a_critic_on_two_processes_has_the_losses_of_one(train, tmp_path):
    # It leaves a last batch of one sentence, of which the second process has none.
    settings = ["objective=adversarial", *NO_NOISE, "train.batch_size=13", STEPS]
    assert train(*settings, f"run.dir={tmp_path / 'one'}").returncode == 0
    assert train(*settings, f"run.dir={tmp_path / 'two'}", processes=2).returncode == 0
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    for term in ("loss", "critic_loss"):
        assert [line[term] for line in two] == pytest.approx([line[term] for line in one], rel=1e-4)
    critics = [
        load_file(checkpoint.list_checkpoints(tmp_path / name / "checkpoints")[-1] / "critic.safetensors")
        for name in ("one", "two")
    ]
    for name, tensor in critics[0].items():
        torch.testing.assert_close(critics[1][name], tensor, rtol=1e-2, atol=1e-5)


def test_an_estimate_of_information_is_trained_on_two_processes(train, tmp_path):
    finished = train("objective=infomax_vae", "objective.critic_learning_rate=0.01", STEPS, processes=2)
    assert finished.returncode == 0, finished.stderr
    trained = [line for line in read_metrics(tmp_path / "run") if line["split"] == "train"]
    assert trained[-1]["critic_loss"] < trained[0]["critic_loss"]


@pytest.fixture
def pair() -> Replicated:
    """A model and a critic, with gradients of norms 10 and 9."""
    model, critic = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    for module in (model, critic):
        module.weight.data.fill_(1.0)
        module.weight.grad = torch.full((1, 1), 10.0 if module is model else 9.0)
    optimizers = [torch.optim.SGD(module.parameters(), lr=1.0) for module in (model, critic)]
    accelerator = Accelerator(cpu=True)
    return Replicated(
        model, model, optimizers[0], accelerator=accelerator, grad_clip=0.25, critic=Critic(critic, optimizers[1])
    )


def test_the_gradients_of_the_model_are_clipped_and_those_of_the_critic_are_not(pair):
    assert pair.step() == pytest.approx(10)
    assert pair.model.weight.item() == pytest.approx(0.75)
    assert pair.critic.network.weight.item() == pytest.approx(-8)
    assert pair.model.weight.grad is None and pair.critic.network.weight.grad is None


@pytest.mark.parametrize("broken", ["model", "critic"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_moves_neither_the_model_nor_the_critic(pair, broken, value):
    networks = {"model": pair.model, "critic": pair.critic.network}
    networks[broken].weight.grad.fill_(value)
    norm = pair.step()
    assert not torch.tensor(norm).isfinite()
    assert all(network.weight.item() == 1 and network.weight.grad is None for network in networks.values())


@pytest.fixture
def sharded(request) -> Iterator[Accelerator]:
    """An accelerator that says that it shards weights in this way."""
    accelerator = Accelerator(cpu=True)
    accelerator.state.distributed_type = request.param
    yield accelerator
    accelerator.state.distributed_type = DistributedType.NO


@pytest.mark.parametrize("sharded", [DistributedType.DEEPSPEED, DistributedType.FSDP], indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_a_critic_is_refused_where_weights_are_sharded(sharded, name, tiny_corpus):
    parts = (Corpus.open(tiny_corpus).split("train"), TrainArgs(), vector_model())
    checks.check_launch(*parts, objective_class("vae")(), None, sharded)
    objective = objective_class(name)()
    with pytest.raises(UserError, match=f"objective={name} trains a critic"):
        checks.check_launch(*parts, objective, objective.make_critic(vector_model()), sharded)


@pytest.mark.parametrize("sharded", [DistributedType.FSDP], indirect=True)
def test_a_critic_is_refused_before_training(sharded, corpus, tmp_path):
    with pytest.raises(UserError, match="objective=adversarial trains a critic"):
        fit(corpus, tmp_path, "adversarial", accelerator=sharded, max_steps=1)
    assert not any(tmp_path.rglob("*.safetensors"))
