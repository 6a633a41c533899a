"""Model directories: `config.json`, `model.safetensors`, a card and, for sentences, `tokenizer/`. No pickle.

Packaged models are such directories in `smim/pretrained/`. Users refer to them by name instead of path.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from smim import __version__, schema, storage
from smim.errors import UserError
from smim.model.args import ModelArgs
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.registry import make_model, read_args
from smim.model.use import Use, overlaid, suited
from smim.model.weights import load_weights
from smim.text.tokenizer import Tokenizer

FORMAT = 3
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_LOADERS = {"sentence": "smim.load", "vector": "smim.vector_model.load"}
PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"


@dataclass(frozen=True)
class _Config:
    """The content of `config.json`. `input_size`: the vocabulary size, or the dimensions of a vector."""

    format: int
    smim_version: str
    model: dict[str, Any]
    input_size: int
    tokenizer_hash: str | None
    num_parameters: int
    weights_sha256: str
    training: dict[str, Any]
    use: Use | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.training.get("objective"), str):
            raise UserError("training.objective is missing or not text")
        if not isinstance(self.training.get("deterministic", False), bool):
            raise UserError("training.deterministic is neither true nor false")


def find(model: Path | str) -> Path:
    """Find the directory of a model by its path, or by the name of a packaged model.

    A path is returned unchanged, without a check. A directory has priority over a packaged model of that name.
    """
    path = Path(model)
    packaged = len(path.parts) == 1 and (PRETRAINED / path / CONFIG).is_file() and not path.exists()
    return PRETRAINED / path if packaged else path


def save_model(
    directory: Path | str,
    model: LatentVariableModel,
    tokenizer: Tokenizer | None,
    *,
    training: dict[str, Any],
    use: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a model directory, which is all that other machines need. It replaces an older one in one step.

    `tokenizer`: None for a model of vectors. `training` describes the training (objective, corpus, step, losses) for
    the card. `use`: nested dictionaries of `Use` that replace the model's defaults. `half`: store weights in fp16, in
    half the space; they are loaded as fp32.
    """
    weights = model.state_dict()
    if half:
        weights = {name: tensor.half() for name, tensor in weights.items()}
    with storage.new_directory(directory) as partial:
        save_file(weights, partial / WEIGHTS)
        if tokenizer:
            tokenizer.save(partial / "tokenizer")
        config = {
            "format": FORMAT,
            "smim_version": __version__,
            "model": asdict(model.args),
            "input_size": model.input_size,
            "tokenizer_hash": tokenizer.hash if tokenizer else None,
            "num_parameters": model.num_parameters,
            "weights_sha256": storage.sha256(partial / WEIGHTS),
            "training": training,
        }
        if model.unit == "sentence":
            suits = suited(training, has_meaning_part=model.meaning_dim < model.args.latent_dim)
            config["use"] = asdict(overlaid(suits, use or {}))
        storage.write_json(partial / CONFIG, config)
        storage.write_text(partial / "README.md", _card(model, config))


def load_model(directory: Path | str, unit: str = "sentence") -> tuple[Any, Any, dict[str, Any]]:
    """Load a model on the CPU in evaluation mode. Return it with its tokenizer (None for vectors) and `config.json`.

    `directory` may be the name of a packaged model (see `find`). `unit`: the expected kind, "sentence" (a
    `SentenceAutoencoder`) or "vector" (a `VectorLatentVariableModel`). Raises `UserError` if the model is of the other
    kind, or if files are missing, damaged, or do not belong together.
    """
    directory = find(directory)
    config = read_config(directory)
    checked = schema.make(_Config, _of_this_format(config), directory / CONFIG)
    args = read_args(checked.model, directory / CONFIG)
    if args.unit != unit:
        raise UserError(f"{directory} is a model of {args.unit}s; load it with {_LOADERS[args.unit]}")
    tokenizer = None
    if unit == "sentence":
        tokenizer = Tokenizer.load(storage.own_path(directory, "tokenizer"))
        if (tokenizer.hash, tokenizer.vocabulary_size) != (checked.tokenizer_hash, checked.input_size):
            raise UserError(
                f"{directory}/tokenizer is not the one that this model was trained with; copy the whole model again"
            )
    parts = (args, args.encoder, args.decoder)
    sizes = [(name, size) for part in parts for name, size in vars(part).items() if isinstance(size, int)]
    model = load_weights(
        storage.own_file(directory, WEIGHTS),
        lambda: make_model(args, input_size=checked.input_size),
        sha256=checked.weights_sha256,
        layers=max([1, *(size for name, size in sizes if name == "num_layers")]),
        widths=(checked.input_size, *(size for name, size in sizes if name.endswith(("_dim", "channels")))),
    )
    return model, tokenizer, config


def read_settings(directory: Path | str) -> ModelArgs:
    """Read the settings of the model in a directory. Raises `UserError` like `read_config`, and for wrong settings."""
    directory = find(directory)
    return read_args(read_config(directory).get("model"), directory / CONFIG)


def read_config(directory: Path) -> dict[str, Any]:
    """Read `config.json` of a model directory. Raises `UserError` if it is missing or has another format."""
    directory = find(directory)
    if not (directory / CONFIG).is_file():
        hint = f"; did you mean {directory / 'model'}?" if (directory / "model" / CONFIG).is_file() else ""
        names = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG}")))
        hint = hint or (f"; models that come with the package: {names}" if names else "")
        raise UserError(f"{directory} is not a model directory (it has no {CONFIG}){hint}")
    config = storage.read_json(storage.own_file(directory, CONFIG))
    if config.get("format") not in (2, FORMAT):
        raise UserError(
            f"{directory} has model format {config.get('format')}, but this version reads 2 and {FORMAT}; "
            "train it again"
        )
    return config


def hash_of(directory: Path | str) -> str:
    """The SHA-256 that identifies a model: that of `config.json`, with the hashes of the other files, without `use`."""
    config = read_config(find(directory))
    config.pop("use", None)
    return storage.sha256_of_json(config)


def use_of(config: dict[str, Any]) -> Use:
    """The defaults for using a model of sentences. Models of earlier versions do not store them."""
    if config.get("use") is None:
        return suited({"corpus": config["training"].get("corpus")})
    return schema.make(Use, config["use"], Path(CONFIG), at="use")


def is_deterministic(config: dict[str, Any]) -> bool:
    """Whether the code is the mean because the variance was not trained. Older models do not store this."""
    training = config["training"]
    return training.get("deterministic", training["objective"] == "autoencoder")


def _of_this_format(config: dict[str, Any]) -> dict[str, Any]:
    """Convert a `config.json` of format 2 to this format, except the model's settings: `read_args` reads both forms."""
    if config["format"] == FORMAT:
        return config
    rest = {"tokenizer_hash": None, **config}
    of_vectors = rest.pop("kind", "sentences") == "vectors"
    return {"input_size": rest.pop("dimension" if of_vectors else "vocabulary_size", None), **rest}


def _card(model: LatentVariableModel, config: dict[str, Any]) -> str:
    vectors = model.unit == "vector"
    size = {"dimensions of a vector": model.input_size} if vectors else {"vocabulary": f"{model.input_size:,}"}
    settings = {name: value for name, value in schema.changed(model.args).items() if "name" not in name}
    sections = {
        "Architecture": {"kind": model.args.kind, **settings, "parameters": f"{config['num_parameters']:,}", **size},
        "Defaults of use": {} if vectors else schema.changed(use_of(config)),
        "Training": config["training"],
    }
    blocks = [
        "# A latent variable model of vectors" if vectors else "# A sentenceMIM model",
        f"This model encodes a {model.unit} to one code of {model.args.latent_dim} dimensions, and decodes it.",
        f"```python\n{_VECTOR_EXAMPLE if vectors else _EXAMPLE}\n```",
        "Settings that are not listed here have their default values.",
        *(f"## {title}\n\n{_as_table(values)}" for title, values in sections.items() if values),
    ]
    return "\n\n".join(blocks) + "\n"


def _as_table(values: Mapping[str, Any]) -> str:
    """A Markdown table of settings. Nested ones become rows of their own, `outer.inner`."""
    rows: dict[str, Any] = {}
    for name, value in values.items():
        rows |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    cells = {name: " ".join(str(value).split()).replace("|", "\\|") for name, value in rows.items()}
    lines = [f"| {name} | {cell} |" for name, cell in cells.items()]
    return "\n".join(["| setting | value |", "| --- | --- |", *lines])


_EXAMPLE = """import smim

model = smim.load("PATH/OF/THIS/DIRECTORY")
codes = model.encode(["a sentence"])
print(model.decode(codes))"""
_VECTOR_EXAMPLE = """from smim import vector_model

model = vector_model.load("PATH/OF/THIS/DIRECTORY")
codes = model.encode(vectors)  # fp32 [N, X]
model.decode(codes)"""
