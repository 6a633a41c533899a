"""Encoders, decoders and models by name, and their settings from a configuration or a file.

Settings of encoder and decoder stand in `encoder` and `decoder`. The short form has a part's name in its place, and
beside it what is said of either part: `{"encoder": "gru", "decoder": "transformer", "hidden_dim": 256}`.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from smim import schema
from smim.errors import UserError, nearest, refuse
from smim.model.args import ModelArgs, PartArgs
from smim.model.autoencoder import SentenceArgs, SentenceAutoencoder
from smim.model.gru import GRUDecoderArgs, GRUEncoderArgs
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.mlp import MLPArgs, MLPDecoderArgs, VectorArgs, VectorAutoencoder
from smim.model.superposition import SuperpositionDecoderArgs, SuperpositionEncoderArgs
from smim.model.transformer import TransformerDecoderArgs, TransformerEncoderArgs

ENCODERS: dict[str, type[PartArgs]] = {
    "gru": GRUEncoderArgs,
    "transformer": TransformerEncoderArgs,
    "superposition": SuperpositionEncoderArgs,
    "mlp": MLPArgs,
}
DECODERS: dict[str, type[PartArgs]] = {
    "gru": GRUDecoderArgs,
    "transformer": TransformerDecoderArgs,
    "superposition": SuperpositionDecoderArgs,
    "mlp": MLPDecoderArgs,
}
PARTS = {"encoder": ENCODERS, "decoder": DECODERS}
MODELS: dict[str, tuple[type[ModelArgs], Callable[[Any, int], LatentVariableModel]]] = {
    "sentence": (SentenceArgs, SentenceAutoencoder),
    "vector": (VectorArgs, VectorAutoencoder),
}


def make_model(args: ModelArgs, *, input_size: int) -> LatentVariableModel:
    """A model with random weights. `input_size`: words of the vocabulary, or dimensions of a vector."""
    _, model = MODELS[args.unit]
    return model(args, input_size)


def make_args(settings: Mapping[str, Any]) -> ModelArgs:
    """The settings of a model from a section of the configuration, or from a dictionary like it, which may be short.

    `init`, where weights come from, is none of them. Raises `UserError` that names what is unknown or wrong, as
    `model.NAME`.
    """
    from omegaconf import OmegaConf  # with the pipeline only

    from smim import config

    given = OmegaConf.create(settings) if isinstance(settings, dict) else settings
    values: Any = OmegaConf.to_container(given, resolve=True)
    values.pop("init", None)
    args, kinds, own, rest = _apart(values, short=True)
    made = {part: config.make(kind, OmegaConf.create(own[part]), f"model.{part}") for part, kind in kinds.items()}
    return config.make(args, OmegaConf.create(rest), "model", **made)


def read_args(stored: Any, path: Path) -> ModelArgs:
    """The settings of a model as they are stored in `path`: as `asdict` gives them, or flat, as they once were.

    Raises `UserError` that names the file, and what does not fit.
    """
    stored = schema.make(dict[str, Any], stored, path, at="model")
    try:
        args, kinds, own, rest = _apart(stored, short=isinstance(stored.get("encoder"), str))
    except UserError as error:
        raise UserError(f"{path}: {error}; it was edited or damaged") from None
    made = {part: schema.make(kind, own[part], path, at=f"model.{part}") for part, kind in kinds.items()}
    return schema.make(args, {**rest, **made}, path, at="model")


def _apart(
    settings: Any, *, short: bool
) -> tuple[type[ModelArgs], dict[str, type[PartArgs]], dict[str, dict[str, Any]], dict[str, Any]]:
    """The classes of a model's settings and of its parts', the parts' settings, and what is left for the model.

    `short`: a part has those beside it too that it knows and says none of its own.
    """
    rest = dict(settings)
    given = {part: rest.pop(part, "gru") for part in PARTS}
    own = {part: each if isinstance(each, dict) else {"name": each} for part, each in given.items()}
    names = {part: str(each.get("name")) for part, each in own.items()}
    refuse(
        f"model.{part} is {names[part]!r}; {nearest(names[part], list(kinds))}"
        for part, kinds in PARTS.items()
        if names[part] not in kinds
    )
    kinds = {part: PARTS[part][name] for part, name in names.items()}
    if kinds["encoder"].unit != kinds["decoder"].unit:
        raise UserError("; ".join(f"model.{part}={names[part]} is of {kinds[part].unit}s" for part in kinds))
    args, _ = MODELS[kinds["encoder"].unit]
    if not short:
        return args, kinds, own, rest
    of_model, of_parts = _names(args), set().union(*map(_names, [*ENCODERS.values(), *DECODERS.values()]))
    known = of_model | of_parts
    refuse(f"unknown key model.{each}; {nearest(str(each), sorted(known))}" for each in rest if each not in known)
    for part, kind in kinds.items():
        beside = {name: value for name, value in rest.items() if name in _names(kind) - of_model}
        own[part] = beside | {name: value for name, value in own[part].items() if value is not None}
    return args, kinds, own, {name: value for name, value in rest.items() if name in of_model}


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in fields(kind)} - {"name"}
