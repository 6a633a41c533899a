"""What can be refused before hours are spent: sentences, processes and checkpoints that do not fit the run."""

from accelerate import Accelerator
from accelerate.utils import DistributedType

from smim.errors import UserError
from smim.model.args import ModelArgs
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.registry import ENCODERS
from smim.objectives import Critic, Objective
from smim.text.corpus import Corpus, Split
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
