"""All encoders, decoders and models by name, and functions that read their settings.

The settings of the two parts are in `encoder` and `decoder`. In the short form these hold only a name, and settings
beside them apply to both parts: `{"encoder": "gru", "decoder": "transformer", "hidden_dim": 256}`.
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
from smim.model.images import ConvDecoderArgs, ConvEncoderArgs, ImageArgs, ImageAutoencoder, PixelDecoderArgs
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.mlp import MLPArgs, MLPDecoderArgs, VectorArgs, VectorAutoencoder
from smim.model.superposition import SuperpositionDecoderArgs, SuperpositionEncoderArgs
from smim.model.transformer import TransformerDecoderArgs, TransformerEncoderArgs

ENCODERS: dict[str, type[PartArgs]] = {
    "gru": GRUEncoderArgs,
    "transformer": TransformerEncoderArgs,
    "superposition": SuperpositionEncoderArgs,
    "mlp": MLPArgs,
    "conv": ConvEncoderArgs,
}
DECODERS: dict[str, type[PartArgs]] = {
    "gru": GRUDecoderArgs,
    "transformer": TransformerDecoderArgs,
    "superposition": SuperpositionDecoderArgs,
    "mlp": MLPDecoderArgs,
    "conv": ConvDecoderArgs,
    "pixel": PixelDecoderArgs,
}
PARTS = {"encoder": ENCODERS, "decoder": DECODERS}
MODELS: dict[str, tuple[type[ModelArgs], Callable[[Any, int], LatentVariableModel]]] = {
    "sentence": (SentenceArgs, SentenceAutoencoder),
    "vector": (VectorArgs, VectorAutoencoder),
    "image": (ImageArgs, ImageAutoencoder),
}


def make_model(args: ModelArgs, *, input_size: int) -> LatentVariableModel:
    """Make a model with random weights. `input_size`: the vocabulary size, or the dimensions of a vector."""
    _, model = MODELS[args.family]
    return model(args, input_size)


def make_args(settings: Mapping[str, Any]) -> ModelArgs:
    """Make a model's settings from the `model` section of a configuration, or a similar dictionary; see the short form.

    `init` is ignored, because it only says where weights come from. Raises `UserError` that names each unknown or wrong
    setting as `model.NAME`.
    """
    from omegaconf import OmegaConf  # here, because only the extra `pipeline` installs it

    from smim import config

    given = OmegaConf.create(settings) if isinstance(settings, dict) else settings
    values: Any = OmegaConf.to_container(given, resolve=True)
    values.pop("init", None)
    args, kinds, own, rest = _apart(values, short=True)
    made = {part: config.make(kind, OmegaConf.create(own[part]), f"model.{part}") for part, kind in kinds.items()}
    return config.make(args, OmegaConf.create(rest), "model", **made)


def read_args(stored: Any, path: Path) -> ModelArgs:
    """Make a model's settings from those stored in the file `path`: nested as by `asdict`, or flat in older files.

    Raises `UserError` that names the file and each wrong setting.
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
    """Split settings into the model's class, the parts' classes, the parts' settings, and the model's own settings.

    `short`: a part also takes the settings beside it that it knows, unless it has its own value.
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
    if kinds["encoder"].family != kinds["decoder"].family:
        raise UserError("; ".join(f"model.{part}={names[part]} is for {kinds[part].family}s" for part in kinds))
    args, _ = MODELS[kinds["encoder"].family]
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
