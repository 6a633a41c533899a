"""A model on disk: `config.json`, `model.safetensors`, `tokenizer/` and a card. No pickle."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from smim import __version__, storage
from smim.errors import UserError
from smim.model.autoencoder import ModelArgs, SentenceAutoencoder
from smim.text.tokenizer import Tokenizer

FORMAT = 2
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_model(
    directory: Path | str, model: SentenceAutoencoder, tokenizer: Tokenizer, *, training: dict[str, Any]
) -> None:
    """Writes all that is needed to load the model elsewhere; replaces what stood there in one step.

    `training` describes how the model came about (objective, corpus, step, losses) for its card.
    """
    with storage.new_directory(directory) as partial:
        save_file(model.state_dict(), partial / WEIGHTS)
        tokenizer.save(partial / "tokenizer")
        config = {
            "format": FORMAT,
            "smim_version": __version__,
            "model": asdict(model.args),
            "vocabulary_size": model.vocabulary_size,
            "num_parameters": model.num_parameters,
            "tokenizer_hash": tokenizer.hash,
            "weights_sha256": storage.sha256(partial / WEIGHTS),
            "training": training,
        }
        storage.write_json(partial / CONFIG, config)
        storage.write_text(partial / "README.md", _card(config))


def load_model(directory: Path | str) -> tuple[SentenceAutoencoder, Tokenizer, dict[str, Any]]:
    """Loads a model directory on the CPU in evaluation mode, with its tokenizer and `config.json`.

    Raises `UserError` where something is missing, damaged, or does not belong together.
    """
    directory = Path(directory)
    if not (directory / CONFIG).is_file():
        hint = f"; did you mean {directory / 'model'}?" if (directory / "model" / CONFIG).is_file() else ""
        raise UserError(f"{directory} is not a model directory (no {CONFIG} in it){hint}")
    config = storage.read_json(directory / CONFIG)
    if config.get("format") != FORMAT:
        raise UserError(
            f"{directory} has model format {config.get('format')}, this version reads {FORMAT}; train it again"
        )
    tokenizer = Tokenizer.load(directory / "tokenizer")
    if tokenizer.hash != config["tokenizer_hash"]:
        raise UserError(f"{directory}: tokenizer/ is not the one this model was trained with")
    model = SentenceAutoencoder(ModelArgs(**config["model"]), vocabulary_size=config["vocabulary_size"])
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{directory / WEIGHTS} cannot be loaded, it is missing or damaged: {error}") from None
    for parameter in model.parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"{directory / WEIGHTS} holds NaN or infinite weights; the training diverged")
    return model.eval(), tokenizer, config


def _card(config: dict[str, Any]) -> str:
    training = "\n".join(f"- {name}: {value}" for name, value in config["training"].items())
    model = ", ".join(f"{name} {value}" for name, value in config["model"].items())
    return f"""# A sentenceMIM model

Encodes a sentence to one code of {config["model"]["latent_dim"]} dimensions, and decodes it.

- architecture: {model}
- parameters: {config["num_parameters"]:,}
- vocabulary: {config["vocabulary_size"]:,}
{training}

```python
import smim

model = smim.load("PATH/OF/THIS/DIRECTORY")
codes = model.encode(["a sentence"])
print(model.decode(codes))
```
"""
