from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from smim import config
from smim.errors import UserError
from smim.training.args import Decides, TrainArgs

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "train"


def composed(*overrides: str) -> TrainArgs:
    return config.make(TrainArgs, config.compose("train", list(overrides)).train, "train")


def test_adam_lists_every_setting_with_its_default():
    assert set(OmegaConf.load(CONFIGS / "adam.yaml")) == {field.name for field in fields(TrainArgs)}
    assert composed("train=adam") == TrainArgs()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_training_is_valid(path):
    assert composed(f"train={path.stem}").optimizer == OmegaConf.load(path).get("optimizer", "adam")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 20, "tokens_per_batch": 70}, "batch_size is 20 .* 70, .* add train.tokens_per_batch=null, or"),
        ({"max_minutes": 0.0}, "max_minutes is 0.0, but it must be above 0"),
        ({"tokens_per_batch": 0}, "tokens_per_batch is 0, but it must be at least 1"),
        ({"overfit_batches": 0}, "overfit_batches is 0, but it must be at least 1"),
        ({"process_timeout": 0}, "process_timeout is 0, but it must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps is -1, but it must be at least 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, but it must be at least 0"),
        ({"profile_steps": -1}, "profile_steps is -1"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0, but it must be below 1"),
        ({"ema_decay": 0.0}, "ema_decay is 0.0, but it must be above 0"),
        ({"learning_rate_decay": 1.0}, "learning_rate_decay is 1.0, but it must be below 1"),
        ({"momentum": 1.0, "optimizer": "sgd"}, "momentum is 1.0, but it must be below 1"),
        ({"momentum": 0.9}, "momentum is 0.9, but train.optimizer=adam has none"),
        ({"adam_betas": [0.9]}, "adam_betas is"),
        ({"adam_betas": [0.9, 1.0]}, "adam_betas is"),
        ({"min_learning_rate": 1.0}, "min_learning_rate is 1.0, but it must not be above train.learning_rate, 0.001"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, but it must be above 0"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"optimizer": "adamv"}, "did you mean 'adam"),
    ],
)
def test_a_wrong_value_is_named(setting, message):
    with pytest.raises(UserError, match=message):
        TrainArgs(**setting)


def test_all_wrong_values_are_told_at_once():
    with pytest.raises(UserError, match=r"batch_size is 0.*ema_decay is 2.*schedule is 'x'"):
        TrainArgs(batch_size=0, ema_decay=2, schedule="x")


def test_a_batch_is_of_twenty_sentences_or_of_what_is_asked_for():
    batches = {
        (): (20, None),
        ("train.batch_size=7",): (7, None),
        ("train.tokens_per_batch=3000",): (None, 3000),
        ("train=adamw",): (None, 4096),
        ("train=adamw", "train.batch_size=7", "train.tokens_per_batch=null"): (7, None),
    }
    for overrides, expected in batches.items():
        args = composed(*overrides)
        assert (args.batch_size, args.tokens_per_batch) == expected


def test_a_number_of_sentences_is_not_overruled_in_silence():
    with pytest.raises(UserError, match=r"batch_size is 20 and train\.tokens_per_batch is 4096"):
        composed("train=adamw", "train.batch_size=20")


CHANGES_NO_LOSS = {
    *("log_every", "checkpoint_every", "keep_checkpoints", "resume", "trackers", "compile", "cuda_graphs"),
    *("profile_steps", "process_timeout"),
}


def that_decide(*what: Decides, **settings) -> set[str]:
    args = TrainArgs(**settings)
    return {field.name for field in fields(TrainArgs) if args.decides(field.name) in what}


def test_every_setting_decides_the_losses_but_those_of_what_a_run_reports_and_how_long_it_is():
    assert that_decide(Decides.NOTHING) == CHANGES_NO_LOSS
    assert that_decide(Decides.LENGTH) == {"max_epochs", "max_steps", "max_minutes", "min_learning_rate"}


def test_the_rate_that_a_cosine_ends_at_decides_its_losses():
    assert that_decide(Decides.LENGTH, schedule="cosine") == {"max_epochs", "max_steps", "max_minutes"}
