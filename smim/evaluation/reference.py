"""Names of models, and published models whose metrics are compared with a report's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smim.vectors.corpus import KIND

_METHODS = {
    "amim": "sMIM",
    "vae": "sVAE",
    "autoencoder": "AE",
    "language_model": "language model",
    "mim": "MIM",
    "beta_vae": "beta-VAE",
    "probabilistic_autoencoder": "probabilistic AE",
    "mmd_vae": "MMD-VAE",
    "stein_vae": "Stein-VAE",
    "adversarial": "adversarial AE",
    "infomax_vae": "InfoMax-VAE",
}
_OF_VECTORS = {"amim": "A-MIM", "vae": "VAE"}  # names without the s for sentence


@dataclass(frozen=True)
class Row:
    """A published model on one evaluated corpus. `latent_dim` is None for models without a code.

    `metrics`: by our names. `trained_on`: its training corpus.
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
    """Find published metrics of the same method, latent size and corpora, by source; may be empty for a source.

    `corpora`: the evaluated corpora. `trained_on`: the model's training corpus; None means the evaluated one.
    """
    found: dict[str, dict[str, float]] = {row.source: {} for row in rows}
    for row in rows:
        same = row.corpus in corpora and (row.objective, row.latent_dim) == (objective, latent_dim)
        if same and row.trained_on == (trained_on or row.corpus):
            found[row.source] |= row.metrics
    return found


def name_of(report: dict[str, Any]) -> str:
    """The name of a report's model, such as "sMIM (512)". Methods that are not in the thesis keep their own name."""
    model = report["model"]
    methods = _METHODS | (_OF_VECTORS if report["corpus"].get("kind") == KIND else {})
    return f"{methods.get(model['objective'], model['objective'])} ({model['latent_dim']})"
