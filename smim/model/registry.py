"""Encoders, decoders and models by name, and their settings from a configuration or a file.

Settings of encoder and decoder stand in `encoder` and `decoder`. The short form has a part's name in its place, and
beside it what is said of either part: `{"encoder": "gru", "decoder": "transformer", "hidden_dim": 256}`.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from smim import schema
from smim.errors import UserError, nearest
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

    Raises `UserError` that names what is unknown or wrong, as `model.NAME`.
    """
    from omegaconf import OmegaConf  # with the pipeline only

    from smim import config

    given = OmegaConf.create(settings) if isinstance(settings, dict) else settings
    args, parts, rest = _told_apart(OmegaConf.to_container(given, resolve=True), short=True)
    made = {part: config.make(kind, OmegaConf.create(own), f"model.{part}") for part, (kind, own) in parts.items()}
    return config.make(args, OmegaConf.create(rest), "model", **made)


def read_args(stored: Any, path: Path) -> ModelArgs:
    """The settings of a model as they are stored in `path`: as `asdict` gives them, or flat, as they once were.

    Raises `UserError` that names the file, and what does not fit.
    """
    stored = schema.make(dict[str, Any], stored, path, at="model")
    try:
        args, parts, rest = _told_apart(stored, short=isinstance(stored.get("encoder"), str))
    except UserError as error:
        raise UserError(f"{path}: {error}; it was edited or damaged") from None
    made = {part: schema.make(kind, own, path, at=f"model.{part}") for part, (kind, own) in parts.items()}
    return schema.make(args, {**rest, **made}, path, at="model")


def _told_apart(
    settings: Any, *, short: bool
) -> tuple[type[ModelArgs], dict[str, tuple[type[PartArgs], dict[str, Any]]], dict[str, Any]]:
    """The class of a model's settings, that of each part with its own, and what is left for the model.

    `short`: what stands beside a part is said of it too, where the part has such a setting and does not say it itself.
    """
    parts, problems = {}, []
    for part, kinds in PARTS.items():
        own = settings.get(part, "gru")
        own = {"name": own} if not isinstance(own, dict) else own
        name = own.get("name")
        if isinstance(name, str) and name in kinds:
            parts[part] = (kinds[name], own)
        else:
            problems.append(f"model.{part} is {name!r}; {nearest(str(name), list(kinds))}")
    if not problems and len({kind.unit for kind, _ in parts.values()}) > 1:
        problems = [f"model.{part}={own['name']} is of {kind.unit}s" for part, (kind, own) in parts.items()]
    if problems:
        raise UserError("; ".join(problems))
    args, _ = MODELS[parts["encoder"][0].unit]
    of_model = _names(args)
    rest = {name: value for name, value in settings.items() if name not in PARTS}
    if short:
        beside = {name: rest.pop(name) for name in list(rest) if name not in of_model}
        known = set().union(*(_names(kind) for kinds in PARTS.values() for kind in kinds.values()))
        if unknown := [name for name in beside if name not in known]:
            hints = (f"unknown key model.{name}; {nearest(str(name), sorted(of_model | known))}" for name in unknown)
            raise UserError("; ".join(hints))
        parts = {
            part: (kind, {name: value for name, value in beside.items() if name in _names(kind)} | own)
            for part, (kind, own) in parts.items()
        }
    return args, parts, rest


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in fields(kind)} - {"name"}
