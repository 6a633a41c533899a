"""The report of one evaluation: `report.json` with every figure, `report.md` to read."""

import json
import math
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from smim import storage

_THESIS = Path(__file__).with_name("thesis.json")
_LANGUAGE_MODELLING = {
    "ptb": "table_7_2_ptb",
    "yelp15": "table_7_3_yelp15",
    "yahoo": "table_7_4_yahoo",
    "wt103": "table_7_5_wt103",
}

# Name, unit and meaning of each figure, in the order of the report.
FIGURES = {
    "nll": ("nats/sentence", "MELBO upper bound on the NLL (eq. 6.17), `<eos>` left out"),
    "ppl": ("", "perplexity from `nll`, over the words"),
    "ppl_thesis": ("", "perplexity from `nll`, over the words and one `<eos>` a sentence, as in the thesis's tables"),
    "nll_with_eos": ("nats/sentence", "the same bound with `<eos>`, so that the length is not given"),
    "reconstruction": ("nats/sentence", "-log p(x|z), z ~ q(z|x): `nll` without its log N"),
    "nll_elbo": ("nats/sentence", "upper bound under the prior N(0, I): reconstruction + KL"),
    "bleu1_sampled": ("", "sentence BLEU-1 of the reconstruction, words drawn at temperature 1"),
    "bleu1_greedy": ("", "sentence BLEU-1 of the greedy reconstruction"),
    "bleu4_corpus_greedy": ("", "corpus BLEU-4 (sacrebleu) of the greedy reconstruction"),
    "exact_match_greedy": ("", "share of sentences whose greedy reconstruction is exact"),
    "kl": ("nats/sentence", "KL(q(z|x) || N(0, I))"),
    "active_units": ("dimensions", "Var(mean) > 0.01"),
    "active_units_relative": ("dimensions", "Var(mean) > mean posterior variance"),
    "clamped": ("", "share of posterior dimensions on the variance clamp"),
}

_WHAT_MELBO_IS = """**What `nll` and `ppl` are.** They are the thesis's MELBO: the prior is the aggregate
posterior of the evaluated sentences themselves, so the bound measures how well each code tells its
sentence apart from the others of this set. A perfect autoencoder scores log N = {log_n:.2f} nats whatever
the text. It is not the probability of unseen text, and not comparable with a language model's
perplexity; `nll_elbo`, under the fixed prior N(0, I), bounds that. Perplexities are per token of this
model's tokenizer ({tokens_per_sentence:.1f} tokens a sentence here): never compare them across tokenizers.
"""


def figure(name: str, runs: np.ndarray) -> dict[str, Any]:
    """A figure's mean over runs, with the standard error of that mean where there are several runs."""
    values = np.asarray(runs, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"the figure {name!r} came out as {values.tolist()}; the model is not usable")
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.mean()), "standard_error": error, "runs": len(values), "unit": FIGURES[name][0]}


def thesis_row(corpus: str, objective: str, latent_dim: int) -> dict[str, float]:
    """The thesis's figures for the same corpus, method and latent size, by our names; empty where it has none."""
    tables = json.loads(_THESIS.read_text(encoding="utf-8"))
    method = {"amim": ["smim"], "vae": ["svae", "svae_kl"], "autoencoder": ["ae"]}.get(objective, [])
    table: list[list[Any]] = next(
        (rows for name, rows in tables.items() if name.startswith("table_7") and name.endswith(corpus)), []
    )
    for name, dim, ppl, _, nll, bleu, _ in table if corpus not in ("corpora", "yahoocqa") else []:
        if name in method and dim == latent_dim:
            return {"nll": nll, "ppl_thesis": ppl, "bleu1_sampled": bleu}
    if objective == "autoencoder":
        bleus = tables["table_7_7_bleu1_smim_vs_ae"]
        dims = bleus["dims_S_M_L"].get(corpus, [])
        if latent_dim in dims:
            return {"bleu1_sampled": bleus[corpus][3 + dims.index(latent_dim)]}
    return {}


def write_report(output: Path, report: dict[str, Any]) -> None:
    """Writes `report.json` and `report.md` into `output`, in the place of an older report."""
    with storage.new_directory(output) as partial:
        storage.write_json(partial / "report.json", report)
        storage.write_text(partial / "report.md", as_markdown(report))


def environment() -> dict[str, Any]:
    """The command, and the versions and machine that made a report."""
    packages = ("smim", "torch", "accelerate", "nltk", "sacrebleu")
    return {
        "command": " ".join(sys.argv),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "machine": platform.machine(),
    }


def as_markdown(report: dict[str, Any]) -> str:
    """The report as a page: figures with the thesis's beside them, what they mean, examples."""
    model, corpus, thesis = report["model"], report["corpus"], report["thesis"]
    lines = [
        f"# {model['objective']}, {model['latent_dim']} dimensions, on {corpus['name']} ({corpus['split']})",
        "",
        f"{corpus['sentences']:,} sentences, {corpus['tokens']:,} tokens "
        f"({corpus['tokens_per_sentence']:.1f} a sentence, `<eos>` not counted); "
        f"{model['parameters']:,} parameters; trained for {model['step']:,} steps ({model['epoch']} epochs).",
        "",
        "| figure | ours | standard error | thesis | unit | meaning |",
        "|---|---:|---:|---:|---|---|",
    ]
    for name, (unit, meaning) in FIGURES.items():
        if name in report["figures"]:
            entry = report["figures"][name]
            error = "" if entry["standard_error"] is None else f"{entry['standard_error']:.2g}"
            lines.append(f"| {name} | {entry['value']:.5g} | {error} | {thesis.get(name, '')} | {unit} | {meaning} |")
    lines += [
        "",
        f"Standard errors are over {report['settings']['num_runs']} repetitions with fresh noise. "
        f"At most {report['settings']['max_length']} tokens were decoded.",
        "",
        _WHAT_MELBO_IS.format(log_n=math.log(corpus["sentences"]), tokens_per_sentence=corpus["tokens_per_sentence"]),
        "## Reconstructions",
        "",
        *[f"- `{original}`\n  `{decoded}`" for original, decoded in report["examples"]],
        "",
        f"Made by `{report['environment']['command']}`; model {model['hash'][:12]}, corpus {corpus['hash'][:12]}.",
        "",
    ]
    return "\n".join(lines)
