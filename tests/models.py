"""Settings of models by their short names."""

from typing import Any

from smim.model.registry import make_args


def sentence_args(**settings: Any) -> Any:
    """Those of a model of sentences, by default GRUs, whose settings are named as if they were the model's own."""
    return make_args(settings)


def vector_args(**settings: Any) -> Any:
    """Those of a model of vectors, likewise."""
    return make_args({"encoder": "mlp", "decoder": "mlp", **settings})
