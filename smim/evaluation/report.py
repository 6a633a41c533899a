"""The report of one evaluation: `report.json` with every figure, `report.md` and `report.html` to read.

Both pages are made from the content of `report.json` and the plots alone.
"""

import os
import platform
import shlex
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.thesis import DEMO, THESIS, thesis_figures
from smim import storage
from smim.evaluation import markup
from smim.evaluation.definitions import definition
from smim.evaluation.page import as_markdown
from smim.evaluation.section import Section
from smim.text.corpus import CARD

FORMAT = 2

_PACKAGES = ("smim", "torch", "accelerate", "faiss-cpu", "faiss-gpu", "nltk", "sacrebleu", "scikit-learn", "numpy")


def write_report(output: Path, content: dict[str, Any], sections: dict[str, Section], plots: Path) -> None:
    """Writes `report.json`, `report.md`, `report.html` and `plots/` into `output`, in the place of an older report.

    `content`: what was evaluated and how (`model`, `corpus`, `settings`, `processes`, `seconds`); `plots`:
    the directory that holds the PNG files that the sections name.
    """
    report = assemble(content, sections)
    markdown = as_markdown(report)
    images = {f"plots/{name}": (plots / name).read_bytes() for part in sections.values() for name in part.plots}
    with storage.new_directory(output) as partial:
        storage.write_json(partial / "report.json", report)
        storage.write_text(partial / "report.md", markdown)
        storage.write_text(partial / "report.html", markup.html(markdown, images=images))
        (partial / "plots").mkdir()
        for name, png in images.items():
            (partial / name).write_bytes(png)


def assemble(content: dict[str, Any], sections: dict[str, Section]) -> dict[str, Any]:
    """The content of `report.json`: `content`, the sections, all figures by name, and the published ones beside."""
    seed = content["settings"]["seed"]
    figures: dict[str, Any] = {}
    for key, section in sections.items():
        for name, figure in section.figures.items():
            assert name not in figures, f"{name} is a figure of {key} and of {figures[name]['section']}"
            figures[name] = {**asdict(figure), "unit": definition(name).unit, "section": key, "seed": seed}
    questions = _questions(content) if "p_at_1" in figures else None
    rest = {key: {name: value for name, value in section.as_json().items() if name != "figures"}
            for key, section in sections.items()}  # fmt: skip
    return {
        "format": FORMAT,
        **content,
        "environment": environment(),
        "questions": questions,
        "thesis": _published(content, questions, source=THESIS),
        "authors_demo": _published(content, questions, source=DEMO),
        "figures": figures,
        "sections": rest,
    }


def _questions(content: dict[str, Any]) -> dict[str, str]:
    """Name, split and hash of the corpus that the questions are from: the evaluated one, or that of the settings."""
    given = content["settings"].get("answering", {})
    corpus = {name: content["corpus"][name] for name in ("name", "split", "hash")}
    if given.get("corpus"):
        card = Path(given["corpus"]) / CARD
        corpus |= {"name": storage.read_json(card)["name"], "hash": storage.sha256(card)}
    return corpus | {"split": given.get("split", corpus["split"])}


def _published(content: dict[str, Any], questions: dict[str, str] | None, *, source: str) -> dict[str, float]:
    model, evaluated = content["model"], content["corpus"]
    corpora = [evaluated["name"]] if is_whole_test(content) else []
    if questions and questions["split"] == "test":
        corpora.append(questions["name"])
    figures: dict[str, float] = {}
    for corpus in corpora:
        of_model = (corpus, model["objective"], model["latent_dim"])
        figures |= thesis_figures(*of_model, trained_on=model.get("trained_on"), source=source)
    return figures


def is_part(content: dict[str, Any]) -> bool:
    """Whether the evaluated sentences were drawn from a split by the seed."""
    return content["settings"].get("max_sentences") == content["corpus"]["sentences"]


def is_whole_test(content: dict[str, Any]) -> bool:
    """Whether published figures may stand beside: MELBO grows with the number of sentences, a part has another."""
    return content["corpus"]["split"] == "test" and not is_part(content)


def environment() -> dict[str, Any]:
    """The command, and the versions and machine that made a report."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # one of FAISS's two
            continue
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    return {"command": shlex.join(sys.argv), "versions": versions, "machine": machine}
