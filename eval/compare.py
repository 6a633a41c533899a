"""Compare evaluated models: python eval/compare.py REPORT REPORT ... [--output DIR]

A REPORT is a report directory or its report.json. It prints Markdown in the layout of the thesis's Tables 7.2 to 7.8,
with the thesis's rows below ours. --output also writes it to DIR/comparison.md and DIR/comparison.html.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from eval import seeds, tables
from smim import storage
from smim.errors import UserError, reported_to_user
from smim.evaluation import markup
from smim.evaluation.markup import literal
from smim.evaluation.report import FORMAT, is_part

Report = dict[str, Any]

_NEEDED = {
    "model": ("objective", "latent_dim", "parameters", "directory"),
    "corpus": ("name", "split", "hash", "sentences", "tokens_per_sentence"),
    "settings": ("seed",),
}
_EXPLAINED = (
    "NLL and PPL are MELBO bounds: their prior is the aggregate posterior of the evaluated set itself. Each report "
    "explains what they do not measure. PPL counts one `<eos>` per sentence, as in the thesis's tables. Its standard "
    "deviation over runs is in brackets. NLL, KL, entropy and information are in nats. ± is the standard error over "
    "sentences or questions. The rows of the thesis and of the authors' demo are as published."
)


def read_report(path: Path | str) -> Report:
    """Read a report by its directory or file. Raises `UserError` if it is not a report, or has another format."""
    path = Path(path)
    report = storage.read_json(path / "report.json" if path.is_dir() else path)
    if "figures" in report:  # the name of metrics up to format 2
        report["metrics"] = report.pop("figures")
    if not isinstance(report.get("metrics"), dict):
        raise UserError(f"{path} is not an evaluation report; give a report that eval/run.py or smim evaluate wrote")
    if report.get("format") not in (FORMAT, 2):
        raise UserError(
            f"{path} is a report of format {report.get('format', 1)}, but {FORMAT} is needed; evaluate the model again"
        )
    needed = _NEEDED | ({"questions": ("name", "split", "hash")} if "p_at_1" in report["metrics"] else {})
    damaged = [
        part
        for part, names in needed.items()
        if not (isinstance(report.get(part), dict) and set(names) <= set(report[part]))
    ]
    damaged += [
        name
        for name, metric in report["metrics"].items()
        if not isinstance(metric, dict) or not isinstance(metric.get("value"), int | float)
    ]
    if damaged:
        raise UserError(f"{path} is damaged: {', '.join(damaged)} is missing or invalid; evaluate the model again")
    return report


def as_markdown(reports: Sequence[Report]) -> str:
    """Make the thesis's tables with our models: a part for each set of sentences, and for each set of questions."""
    blocks = ["# Comparison", _EXPLAINED]
    for heading, group in _by_set(reports, _sentences).items():
        parts = {
            "Language modelling": tables.language_modelling(group),
            "Text VAEs": tables.text_vaes(group),
            "Entropy of the codes": tables.entropy(group),
            "BLEU-1 of sMIM and AE": tables.bleu(group),
            "Further metrics": tables.further(group),
            "Objectives over seeds: mean ± standard deviation": seeds.over_seeds(group),
            "Difference of each objective from the VAE, in spreads": seeds.differences(group),
        }
        blocks += [f"## {heading}", *_titled(parts), *_note_on_tokens(group)]
    asked = [report for report in reports if "p_at_1" in report["metrics"]]
    for heading, group in _by_set(asked, _questions).items():
        blocks += [f"## {heading}", *_titled({"Question answering": tables.answering(group)})]
    return "\n\n".join(blocks)


def _sentences(report: Report) -> tuple[tuple[Any, ...], str]:
    """A key that identifies the set of a report's sentences (a hash first), and its name."""
    corpus = report["corpus"]
    seed = report["settings"]["seed"] if is_part(report) else None
    drawn = "" if seed is None else f" drawn by seed {seed}"
    items = f"{corpus['sentences']:,} {corpus.get('kind', 'sentences')}"
    name = f"{literal(corpus['name'])}, {literal(corpus['split'])}: {items}{drawn}"
    return (corpus["hash"], corpus["split"], corpus["sentences"], seed), name


def _questions(report: Report) -> tuple[tuple[Any, ...], str]:
    questions = report["questions"]
    name = f"Questions of {literal(questions['name'])}, {literal(questions['split'])}"
    return (questions["hash"], questions["split"]), name


def _by_set(
    reports: Sequence[Report], identify: Callable[[Report], tuple[tuple[Any, ...], str]]
) -> dict[str, list[Report]]:
    """Group the reports of each set under a heading. Sets with equal names get their hash in the heading."""
    groups: dict[tuple[Any, ...], list[Report]] = {}
    for report in reports:
        groups.setdefault(identify(report)[0], []).append(report)
    names = {key: identify(group[0])[1] for key, group in groups.items()}
    called = list(names.values())
    return {
        names[key] + (f" (corpus {key[0][:8]})" if called.count(names[key]) > 1 else ""): group
        for key, group in groups.items()
    }


def _titled(parts: dict[str, str]) -> list[str]:
    return [block for title, text in parts.items() if text for block in (f"### {title}", text)]


def _note_on_tokens(reports: Sequence[Report]) -> list[str]:
    counts = [(name, f"{report['corpus']['tokens_per_sentence']:.1f}") for name, report in tables.named(reports)]
    if len({count for _, count in counts}) < 2:
        return []
    listed = ", ".join(f"{name} {count}" for name, count in counts)
    return [f"The tokenizers differ, and PPL is per token. So compare NLL, not PPL. Tokens per sentence: {listed}."]


def compare(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Report directories, or report.json.")],
    output: Annotated[Path | None, typer.Option(help="Write comparison.md and comparison.html here too.")] = None,
) -> None:
    """Put evaluated models side by side, as in the thesis's Tables 7.2 to 7.8."""
    if output is not None and output.exists() and not output.is_dir():
        raise UserError(f"{output} is not a directory; give --output a directory for comparison.md and comparison.html")
    markdown = as_markdown([read_report(path) for path in reports])
    if output is not None:
        storage.write_text(output / "comparison.md", markdown + "\n")
        storage.write_text(output / "comparison.html", markup.html(markdown))
    print(markdown)


def run_command(command: Callable[..., None]) -> None:
    """Run a script's command with its arguments. A user's mistake ends it with one line and exit status 2."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(command)
    with reported_to_user():
        app()


if __name__ == "__main__":
    run_command(compare)
