"""A model on disk: `config.json`, `model.safetensors`, a card and, of sentences, `tokenizer/`. No pickle.

Models that come with the package are such directories in `smim/pretrained/`, and have names instead of paths.
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
    """What `config.json` says. `input_size`: words of the vocabulary, or dimensions of a vector."""

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
            raise UserError("training.objective is not there")
        if not isinstance(self.training.get("deterministic", False), bool):
            raise UserError("training.deterministic is neither true nor false")


def find(model: Path | str) -> Path:
    """The directory of a model that is given by its path, or by the name of one that comes with the package.

    A path is returned as it is, whatever is there; a directory of the same name as a packaged model goes before it.
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
    """Writes all that is needed to load the model elsewhere; replaces what was there in one step.

    `tokenizer`: None for a model of vectors. `training` describes how the model came about (objective, corpus,
    step, losses) for its card. `use`: what is to be other than suits the model, as dictionaries of `Use`. `half`:
    weights in fp16, half as large; they are fp32 again when loaded.
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
    """Loads a model on the CPU in evaluation mode, with its tokenizer (None of vectors) and `config.json`.

    `directory` may be the name of a packaged model, as in `find`. `unit`: what it is to be a model of, "sentence" (a
    `SentenceAutoencoder`) or "vector" (a `VectorAutoencoder`). Raises `UserError` where it is one of others, and where
    something is missing, damaged, or does not belong together.
    """
    directory = find(directory)
    config = read_config(directory)
    checked = schema.make(_Config, _of_this_format(config), directory / CONFIG)
    args = read_args(checked.model, directory / CONFIG)
    if args.unit != unit:
        raise UserError(f"{directory} is a model of {args.unit}s; {_LOADERS[args.unit]} loads it")
    tokenizer = None
    if unit == "sentence":
        tokenizer = Tokenizer.load(storage.own_path(directory, "tokenizer"))
        if (tokenizer.hash, tokenizer.vocabulary_size) != (checked.tokenizer_hash, checked.input_size):
            raise UserError(f"{directory}: tokenizer/ is not the one this model was trained with")
    parts = (args, args.encoder, args.decoder)
    sizes = [(name, size) for part in parts for name, size in vars(part).items() if isinstance(size, int)]
    model = load_weights(
        storage.own_file(directory, WEIGHTS),
        lambda: make_model(args, input_size=checked.input_size),
        sha256=checked.weights_sha256,
        layers=max([1, *(size for name, size in sizes if name == "num_layers")]),
        widths=(checked.input_size, *(size for name, size in sizes if name.endswith("_dim"))),
    )
    return model, tokenizer, config


def read_settings(directory: Path | str) -> ModelArgs:
    """The settings of the model in a directory; raises `UserError` as `read_config`, and where they do not fit."""
    directory = find(directory)
    return read_args(read_config(directory).get("model"), directory / CONFIG)


def read_config(directory: Path) -> dict[str, Any]:
    """A model directory's `config.json`; raises `UserError` where there is none, or of another format."""
    directory = find(directory)
    if not (directory / CONFIG).is_file():
        hint = f"; did you mean {directory / 'model'}?" if (directory / "model" / CONFIG).is_file() else ""
        names = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG}")))
        hint = hint or (f"; of models that come with the package there is {names}" if names else "")
        raise UserError(f"{directory} is not a model directory (no {CONFIG} in it){hint}")
    config = storage.read_json(storage.own_file(directory, CONFIG))
    if config.get("format") not in (2, FORMAT):
        raise UserError(
            f"{directory} has model format {config.get('format')}, this version reads 2 and {FORMAT}; train it again"
        )
    return config


def hash_of(directory: Path | str) -> str:
    """The SHA-256 that names a model: of its `config.json`, which has those of weights and tokenizer, without `use`."""
    config = read_config(find(directory))
    config.pop("use", None)
    return storage.sha256_of_json(config)


def use_of(config: dict[str, Any]) -> Use:
    """How a model of sentences is used by default; an older one does not say so itself."""
    if config.get("use") is None:
        return suited({"corpus": config["training"].get("corpus")})
    return schema.make(Use, config["use"], Path(CONFIG), at="use")


def is_deterministic(config: dict[str, Any]) -> bool:
    """Whether a model's code is the mean: the variance was never trained. Older ones do not say so themselves."""
    training = config["training"]
    return training.get("deterministic", training["objective"] == "autoencoder")


def _of_this_format(config: dict[str, Any]) -> dict[str, Any]:
    """What a `config.json` of format 2 says, as one of this: `read_args` reads the model's settings of both."""
    if config["format"] == FORMAT:
        return config
    rest = {"tokenizer_hash": None, **config}
    of_vectors = rest.pop("kind", "sentences") == "vectors"
    return {"input_size": rest.pop("dimension" if of_vectors else "vocabulary_size", None), **rest}


def _card(model: LatentVariableModel, config: dict[str, Any]) -> str:
    training = "\n".join(f"- {name}: {value}" for name, value in config["training"].items())
    settings = "".join(f", {name} {value}" for name, value in schema.changed(model.args).items() if "name" not in name)
    vectors = model.unit == "vector"
    use = {} if vectors else schema.changed(use_of(config))
    used = f"\n- used with {', '.join(f'{name} {value}' for name, value in use.items())}" if use else ""
    size = f"dimensions of a vector: {model.input_size}" if vectors else f"vocabulary: {model.input_size:,}"
    return f"""# {"A latent variable model of vectors" if vectors else "A sentenceMIM model"}

Encodes a {model.unit} to one code of {model.args.latent_dim} dimensions, and decodes it.

- architecture: {model.args.kind}{settings}
- parameters: {config["num_parameters"]:,}
- {size}{used}
{training}

```python
{_VECTOR_EXAMPLE if vectors else _EXAMPLE}
```
"""


_EXAMPLE = """import smim

model = smim.load("PATH/OF/THIS/DIRECTORY")
codes = model.encode(["a sentence"])
print(model.decode(codes))"""
_VECTOR_EXAMPLE = """from smim import vector_model

model = vector_model.load("PATH/OF/THIS/DIRECTORY")
codes = model.encode(vectors)  # fp32 [N, X]
model.decode(codes)"""
