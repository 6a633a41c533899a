"""Models by their settings: of sentences (`ModelArgs`) or of vectors (`MLPArgs`)."""

from typing import Any

from smim.model.autoencoder import ModelArgs, SentenceAutoencoder
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.mlp import MLPArgs, VectorAutoencoder


def args_class(encoder: Any) -> type[ModelArgs] | type[MLPArgs]:
    """The settings that go with `model.encoder`."""
    return MLPArgs if encoder == "mlp" else ModelArgs


def make_model(args: ModelArgs | MLPArgs, *, input_size: int) -> LatentVariableModel:
    """A model with random weights. `input_size`: words of the vocabulary, or dimensions of a vector."""
    if isinstance(args, MLPArgs):
        return VectorAutoencoder(args, dimension=input_size)
    return SentenceAutoencoder(args, vocabulary_size=input_size)
