"""A model on disk: `config.json`, `model.safetensors`, a card and, of sentences, `tokenizer/`. No pickle.

Models that come with the package are such directories in `smim/pretrained/`, and have names instead of paths.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from smim import __version__, schema, storage
from smim.errors import UserError
from smim.model.autoencoder import ModelArgs, SentenceAutoencoder
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.mlp import MLPArgs, VectorAutoencoder
from smim.model.weights import load_weights
from smim.text.tokenizer import Tokenizer

FORMAT = 2
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"


@dataclass(frozen=True)
class _Config:
    """What `config.json` says; the model's settings and what is its input are those of `_SentenceConfig` and so on."""

    format: int
    smim_version: str
    num_parameters: int
    weights_sha256: str
    training: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.training.get("objective"), str):
            raise UserError("training.objective is not there")
        if not isinstance(self.training.get("deterministic", False), bool):
            raise UserError("training.deterministic is neither true nor false")


@dataclass(frozen=True)
class _SentenceConfig(_Config):
    model: ModelArgs
    vocabulary_size: int
    tokenizer_hash: str


@dataclass(frozen=True)
class _VectorConfig(_Config):
    model: MLPArgs
    kind: str
    dimension: int


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
    half: bool = False,
) -> None:
    """Writes all that is needed to load the model elsewhere; replaces what stood there in one step.

    `tokenizer`: None for a model of vectors. `training` describes how the model came about (objective, corpus,
    step, losses) for its card. `half`: weights in fp16, half as large; they are fp32 again when loaded.
    """
    weights = model.state_dict()
    if half:
        weights = {name: tensor.half() for name, tensor in weights.items()}
    with storage.new_directory(directory) as partial:
        save_file(weights, partial / WEIGHTS)
        if tokenizer is None:
            described: dict[str, Any] = {"kind": "vectors", "dimension": model.input_size}
        else:
            tokenizer.save(partial / "tokenizer")
            described = {"vocabulary_size": model.input_size, "tokenizer_hash": tokenizer.hash}
        config = {
            "format": FORMAT,
            "smim_version": __version__,
            "model": asdict(model.args),
            **described,
            "num_parameters": model.num_parameters,
            "weights_sha256": storage.sha256(partial / WEIGHTS),
            "training": training,
        }
        storage.write_json(partial / CONFIG, config)
        storage.write_text(partial / "README.md", _card(config))


def load_model(directory: Path | str) -> tuple[SentenceAutoencoder, Tokenizer, dict[str, Any]]:
    """Loads a model of sentences on the CPU in evaluation mode, with its tokenizer and `config.json`.

    `directory` may be the name of a packaged model, as in `find`. Raises `UserError` where something is missing,
    damaged, or does not belong together.
    """
    directory = find(directory)
    config = read_config(directory)
    if config.get("kind") == "vectors":
        raise UserError(f"{directory} is a model of vectors; smim.vector_model.load loads it")
    checked = schema.make(_SentenceConfig, config, directory / CONFIG)
    tokenizer = Tokenizer.load(storage.own_path(directory, "tokenizer"))
    if (tokenizer.hash, tokenizer.vocabulary_size) != (checked.tokenizer_hash, checked.vocabulary_size):
        raise UserError(f"{directory}: tokenizer/ is not the one this model was trained with")
    args = checked.model
    model = load_weights(
        storage.own_file(directory, WEIGHTS),
        lambda: SentenceAutoencoder(args, vocabulary_size=checked.vocabulary_size),
        sha256=checked.weights_sha256,
        layers=args.num_layers,
        widths=(args.latent_dim, args.hidden_dim, args.embedding_dim, checked.vocabulary_size),
    )
    return model, tokenizer, config


def load_vector_model(directory: Path | str) -> tuple[VectorAutoencoder, dict[str, Any]]:
    """Loads a model of vectors on the CPU in evaluation mode, and its `config.json`; raises as `load_model`."""
    directory = Path(directory)
    config = read_config(directory)
    if config.get("kind") != "vectors":
        raise UserError(f"{directory} is a model of sentences; smim.load loads it")
    checked = schema.make(_VectorConfig, config, directory / CONFIG)
    args = checked.model
    model = load_weights(
        storage.own_file(directory, WEIGHTS),
        lambda: VectorAutoencoder(args, dimension=checked.dimension),
        sha256=checked.weights_sha256,
        layers=args.num_layers,
        widths=(args.latent_dim, args.hidden_dim, checked.dimension),
    )
    return model, config


def read_config(directory: Path) -> dict[str, Any]:
    """A model directory's `config.json`; raises `UserError` where there is none, or of another format."""
    directory = find(directory)
    if not (directory / CONFIG).is_file():
        hint = f"; did you mean {directory / 'model'}?" if (directory / "model" / CONFIG).is_file() else ""
        names = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG}")))
        hint = hint or (f"; of models that come with the package there is {names}" if names else "")
        raise UserError(f"{directory} is not a model directory (no {CONFIG} in it){hint}")
    config = storage.read_json(storage.own_file(directory, CONFIG))
    if config.get("format") != FORMAT:
        raise UserError(
            f"{directory} has model format {config.get('format')}, this version reads {FORMAT}; train it again"
        )
    return config


def is_deterministic(config: dict[str, Any]) -> bool:
    """Whether a model's code is the mean: the variance was never trained. Older ones do not say so themselves."""
    training = config["training"]
    return training.get("deterministic", training["objective"] == "autoencoder")


def _card(config: dict[str, Any]) -> str:
    training = "\n".join(f"- {name}: {value}" for name, value in config["training"].items())
    model = ", ".join(f"{name} {value}" for name, value in config["model"].items())
    vectors = config.get("kind") == "vectors"
    latent_dim = config["model"]["latent_dim"]
    size = f"dimensions of a vector: {config['dimension']}" if vectors else f"vocabulary: {config['vocabulary_size']:,}"
    return f"""# {"A latent variable model of vectors" if vectors else "A sentenceMIM model"}

Encodes a {"vector" if vectors else "sentence"} to one code of {latent_dim} dimensions, and decodes it.

- architecture: {model}
- parameters: {config["num_parameters"]:,}
- {size}
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
