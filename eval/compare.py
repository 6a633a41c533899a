"""Puts evaluated models side by side: python eval/compare.py REPORT REPORT ...

A REPORT is a report directory or its report.json. Prints a Markdown table, one row a model.
"""

import sys
from pathlib import Path
from typing import Any

from smim import storage
from smim.errors import UserError, told_to_user

COLUMNS = {
    "ppl": "MELBO ppl",
    "nll": "MELBO NLL",
    "nll_elbo": "NLL under N(0, I)",
    "bleu1_sampled": "BLEU-1 sampled",
    "bleu1_greedy": "BLEU-1 greedy",
    "kl": "KL",
    "active_units_relative": "active units",
}


def read_report(path: Path) -> dict[str, Any]:
    """A report by its directory or file; raises `UserError` where it is none."""
    report = storage.read_json(path / "report.json" if path.is_dir() else path)
    if not isinstance(report, dict) or "figures" not in report:
        raise UserError(f"{path} is not an evaluation report")
    return report


def as_table(reports: list[dict[str, Any]]) -> str:
    """A Markdown table, one row a report; raises `UserError` where they evaluated different sentences."""
    corpora = {(report["corpus"]["hash"], report["corpus"]["split"]) for report in reports}
    if len(corpora) > 1:
        names = ", ".join(f"{report['corpus']['name']} {report['corpus']['split']}" for report in reports)
        raise UserError(f"the reports are of different sentences ({names}); they cannot be compared")
    lines = ["| model | parameters | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for report in reports:
        model, figures = report["model"], report["figures"]
        cells = [_cell(figures.get(name)) for name in COLUMNS]
        cells[-1] += f" of {model['latent_dim']}" if cells[-1] else ""
        name = f"{model['objective']} ({model['latent_dim']})"
        lines.append(f"| {name} | {model['parameters'] / 1e6:.1f}M | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(entry: dict[str, Any] | None) -> str:
    return "" if entry is None else f"{entry['value']:.4g}"


def main() -> None:
    with told_to_user():
        if len(sys.argv) < 2:
            raise UserError("usage: python eval/compare.py REPORT REPORT ...")
        print(as_table([read_report(Path(argument)) for argument in sys.argv[1:]]))


if __name__ == "__main__":
    main()
