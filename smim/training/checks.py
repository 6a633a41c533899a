"""What can be refused before hours are spent: sentences, processes and checkpoints that do not fit the run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType

from smim.errors import UserError
from smim.model.args import ModelArgs
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.registry import ENCODERS, read_args
from smim.objectives import Critic, Objective
from smim.text.corpus import Corpus, Split
from smim.training import checkpoint
from smim.training.args import TrainArgs
from smim.vectors.corpus import VectorCorpus


def check_kind(corpus: Corpus | VectorCorpus, model_args: ModelArgs) -> None:
    """Refuses a model of sentences for vectors, and the other way round."""
    if model_args.unit != corpus.unit:
        fitting = " or ".join(f"model={name}" for name, kind in ENCODERS.items() if kind.unit == corpus.unit)
        raise UserError(
            f"{corpus.directory} holds {corpus.unit}s, which model={model_args.kind} does not take; use {fitting}"
        )


def check_processes(split: Split, args: TrainArgs, *, world_size: int) -> None:
    """Refuses more processes than there are sentences for them."""
    if world_size > len(split):
        raise UserError(f"{world_size} processes for {len(split)} sentences of split {split.name!r}; start fewer")
    if args.batch_size is not None and world_size > args.batch_size:
        raise UserError(
            f"{world_size} processes for batches of train.batch_size={args.batch_size} sentences; "
            f"start fewer, or raise it"
        )


def check_average(sharded: bool) -> None:
    """Refuses a moving average of weights that no process holds whole."""
    if sharded:
        raise UserError("train.ema_decay needs whole weights on each process; use DDP, or leave the average out")


def check_draws(objective: Objective, accelerator: Accelerator) -> None:
    """Refuses to draw sentences from weights that no process holds whole.

    The processes gather weights together, word by word, and would wait for each other for ever: sentences differ
    in length.
    """
    plugin = accelerator.state.deepspeed_plugin
    in_parts = accelerator.distributed_type == DistributedType.FSDP or (plugin and plugin.zero_stage == 3)
    if objective.draws_observations and in_parts:
        raise UserError(
            f"objective={objective.name} draws from the decoder in training, for which each process needs the whole "
            "weights; use DDP, or ZeRO 1 or 2"
        )


def check_critic(objective: Objective, critic: Critic | None, accelerator: Accelerator) -> None:
    """Refuses an objective with a critic where one engine steps all weights with one optimizer."""
    if critic and accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP):
        raise UserError(
            f"objective={objective.name} trains a critic with an optimizer of its own, for which DeepSpeed and FSDP "
            "have no place; use DDP"
        )


def check_compile(model: LatentVariableModel, mode: DistributedType) -> None:
    """Refuses to compile where there is nothing that gains by it, and where DeepSpeed's hooks would break the graph."""
    if not model.compile_parts():
        raise UserError("train.compile=true compiles transformers, and this model has none; leave it out")
    if mode == DistributedType.DEEPSPEED:
        raise UserError("train.compile=true is not supported with DeepSpeed; use DDP, or leave it out")


def identity(
    corpus: Corpus | VectorCorpus, model_args: ModelArgs, objective: Objective, args: TrainArgs
) -> dict[str, Any]:
    """What decides a run's losses: it goes on only with the same. How long it is, and what it reports, may change."""
    return {
        "model": asdict(model_args),
        "objective": asdict(objective),
        "tokenizer": corpus.input_hash,
        "train": corpus.hash_of("train"),
        **{f"train.{name}": value for name, value in args.identity().items()},
    }


def check_identity(path: Path, identity: dict[str, Any], *, training_may_change: bool) -> str:
    """What differs between a checkpoint's run and this one, in words; raises `UserError` where it may not.

    Model, objective and data may never differ; settings of the training where `training_may_change`.
    """
    saved = checkpoint.read_state(path)["identity"]
    saved["model"] = asdict(read_args(saved.get("model"), path))
    different = [key for key in identity if identity[key] != saved.get(key)]
    changes = "; ".join(f"{key}: {saved.get(key)} there, {identity[key]} here" for key in different)
    if training_may_change and all(key.startswith("train.") for key in different):
        return changes
    if different:
        raise UserError(f"checkpoint {path} belongs to another run ({changes}); use another run.dir")
    return ""
