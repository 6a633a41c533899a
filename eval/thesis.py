"""What the thesis's tables and the authors' demo publish (`eval/thesis.json`), by the names of our figures."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from smim.vectors.corpus import KIND

THESIS, DEMO = "thesis", "authors' demo"

_FILE = Path(__file__).with_name("thesis.json")
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
_OBJECTIVES = {"smim": "amim", "smim_everything": "amim", "svae": "vae", "svae_kl": "vae", "ae": "autoencoder"}


@dataclass(frozen=True)
class Row:
    """A published model on one evaluated corpus; `latent_dim` is None for models that have no code."""

    source: str
    corpus: str
    name: str
    objective: str
    latent_dim: int | None
    trained_on: str
    figures: dict[str, float]
    ppl_stdev: float | None = None
    parameters: str = ""


def method_name(objective: str, latent_dim: int | None) -> str:
    """A model as the thesis calls it, such as "sMIM (512)"; a method that it does not have keeps its own name."""
    name = _METHODS.get(objective, objective)
    return name if latent_dim is None else f"{name} ({latent_dim})"


def name_of(report: dict[str, Any]) -> str:
    """The model of a report as the thesis calls it, of sentences or of vectors."""
    model = report["model"]
    if report["corpus"].get("kind") == KIND and model["objective"] in _OF_VECTORS:
        return f"{_OF_VECTORS[model['objective']]} ({model['latent_dim']})"
    return method_name(model["objective"], model["latent_dim"])


def thesis_figures(
    corpus: str, objective: str, latent_dim: int, *, trained_on: str | None = None, source: str = THESIS
) -> dict[str, float]:
    """The published figures of the same method, latent size and corpora, by our names; empty where there are none.

    `corpus` is what was evaluated, `trained_on` what the model was trained on, where that is another one.
    """
    wanted = (source, corpus, objective, latent_dim, trained_on or _default_training(corpus))
    figures: dict[str, float] = {}
    for row in rows():
        if (row.source, row.corpus, row.objective, row.latent_dim, row.trained_on) == wanted:
            figures.update(row.figures)
    return figures


@cache
def rows() -> tuple[Row, ...]:
    """Every published row, in the order of the tables."""
    tables = json.loads(_FILE.read_text(encoding="utf-8"))
    return (
        *_language_modelling(tables),
        *_latent_entropy(tables["table_7_6_latent_entropy_nats"]),
        *_autoencoders(tables["table_7_7_bleu1_smim_vs_ae"]),
        *_answering(tables["table_7_8_yahoocqa"]),
        *_demo(tables["published_demo_ptb"]),
    )


def _default_training(corpus: str) -> str:
    # Nothing is trained on YahooCQA (section 7.6).
    return "yahoo" if corpus == "yahoocqa" else corpus


def _row(corpus: str, method: str, latent_dim: int, figures: dict[str, Any], **more: Any) -> Row:
    everything = method.endswith("_everything")
    objective = _OBJECTIVES[method]
    name = method_name(objective, latent_dim) + (" + kl" if method == "svae_kl" else "")
    return Row(
        source=more.pop("source", THESIS),
        corpus=corpus,
        name=f"{name}, trained on everything" if everything else name,
        objective=objective,
        latent_dim=latent_dim,
        trained_on="everything" if everything else _default_training(corpus),
        figures={name: value for name, value in figures.items() if value is not None},
        **more,
    )


def _language_modelling(tables: dict[str, Any]) -> Iterator[Row]:
    for table in ("table_7_2_ptb", "table_7_3_yelp15", "table_7_4_yahoo", "table_7_5_wt103"):
        for method, latent_dim, ppl, stdev, nll, bleu, parameters in tables[table]:
            figures = {"nll": nll, "ppl_thesis": ppl, "bleu1_sampled": bleu}
            corpus = table.rpartition("_")[2]
            yield _row(corpus, method, latent_dim, figures, ppl_stdev=stdev, parameters=parameters)


def _latent_entropy(table: dict[str, Any]) -> Iterator[Row]:
    for corpus, dims in table["dims_S_M"].items():
        values = dict(zip(table["columns"], table[corpus], strict=True))
        for size, latent_dim in zip("SM", dims, strict=True):
            for method in ("smim", "ae"):
                figures = {
                    "latent_entropy": values[f"{method}_{size}"],
                    "latent_entropy_normal": values[f"normal_{size}"],
                }
                yield _row(corpus, method, latent_dim, figures)


def _autoencoders(table: dict[str, Any]) -> Iterator[Row]:
    # sMIM's columns repeat those of Tables 7.2-7.4.
    for corpus, dims in table["dims_S_M_L"].items():
        values = dict(zip(table["columns"], table[corpus], strict=True))
        for size, latent_dim in zip("SML", dims, strict=True):
            yield _row(corpus, "ae", latent_dim, {"bleu1_sampled": values[f"ae_{size}"]})


def _answering(table: dict[str, Any]) -> Iterator[Row]:
    others = {"ap_cnn": "AP-CNN", "ap_bilstm": "AP-BiLSTM", "hyperqa": "HyperQA"}
    for model, p_at_1, mrr in table["rows"]:
        figures = {"p_at_1": p_at_1, "mrr": mrr}
        if model in others:
            yield Row(THESIS, "yahoocqa", others[model], model, None, "yahoocqa", figures)
        else:
            method, latent_dim, *pretrained = model.split("_")
            yield _row("yahoocqa", "_".join([method, *pretrained]), int(latent_dim), figures)


def _demo(table: dict[str, Any]) -> Iterator[Row]:
    for method, latent_dim, nll, bleu in table["rows"]:
        yield _row("ptb", method, latent_dim, {"nll": nll, "bleu1_sampled": bleu}, source=DEMO)
