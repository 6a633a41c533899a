"""Which run a checkpoint is of: one of the same settings, written by this version or the one before."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from smim import storage
from smim.errors import UserError
from smim.model.args import ModelArgs
from smim.model.autoencoder import SentenceArgs
from smim.objectives import OBJECTIVES, objective_class
from smim.training import checkpoint
from smim.training.args import TrainArgs
from smim.training.identity import check_identity, make_identity
from smim.training.run import Run
from tests.models import sentence_args

# What the version before stored of a model, of all settings.
MODEL = {
    **{"latent_dim": 8, "posterior": "gaussian", "min_log_variance": -10.0, "max_log_variance": 0.0},
    **{"prior": "standard_normal", "num_prior_components": 100, "encoder": "gru", "decoder": "transformer"},
    **{"hidden_dim": 16, "embedding_dim": 12, "embedding_dropout": 0.5, "tied_output": False, "word_dropout": 0.0},
    **{"encoder_word_dropout": 0.0, "pseudo_input_length": 10, "max_length": 1000, "num_layers": 1, "num_heads": 2},
    **{"feedforward_dim": None, "norm": "rms", "dropout": 0.1, "num_pooling_queries": 7, "num_memory_tokens": 8},
    **{"order_weight": 0.5},
}


def model_args(**settings: Any) -> ModelArgs:
    small = {"latent_dim": 8, "hidden_dim": 16, "embedding_dim": 12}
    return sentence_args(**{**small, "decoder": "transformer", "num_layers": 1, "num_heads": 2, **settings})


def settings_of(model=None, objective=None, **train) -> dict[str, Any]:
    args = TrainArgs(**{"batch_size": 8, "precision": "fp32", "trackers": [], **train})
    return {"model": model or model_args(), "objective": objective or objective_class("amim")(), "train": args}


def different(stored: dict[str, Any], folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """What a checkpoint of this identity has that a run of these settings has not."""
    path = folder / "step-00000001"
    checkpoint.save(
        folder,
        accelerator=Accelerator(cpu=True),
        step=1,
        tensors={"model": {}, "optimizer": {}},
        random=checkpoint.random_state(),
        meter={"names": [], "sums": None},
        state={
            **{"step": 1, "epoch": 0, "batch_in_epoch": 1, "validated_step": None, "log_lines": 0},
            **{"schedule": {"best": None}, "identity": stored},
        },
        keep=1,
    )
    checkpoint.verify(path)
    return check_identity(path, make_identity("input", "rows", settings), settings)


def test_it_holds_what_is_not_the_default() -> None:
    assert make_identity("input", "rows", settings_of(seed=3)) == {
        **{"corpus.input": "input", "corpus.train": "rows", "objective.name": "amim"},
        **{"model.latent_dim": 8, "model.encoder.hidden_dim": 16, "model.embedding_dim": 12},
        **{"model.decoder.name": "transformer", "model.decoder.hidden_dim": 16},
        **{"model.decoder.num_layers": 1, "model.decoder.num_heads": 2},
        **{"train.batch_size": 8, "train.precision": "fp32", "train.trackers": [], "train.seed": 3},
    }


def test_each_setting_that_differs_is_named_with_both_values(tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of(model_args(latent_dim=16), seed=3))
    objective = objective_class("vae")(free_bits=0.5)
    with pytest.raises(UserError) as refused:
        different(stored, tmp_path, settings_of(model_args(word_dropout=0.1), objective, patience=1, resume="auto"))
    [changes] = str(refused.value).split("belongs to another run (")[1:]
    assert set(changes.split(");")[0].split("; ")) == {
        "objective.name: amim there, vae here",
        "model.latent_dim: 16 there, 8 here",
        "model.word_dropout: 0.0 there, 0.1 here",
        "objective.free_bits: 0.0 there, 0.5 here",
        "train.seed: 3 there, 0 here",
        "train.patience: 2 there, 1 here",
    }


def test_another_kind_of_part_is_named_with_the_settings_that_only_it_has(tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of())
    with pytest.raises(UserError) as refused:
        different(stored, tmp_path, settings_of(model_args(encoder="transformer"), resume="auto"))
    assert "model.encoder.name: gru there, transformer here" in str(refused.value)
    assert "model.encoder.num_layers: unset there, 1 here" in str(refused.value)
    assert "hidden_dim" not in str(refused.value)


@pytest.mark.parametrize("one, other", [(8, 2), (2, 8)])
def test_a_part_is_compared_with_the_defaults_of_its_own_kind(one: int, other: int, tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of(model_args(num_heads=one)))
    with pytest.raises(UserError, match=rf"\(model\.decoder\.num_heads: {one} there, {other} here\)"):
        different(stored, tmp_path, settings_of(model_args(num_heads=other)))


@dataclass(frozen=True)
class _NewerArgs(SentenceArgs):
    """Settings of a later version."""

    invented: int = 3


def newer(**settings: Any) -> _NewerArgs:
    return _NewerArgs(**vars(model_args()), **settings)


def test_a_new_setting_with_a_default_leaves_the_checkpoints_of_before(tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of())
    assert not different(stored, tmp_path, settings_of(newer(), resume="auto"))
    with pytest.raises(UserError, match=r"another run \(model\.invented: 3 there, 4 here\)"):
        different(stored, tmp_path, settings_of(newer(invented=4), resume="auto"))


def test_a_setting_that_this_version_has_not_is_another_run(tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of(newer(invented=4)))
    with pytest.raises(UserError, match=r"another run \(model\.invented: 4 there, unset here\)"):
        different(stored, tmp_path, settings_of())


def test_what_a_run_reports_and_how_long_it_is_may_change_at_any_resume(tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of(max_epochs=3, log_every=7))
    assert different(stored, tmp_path, settings_of(max_steps=4, keep_checkpoints=5, resume="auto")) == {
        "train.max_epochs": "train.max_epochs: 3 there, 100 here",
        "train.max_steps": "train.max_steps: None there, 4 here",
    }


def test_a_cosine_may_have_another_length_and_no_other_end(tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of(schedule="cosine", max_epochs=3))
    longer = {"schedule": "cosine", "max_epochs": 5, "resume": "auto"}
    assert list(different(stored, tmp_path, settings_of(**longer))) == ["train.max_epochs"]
    with pytest.raises(UserError, match=r"another run \(train\.min_learning_rate: 1e-08 there, 1e-07 here\)"):
        different(stored, tmp_path, settings_of(**longer, min_learning_rate=1e-7))


@pytest.mark.parametrize("size", [{"batch_size": None}, {"batch_size": None, "tokens_per_batch": 70}], ids=str)
def test_a_run_that_named_its_batch_as_the_version_before_is_the_same_run(tmp_path: Path, size: dict) -> None:
    stored = make_identity("input", "rows", settings_of(**size))
    stored.pop("train.batch_size", None)
    if "tokens_per_batch" in size:
        stored["train.batch_size"] = None
    assert not different(stored, tmp_path, settings_of(**size, resume="auto"))
    with pytest.raises(UserError, match=r"train\.batch_size: (20|None) there, 8 here"):
        different(stored, tmp_path, settings_of(batch_size=8, resume="auto"))


def test_other_settings_of_the_training_are_taken_from_a_named_checkpoint_and_no_other_model(tmp_path: Path) -> None:
    stored = make_identity("input", "rows", settings_of(learning_rate=0.1))
    named = settings_of(learning_rate=0.01, resume=str(tmp_path))
    assert different(stored, tmp_path, named) == {"train.learning_rate": "train.learning_rate: 0.1 there, 0.01 here"}
    with pytest.raises(UserError, match=r"\(model\.latent_dim: 8 there, 9 here; train\.learning_rate"):
        different(stored, tmp_path, {**named, "model": model_args(latent_dim=9)})


def as_before(settings: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The identity as the version before stored it."""
    train = {f"train.{name}": value for name, value in asdict(settings["train"]).items() if "max" not in name}
    objective = asdict(settings["objective"])
    return {"model": model, "objective": objective, "tokenizer": "input", "train": "rows", **train}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_checkpoint_of_the_version_before_is_of_the_same_run(tmp_path: Path, name: str) -> None:
    train = {"batch_size": None, "tokens_per_batch": 70, "ema_decay": 0.9, "resume": "auto"}
    settings = settings_of(objective=objective_class(name)(), **train)
    assert not different(as_before(settings, MODEL), tmp_path, settings)
    with pytest.raises(UserError, match=r"another run \(model\.latent_dim: 9 there, 8 here\)"):
        different(as_before(settings, {**MODEL, "latent_dim": 9}), tmp_path, settings)


@pytest.mark.parametrize(
    "broken", [{"model": 3}, {"model": {"encoder": []}}, {"objective": "amim"}, {"train.seed": "x"}, {"train.new": 1}]
)
def test_an_identity_that_was_edited_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    settings = settings_of(resume="auto")
    with pytest.raises(UserError, match="was edited or damaged"):
        different({**as_before(settings, MODEL), **broken}, tmp_path, settings)


def test_a_run_with_a_new_setting_goes_on_from_a_checkpoint_of_before(corpus, tmp_path: Path) -> None:
    def run(model: ModelArgs, resume: str) -> Run:
        settings = settings_of(model, resume=resume)
        return Run(corpus, *settings.values(), accelerator=Accelerator(cpu=True), run_dir=tmp_path)

    begun = run(model_args(), "never")
    begun.step = 5
    begun.save()
    assert run(newer(), "auto").step == 5
    with pytest.raises(UserError, match="invented: 3 there, 4 here"):
        run(newer(invented=4), "auto")
    [saved] = checkpoint.list_checkpoints(tmp_path / "checkpoints")
    assert "model.invented" not in storage.read_json(saved / "state.json")["identity"]
