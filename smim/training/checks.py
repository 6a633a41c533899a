"""Checks before a run starts, so that wrong settings fail at once and not after hours."""

from accelerate import Accelerator
from accelerate.utils import DistributedType

from smim.errors import UserError, refuse
from smim.model.args import ModelArgs
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives import Critic, Objective
from smim.text.corpus import Corpus, Split
from smim.training.args import TrainArgs
from smim.vectors.corpus import VectorCorpus

# The configurations in configs/model/ with a model of each unit.
_MODELS = {
    "sentence": ["gru", "transformer", "superposition"],
    "vector": ["mlp", "conv_vae", "conv_hvae", "pixel_hvae"],
}


def check_kind(corpus: Corpus | VectorCorpus, model_args: ModelArgs) -> None:
    """Raise `UserError` if a model of sentences gets vectors, or a model of vectors gets sentences."""
    if model_args.unit != corpus.unit:
        fitting = " or ".join(f"model={name}" for name in _MODELS[corpus.unit])
        raise UserError(
            f"{corpus.directory} holds {corpus.unit}s, which model={model_args.kind} does not support; use {fitting}"
        )


def check_additions(corpus: Corpus | VectorCorpus, objective: Objective, split: Split) -> None:
    """Raise `UserError` if the training sentences lack the data for an addition to the objective."""
    batch = split.batch([0])
    lacking = {name: lack for name, part in objective.additions.items() if (lack := part.lacks(batch))}
    if corpus.unit != "sentence":
        refuse(
            f"objective.{name} is for sentences, but {corpus.directory} holds {corpus.unit}s; leave it out"
            for name in lacking
        )
    refuse(
        f"objective.{name}.weight={objective.additions[name].weight} needs {lack}; {corpus.directory} has none"
        for name, lack in lacking.items()
    )


def check_meaning(objective: Objective, *, has_initial: bool) -> None:
    """Raise `UserError` if `hold` has no trained meaning part, or `epochs_alone` is given with a trained model."""
    view = objective.second_view
    if view.hold and not (view.epochs_alone or has_initial):
        raise UserError(
            "objective.second_view.hold=true needs a trained meaning part; "
            "set objective.second_view.epochs_alone above 0, or give a trained model.init"
        )
    if view.epochs_alone and has_initial:
        raise UserError(
            f"objective.second_view.epochs_alone={view.epochs_alone} is for models with random initial "
            "weights, but model.init is trained; leave one of them out"
        )


def check_random_sentences(corpus: Corpus | VectorCorpus, args: TrainArgs, split: Split) -> None:
    """Raise `UserError` for random words if training examples are vectors or pairs of sentences."""
    if args.random_sentences and (corpus.unit != "sentence" or split.batch([0]).pair is not None):
        raise UserError(
            f"train.random_sentences is {args.random_sentences:g}, but it must be 0 for vectors, and with "
            "corpus.pair_column, because random words have no second sentence"
        )


def check_launch(
    split: Split,
    args: TrainArgs,
    model: LatentVariableModel,
    objective: Objective,
    critic: Critic | None,
    accelerator: Accelerator,
) -> None:
    """Raise `UserError` if the run does not support the number of processes, the sharding or the compilation.

    With sharded weights, all processes gather them for each word. Sampled sentences differ in length, so processes
    would wait for each other forever. DeepSpeed and FSDP update all weights with one optimizer. DeepSpeed's hooks break
    compiled graphs.
    """
    mode, world_size = accelerator.distributed_type, accelerator.num_processes
    plugin = accelerator.state.deepspeed_plugin
    in_parts = mode == DistributedType.FSDP or bool(plugin and plugin.zero_stage == 3)
    one_optimizer = mode in (DistributedType.DEEPSPEED, DistributedType.FSDP)
    problems = {
        f"there are {world_size} processes, but split {split.name!r} has only {len(split)} sentences; start fewer": (
            world_size > len(split)
        ),
        f"there are {world_size} processes, but train.batch_size={args.batch_size}; start fewer, or increase it": (
            world_size > (args.batch_size or world_size)
        ),
        f"objective={objective.name} draws from the decoder in training, so each process needs the whole "
        "weights; use DDP, or ZeRO 1 or 2": objective.draws_observations and in_parts,
        f"objective={objective.name} trains a critic or a head with its own optimizer, which DeepSpeed and "
        "FSDP do not support; use DDP": critic is not None and one_optimizer,
        "objective.aggressive_steps trains the encoder alone, which DeepSpeed and FSDP do not support; use DDP": (
            bool(objective.most_encoder_steps) and one_optimizer
        ),
        "objective.aggressive_steps draws further batches, which train.overfit_batches does not allow; "
        "leave one of them out": bool(objective.most_encoder_steps and args.overfit_batches),
        "train.compile=true compiles transformers, but this model has none; leave it out": (
            args.compile and not model.compile_parts()
        ),
        "train.compile=true is not supported with DeepSpeed; use DDP, or leave it out": (
            args.compile and mode == DistributedType.DEEPSPEED
        ),
    }
    refuse(problem for problem, is_there in problems.items() if is_there)
