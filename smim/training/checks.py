"""What can be refused before hours are spent: sentences, processes and checkpoints that do not fit the run."""

import math

import pyarrow.compute as pc
from accelerate import Accelerator
from accelerate.utils import DistributedType

from smim.errors import UserError
from smim.model.autoencoder import ModelArgs, SentenceAutoencoder
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.mlp import MLPArgs
from smim.objectives import Critic, Objective
from smim.text.corpus import Corpus, Split
from smim.training.args import TrainArgs
from smim.vectors.corpus import VectorCorpus, VectorSplit


def check_kind(corpus: Corpus | VectorCorpus, model_args: ModelArgs | MLPArgs) -> None:
    """Refuses a model of sentences for vectors, and the other way round."""
    of_vectors = isinstance(model_args, MLPArgs)
    if of_vectors != isinstance(corpus, VectorCorpus):
        raise UserError(
            f"{corpus.directory} holds sentences, which model=mlp does not take; use model=gru or model=transformer"
            if of_vectors
            else f"{corpus.directory} holds vectors; use model=mlp"
        )


def check_length(split: Split, model_args: ModelArgs | MLPArgs, *, cut: int | None) -> None:
    """Refuses sentences that the model cannot hold; `cut`: the length that they are cut to, if any."""
    if isinstance(model_args, MLPArgs):
        return
    extremes = pc.min_max(split.table.column("length")).as_py()
    longest = min(extremes["max"], cut or math.inf)
    if extremes["min"] < 1:
        raise UserError(f"split {split.name!r} holds a sentence of no tokens; prepare the corpus without it")
    if longest > model_args.max_length:
        raise UserError(
            f"split {split.name!r} has a sentence of {longest} tokens, model.max_length is "
            f"{model_args.max_length}; raise it"
            + (", or cut training sentences with train.max_length" if split.name == "train" else "")
        )


def check_range(split: Split, model_args: ModelArgs | MLPArgs) -> None:
    """Refuses numbers that a Bernoulli p(x|z) has no probability for."""
    if isinstance(split, VectorSplit) and isinstance(model_args, MLPArgs) and model_args.likelihood == "bernoulli":
        lowest, highest = split.vectors.min(), split.vectors.max()
        if lowest < 0 or highest > 1:
            raise UserError(
                f"split {split.name!r} holds numbers from {lowest:.3g} to {highest:.3g}, model.likelihood=bernoulli is "
                f"of numbers in [0, 1]; use model.likelihood=gaussian"
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
    if not isinstance(model, SentenceAutoencoder) or "transformer" not in (model.args.encoder, model.args.decoder):
        raise UserError("train.compile=true compiles transformers, and this model has none; leave it out")
    if mode == DistributedType.DEEPSPEED:
        raise UserError("train.compile=true is not supported with DeepSpeed; use DDP, or leave it out")
