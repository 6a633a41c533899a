"""Models as they are called, and published ones with their metrics, which stand beside those of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smim.vectors.corpus import KIND

_METHODS = {
    "amim": "sMIM",
    "vae": "sVAE",
    "autoencoder": "AE",
    "mim": "MIM",
    "beta_vae": "beta-VAE",
    "probabilistic_autoencoder": "probabilistic AE",
    "mmd_vae": "MMD-VAE",
    "stein_vae": "Stein-VAE",
    "adversarial": "adversarial AE",
    "infomax_vae": "InfoMax-VAE",
}
_OF_VECTORS = {"amim": "A-MIM", "vae": "VAE"}  # which have no s for sentence


@dataclass(frozen=True)
class Row:
    """A published model on one evaluated corpus; `latent_dim` is None for models that have no code.

    `metrics` by our names; `trained_on`: the corpus that it was trained on.
    """

    source: str
    corpus: str
    name: str
    objective: str
    latent_dim: int | None
    trained_on: str
    metrics: dict[str, float]
    ppl_stdev: float | None = None
    parameters: str = ""


def published(
    rows: Sequence[Row], corpora: Sequence[str], objective: str, latent_dim: int, trained_on: str | None = None
) -> dict[str, dict[str, float]]:
    """The metrics of the same method, latent size and corpora by source; a source without any is empty.

    `corpora` are what was evaluated; `trained_on` what the model was trained on, the evaluated one where it is None.
    """
    found: dict[str, dict[str, float]] = {row.source: {} for row in rows}
    for row in rows:
        same = row.corpus in corpora and (row.objective, row.latent_dim) == (objective, latent_dim)
        if same and row.trained_on == (trained_on or row.corpus):
            found[row.source] |= row.metrics
    return found


def method_name(objective: str, latent_dim: int | None) -> str:
    """A model as the thesis calls it, such as "sMIM (512)"; a method that it does not have keeps its own name."""
    name = _METHODS.get(objective, objective)
    return name if latent_dim is None else f"{name} ({latent_dim})"


def name_of(report: dict[str, Any]) -> str:
    """The model of a report as the thesis calls it, of sentences or of vectors."""
    model, of_vectors = report["model"], report["corpus"].get("kind") == KIND
    name = _OF_VECTORS.get(model["objective"]) if of_vectors else None
    return f"{name} ({model['latent_dim']})" if name else method_name(model["objective"], model["latent_dim"])
