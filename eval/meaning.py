"""Compare models by the quality of their codes: python eval/meaning.py NAME=REPORT ... [--output FILE.png]

A REPORT is a report directory of `eval=codes`, or a file of `results/`, which has all reports of a training. Further
reports of the same model, such as of `eval=generativity`, follow after commas. The script prints a Markdown table.
`--output` draws meaning against fidelity, with a point for each model, and a line for each method of comparing texts
that cannot decode.
"""

from pathlib import Path
from typing import Annotated

import typer

from eval.compare import Report, read_report, run_command
from smim import storage
from smim.errors import UserError
from smim.evaluation import plots
from smim.evaluation.markup import literal, table

_COLUMNS = ["spearman:{set}", "word_for_word:{set}", "nats_above_real:between", "cosine_to_source:between"]


def meaning(
    reports: Annotated[list[str], typer.Argument(metavar="NAME=REPORT,REPORT...", help="A model, and its reports.")],
    on: Annotated[str, typer.Option(help="The set of both axes, and of {set} in --metric.")] = "stsb-dev",
    metric: Annotated[list[str] | None, typer.Option(help="A metric, one column of the table; repeatable.")] = None,
    beside: Annotated[list[str] | None, typer.Option(help="A WAY of the reports, drawn as a line; repeatable.")] = None,
    output: Annotated[Path | None, typer.Option(help="The picture, PNG.")] = None,
) -> None:
    """Put models side by side by meaning and fidelity.

    python eval/meaning.py ours=runs/english_small/codes-dev --beside TF-IDF --output meaning.png
    """
    models = dict(map(_read, reports))
    columns = [name.format(set=on) for name in metric or _COLUMNS]
    print(
        table(
            ["model", *columns], [[name, *(_shown(found, each) for each in columns)] for name, found in models.items()]
        )
    )
    if output is not None:
        points = {
            name: (_needed(name, found, f"word_for_word:{on}"), _needed(name, found, f"spearman:{on}"))
            for name, found in models.items()
        }
        first = next(iter(models.values()))
        lines = {way: _needed(way, first, f"spearman_by:{on}/{way}") for way in beside or ["TF-IDF"]}
        plots.points(points, lines, output, xlabel=f"share decoded word for word, {on}", ylabel=f"Spearman, {on}")


def _read(given: str) -> tuple[str, Report]:
    """Read the name, and the combined metrics of all reports."""
    name, sign, paths = given.partition("=")
    if not sign:
        raise UserError(f"{given} has no name; give one before the report, such as ours={given}")
    return literal(name), {name: found for path in paths.split(",") for name, found in _metrics(path).items()}


def _metrics(path: str) -> Report:
    if not path.endswith(".json"):
        metrics: Report = read_report(path)["metrics"]
        return metrics
    reports = storage.read_json(Path(path)).get("reports", {})
    return {name: found for report in reports.values() for name, found in report["metrics"].items()}


def _shown(metrics: Report, name: str) -> str:
    if name not in metrics:
        return ""
    error = metrics[name].get("standard_error")
    return f"{metrics[name]['value']:.3f}" + (f" ± {error:.3f}" if error else "")


def _needed(model: str, metrics: Report, name: str) -> float:
    if name not in metrics:
        raise UserError(f"the reports of {model} have no {name}; evaluate it with eval=codes on this set")
    return float(metrics[name]["value"])


if __name__ == "__main__":
    run_command(meaning)
