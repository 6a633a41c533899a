"""The report of one evaluation: `report.json` with all metrics, and the pages `report.md` and `report.html`.

The pages are made only from the content of `report.json` and the plots.
"""

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from smim import storage
from smim.evaluation import markup
from smim.evaluation.groups import definition
from smim.evaluation.page import as_markdown
from smim.evaluation.reference import Row, published
from smim.evaluation.section import Section
from smim.evaluation.verdict import judge
from smim.text.corpus import CARD

FORMAT = 3

_PACKAGES = ("smim", "torch", "accelerate", "faiss-cpu", "faiss-gpu", "nltk", "sacrebleu", "scikit-learn", "numpy")


def write_report(
    output: Path, content: dict[str, Any], sections: dict[str, Section], plots: Path, *, reference: Sequence[Row] = ()
) -> None:
    """Write `report.json`, `report.md`, `report.html` and `plots/` into `output`, replacing an older report.

    `content`: what was evaluated and how (`model`, `corpus`, `settings`, `processes`, `seconds`). `plots`: the
    directory with the PNG files of the sections. `reference`: published rows for comparison.
    """
    report = assemble(content, sections, reference)
    markdown = as_markdown(report)
    images = {f"plots/{name}": (plots / name).read_bytes() for part in sections.values() for name in part.plots}
    with storage.new_directory(output) as partial:
        storage.write_json(partial / "report.json", report)
        storage.write_text(partial / "report.md", markdown)
        storage.write_text(partial / "report.html", markup.html(markdown, images=images))
        (partial / "plots").mkdir()
        for name, png in images.items():
            (partial / name).write_bytes(png)


def assemble(content: dict[str, Any], sections: dict[str, Section], reference: Sequence[Row] = ()) -> dict[str, Any]:
    """Make the content of `report.json`: `content`, the sections, all metrics by name, and published metrics."""
    seed = content["settings"]["seed"]
    metrics: dict[str, Any] = {}
    parts = {key: asdict(section) for key, section in sections.items()}
    for key, part in parts.items():
        for name, metric in part.pop("metrics").items():
            assert name not in metrics, f"{name} is a metric of {key} and of {metrics[name]['section']}"
            metrics[name] = {**metric, "unit": definition(name).unit, "section": key, "seed": seed}
    questions = _questions(content) if "p_at_1" in metrics else None
    verdict = judge({**content, "metrics": metrics})
    return {
        "format": FORMAT,
        **content,
        "verdict": verdict and asdict(verdict),
        "environment": environment(),
        "questions": questions,
        "published": _published(content, questions, reference),
        "metrics": metrics,
        "sections": parts,
    }


def _questions(content: dict[str, Any]) -> dict[str, str]:
    """Name, split and hash of the questions' corpus: the evaluated one, or that of the settings."""
    given = content["settings"].get("answering", {})
    corpus = {name: content["corpus"][name] for name in ("name", "split", "hash")}
    if given.get("corpus"):
        card = Path(given["corpus"]) / CARD
        corpus |= {"name": storage.read_json(card)["name"], "hash": storage.sha256(card)}
    return corpus | {"split": given.get("split", corpus["split"])}


def _published(
    content: dict[str, Any], questions: dict[str, str] | None, reference: Sequence[Row]
) -> dict[str, dict[str, float]]:
    """Find published metrics by source, for the sentences and the questions if they are a whole test split."""
    model, corpora = content["model"], [content["corpus"]["name"]] if is_whole_test(content) else []
    if questions and questions["split"] == "test":
        corpora.append(questions["name"])
    of_model = (model["objective"], model["latent_dim"], model.get("trained_on"))
    return published(reference, corpora, *of_model)


def is_part(content: dict[str, Any]) -> bool:
    """Whether the evaluated sentences are a random part of a split."""
    return content["settings"].get("max_sentences") == content["corpus"]["sentences"]


def is_whole_test(content: dict[str, Any]) -> bool:
    """Whether published metrics are comparable. MELBO grows with the number of sentences, so a part is not."""
    return content["corpus"]["split"] == "test" and not is_part(content)


def environment() -> dict[str, Any]:
    """The command, the versions, and the machine of a report."""
    versions = {each.name: each.version for each in distributions() if each.name in _PACKAGES}
    versions = {"python": platform.python_version(), **{name: versions[name] for name in _PACKAGES if name in versions}}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    return {"command": shlex.join(sys.argv), "versions": versions, "machine": machine}
