"""Write the tables of README.md, docs/results.md and docs/results/ from the files of results/: python eval/pages.py

A table is between `<!-- table NAME -->` and `<!-- end -->`. `eval/pages.yaml` defines its rows and columns. Published
rows come from `eval/thesis.json`.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from eval.compare import run_command
from eval.tables import in_millions
from eval.thesis import THESIS, rows
from smim import storage
from smim.errors import UserError
from smim.evaluation import markup
from smim.evaluation.reference import published

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs/results.md", *sorted((ROOT / "docs/results").glob("*.md"))]
BLOCK = re.compile(r"<!-- table (\S+) -->\n.*?<!-- end -->", re.DOTALL)
_PUBLISHED = f"{THESIS}: "


def main() -> None:
    """Write the tables of the pages from the files of results/."""
    for page in PAGES:
        storage.write_text(page, filled(page.read_text(encoding="utf-8")))


def filled(text: str) -> str:
    """Replace the text between the marks of a page by the tables that it names."""
    return BLOCK.sub(lambda found: f"<!-- table {found[1]} -->\n\n{table(found[1])}\n\n<!-- end -->", text)


def table(name: str) -> str:
    """Make a table in Markdown. Raises `UserError` if there is no such table, row or metric."""
    if name not in definitions():
        raise UserError(f"eval/pages.yaml has no table {name}; add it there, or correct the page that names it")
    wanted = definitions()[name]
    cells = {title: _cells(source, wanted["corpus"]) for title, source in wanted["rows"].items()}
    for metric in wanted["columns"].values():
        if not any(metric in row for row in cells.values()):
            raise UserError(f"eval/pages.yaml, {name}: no row has {metric}; correct the column")
    lines = [[title, *(row.get(metric, "") for metric in wanted["columns"].values())] for title, row in cells.items()]
    return markup.table([wanted.get("rows_are", "model"), *wanted["columns"]], lines)


@cache
def definitions() -> dict[str, Any]:
    """The tables of `eval/pages.yaml` by name."""
    return OmegaConf.to_container(OmegaConf.load(Path(__file__).with_name("pages.yaml")))  # type: ignore[return-value]


def _cells(source: str, corpus: str) -> dict[str, str]:
    """The possible cells of a row, by the names of columns in `eval/pages.yaml`."""
    if source.startswith(_PUBLISHED):
        return _published(source.removeprefix(_PUBLISHED), corpus)
    name, _, method = source.partition("#")
    name, _, other = name.partition("@")
    cells = _trained(storage.read_json(ROOT / f"results/{name}.json"), other or corpus)
    prefix = f"codes.{method}_"
    return cells | {f"method.{key.removeprefix(prefix)}": cells[key] for key in list(cells) if key.startswith(prefix)}


def _published(name: str, corpus: str) -> dict[str, str]:
    found = [row for row in rows() if (row.source, row.corpus, row.name) == (THESIS, corpus, name)]
    if not found:
        raise UserError(f"eval/thesis.json has no {name} of {corpus}; correct the row in eval/pages.yaml")
    cells = {metric: str(value) for row in found for metric, value in row.metrics.items()}
    return cells | {"parameters": "".join(row.parameters for row in found)}


def _trained(kept: dict[str, Any], corpus: str) -> dict[str, str]:
    """The cells of a file of `eval/record.py`, and of published models with the same method, size and corpora."""
    settings = kept["settings"]
    cells = {
        "parameters": in_millions(kept["parameters"]),
        "best_epoch": str(kept["best"]["epoch"]),
        "epochs": str(kept["epochs"]),
        "minutes": f"{kept['seconds_of_training'] / 60:.0f}",
    }
    cells |= {f"codes.{name}": _shown(each["value"], each["error"]) for name, each in (kept["codes"] or {}).items()}
    for report in kept["reports"].values():
        if report["corpus"] == corpus:
            cells |= {
                name: _shown(each["value"], each.get("standard_error")) for name, each in report["metrics"].items()
            }
    theirs = published(rows(), [corpus], settings["objective"]["name"], settings["model"]["latent_dim"], kept["corpus"])
    return cells | {f"{source}.{name}": str(value) for source, of in theirs.items() for name, value in of.items()}


def _shown(value: float, error: float | None) -> str:
    """Format a value with its error. Omit an error that is only rounding, such as that of a chance level."""
    return markup.with_error(value, error if error and error > 1e-9 * abs(value) else None)


if __name__ == "__main__":
    run_command(main)
