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


def name_of(report: dict[str, Any]) -> str:
    """The model of a report, such as "sMIM (512)"; a method that the thesis does not have keeps its own name."""
    model = report["model"]
    methods = _METHODS | (_OF_VECTORS if report["corpus"].get("kind") == KIND else {})
    return f"{methods.get(model['objective'], model['objective'])} ({model['latent_dim']})"
