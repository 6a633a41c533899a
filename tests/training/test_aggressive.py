"""The encoder is trained first: by which rule, which weights move, and how a run continues."""

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian
from smim.objectives import objective_class
from smim.objectives.vae import VAE
from smim.text.corpus import Corpus
from smim.training import checkpoint, checks
from smim.training.aggressive import Aggressive
from smim.training.args import TrainArgs
from smim.training.trainer import Trainer
from tests.models import sentence_args
from tests.objectives.checks import vector_model
from tests.training.conftest import read_metrics
from tests.training.test_resume import outcome


def make(corpus: Corpus, run_dir: Path, steps: int = 3, **settings) -> Trainer:
    set_up = {"batch_size": 8, "precision": "fp32", "log_every": 1, "trackers": [], "checkpoint_every": 100}
    return Trainer(
        corpus,
        sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12),
        VAE(aggressive_steps=steps),
        TrainArgs(**{**set_up, **settings}),
        accelerator=Accelerator(cpu=True),
        run_dir=run_dir,
    )


def taken(aggressive: Aggressive, losses: list[tuple[float, float]]) -> int:
    """How many of the batches with these losses and tokens are trained on."""
    left = iter(losses)
    number = aggressive.train(lambda: next(left))
    assert len(losses) - len(list(left)) == number
    return number


def test_the_encoder_is_trained_until_ten_batches_are_no_better_a_token_than_the_ten_before():
    # Three windows of 5, 4 and 4.5 nats a token, though the last one has the smallest loss, because it has few tokens.
    windows = [(50.0, 10.0), (40.0, 10.0), (9.0, 2.0), (1.0, 10.0)]
    losses = [batch for batch in windows for _ in range(10)]
    assert taken(Aggressive(100), losses) == 30
    assert taken(Aggressive(25), losses) == 25
    # Within a window single batches may vary.
    assert taken(Aggressive(100), [(60.0 - 2 * i, 10.0) for i in (1, 0, *range(2, 30))] * 2) == 40


def test_a_loss_that_does_not_change_ends_it_and_one_that_falls_goes_to_the_limit():
    assert taken(Aggressive(100), [(5.0, 1.0)] * 100) == 20
    assert taken(Aggressive(100), [(500.0 - i, 1.0) for i in range(200)]) == 100
    assert taken(Aggressive(0), [(5.0, 1.0)] * 100) == 0


def test_it_ends_for_good_at_the_first_validation_without_a_gain_of_information():
    aggressive = Aggressive(4)
    assert [aggressive.update(value) for value in (0.5, 0.7, 0.7, 0.9)] == [False, False, True, False]
    assert not aggressive.on and taken(aggressive, [(1.0, 1.0)] * 9) == 0
    assert Aggressive(4).update(0.0)


def test_the_rule_sees_the_losses_and_tokens_of_the_training(corpus, tmp_path, monkeypatch):
    """By hand: the same batches and draws with an encoder that is stepped alone."""
    trainer = make(corpus, tmp_path, max_steps=1)
    model, seen = trainer.model, []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()

    def observe(self, step):
        seen.extend(step() for _ in range(3))
        return 3

    monkeypatch.setattr(Aggressive, "train", observe)
    assert trainer.train_encoder(8) == 3
    after = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    model.load_state_dict(before)
    torch.set_rng_state(random)
    adam = torch.optim.Adam(model.inference_parameters(), lr=1e-3)
    draws = np.random.default_rng([0, 0, 2])
    for loss, tokens in seen:
        rows = draws.choice(40, 8, replace=False)
        rows = rows[np.argsort(trainer.train_split.lengths[rows], kind="stable")]
        batch = trainer.train_split.batch(rows)
        model.zero_grad()
        losses = VAE().terms(model, batch, step=0)["loss"]
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.inference_parameters(), 0.25)
        adam.step()
        assert loss == pytest.approx(float(losses.detach().sum()), rel=1e-5) and tokens == int(batch.lengths.sum()) + 8
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(after[name], tensor)


def test_a_step_trains_only_the_rest_and_all_weights_after_the_end(corpus, tmp_path):
    trainer = make(corpus, tmp_path, steps=2, max_steps=1)
    encoder = {id(parameter) for parameter in trainer.model.inference_parameters()}
    names = [name for name, parameter in trainer.model.named_parameters() if id(parameter) in encoder]
    assert {name.split(".")[0] for name in names} == {"encoder", "to_mean", "to_log_variance"}

    def moved(act) -> set[str]:
        before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
        act()
        return {
            name for name, parameter in trainer.model.named_parameters() if not torch.equal(before[name], parameter)
        }

    rows = next(trainer.batches_left())
    others = {name for name, _ in trainer.model.named_parameters()} - {*names}
    assert moved(lambda: trainer.train_encoder(8)) == {*names}
    trainer.aggressive.train = lambda step: 0  # type: ignore[method-assign]
    assert moved(lambda: trainer.train_step(rows)) == others
    trainer.aggressive.on = False
    assert moved(lambda: trainer.train_step(rows)) == others | {*names}


def test_a_run_continues_bit_for_bit_with_its_aggressive_training(corpus, tmp_path, monkeypatch):
    growing = count(1)
    monkeypatch.setattr(DiagonalGaussian, "information", lambda self, z: torch.full((len(z),), float(next(growing))))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make(corpus, whole, max_steps=12).fit()
    make(corpus, stopped, max_steps=7).fit()
    assert checkpoint.read_state(checkpoint.list_checkpoints(stopped / "checkpoints")[-1])["aggressive"]["on"]
    make(corpus, stopped, max_steps=12, resume="auto").fit()
    lines = [[line for line in read_metrics(run_dir) if line["split"] == "train"] for run_dir in (whole, stopped)]
    assert lines[0] == lines[1] and [line["encoder_steps"] for line in lines[0]] == [3] * 12
    assert outcome(whole)[2] == outcome(stopped)[2]


def test_a_run_whose_aggressive_training_has_ended_continues_without_it(corpus, tmp_path, monkeypatch):
    growing = [1.0, 1.0, 2.0]  # of three validations
    monkeypatch.setattr(DiagonalGaussian, "information", lambda self, z: torch.full((len(z),), growing.pop(0)))
    make(corpus, tmp_path, max_epochs=2).fit()
    make(corpus, tmp_path, max_epochs=3, resume="auto").fit()
    steps = [line["encoder_steps"] for line in read_metrics(tmp_path) if line["split"] == "train"]
    assert steps == [3] * 10 + [0] * 5


def test_two_processes_agree(train, tmp_path):
    """What is compared is the sum over both, so each takes as many steps, or they would wait for each other."""
    settings = ["objective=vae", "objective.aggressive_steps=100", "train.max_steps=3"]
    finished = train(*settings, processes=2)
    assert finished.returncode == 0, finished.stderr
    steps = [line["encoder_steps"] for line in read_metrics(tmp_path / "run") if line["split"] == "train"]
    assert len(steps) == 3 and all(20 <= number <= 100 for number in steps)


def test_the_information_in_a_batch_is_at_most_the_log_of_its_size():
    separate = DiagonalGaussian(torch.arange(4.0)[:, None] * 100, torch.zeros(4, 1))
    torch.testing.assert_close(separate.information(separate.mean).exp(), torch.full((4,), 4.0).double())
    equal = DiagonalGaussian(torch.ones(4, 2), torch.zeros(4, 2))
    torch.testing.assert_close(equal.information(torch.randn(4, 2)), torch.zeros(4).double(), atol=1e-6, rtol=0)


def test_settings_that_do_not_fit_are_refused(tiny_corpus):
    with pytest.raises(UserError, match=r"objective\.aggressive_steps"):
        objective_class("vae")(aggressive_steps=-1)
    accelerator = Accelerator(cpu=True)
    parts = (
        Corpus.open(tiny_corpus).split("train"),
        TrainArgs(overfit_batches=2),
        vector_model(),
        VAE(aggressive_steps=5),
    )
    with pytest.raises(UserError, match="overfit_batches"):
        checks.check_launch(*parts, None, accelerator)
    for mode in (DistributedType.DEEPSPEED, DistributedType.FSDP):
        accelerator.state.distributed_type = mode
        with pytest.raises(UserError, match="aggressive_steps trains the encoder alone"):
            checks.check_launch(*parts, None, accelerator)
    accelerator.state.distributed_type = DistributedType.NO
