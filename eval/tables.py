"""The tables of a comparison, in the layout of the thesis's Tables 7.2 to 7.8, with its rows below ours.

The reports of one table are of one set of sentences, or of questions. A table without any of our metrics is "".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from eval.seeds import architecture_of, settings_of
from eval.thesis import THESIS, rows
from smim.evaluation.groups import definition, headlines
from smim.evaluation.markup import literal, prose, rounded, table, with_error
from smim.evaluation.reference import Row, name_of, published
from smim.evaluation.report import is_whole_test

Report = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column's name, and its cell in the row of a report and of a published model."""

    title: str
    ours: Callable[[Report], str]
    published: Callable[[Row], str] = lambda _: ""


def _column(name: str) -> Column:
    """That of a metric."""
    return Column(
        prose(definition(name).title), lambda report: _cell(report, name), lambda row: str(row.metrics.get(name, ""))
    )


def _with_stdev(report: Report) -> str:
    metric = report["metrics"].get("ppl_thesis")
    value, stdev = rounded(metric["value"], metric.get("stdev_over_runs")) if metric else ("", "")
    return f"{value} ({stdev})" if stdev else value


def _active_units(report: Report) -> str:
    metric = report["metrics"].get("active_units_relative")
    return f"{metric['value']:.0f} of {report['model']['latent_dim']}" if metric else ""


def _verdict(report: Report) -> str:
    metric = report["metrics"].get("collapsed")
    return "" if metric is None else "collapsed" if metric["value"] else "not collapsed"


def _parameters(report: Report) -> str:
    num = report["model"]["parameters"]
    return f"{num / 1e6:.1f}M" if num >= 1e5 else f"{num:,}"


_LANGUAGE_MODELLING = [
    Column(
        "PPL (stdev)",
        _with_stdev,
        lambda row: f"{row.metrics['ppl_thesis']} ({row.ppl_stdev})" if "ppl_thesis" in row.metrics else "",
    ),
    *map(_column, ("nll", "bleu1_sampled", "bleu1_greedy", "nll_elbo", "nll_iw", "kl")),
    Column("active units", _active_units),
    Column("parameters", _parameters, lambda row: row.parameters),
]
# What the tables of the thesis show.
_SHOWN = {"ppl_thesis", "nll", "bleu1_sampled", "bleu1_greedy", "nll_elbo", "nll_iw", "kl", "active_units_relative",
          "latent_entropy", "latent_entropy_normal", "p_at_1", "mrr"}  # fmt: skip


def language_modelling(reports: Sequence[Report]) -> str:
    """Tables 7.2 to 7.5."""
    ours = _with_any(reports, {"nll", "bleu1_sampled", "bleu1_greedy"})
    return _table(ours, _LANGUAGE_MODELLING, _published(ours, "nll"))


def entropy(reports: Sequence[Report]) -> str:
    """Table 7.6."""
    ours = _with_any(reports, {"latent_entropy"})
    columns = [_column("latent_entropy"), _column("latent_entropy_normal")]
    return _table(ours, columns, _published(ours, "latent_entropy"))


def bleu(reports: Sequence[Report]) -> str:
    """Table 7.7: a row for each latent size, architecture and seed, where there are models of both kinds."""
    kinds = ("amim", "autoencoder")
    with_bleu = _with_any(reports, {"bleu1_sampled"})
    ours = [[report for report in with_bleu if report["model"]["objective"] == kind] for kind in kinds]
    lines = []
    for key in sorted({_of_one_size(report) for of_kind in ours for report in of_kind}):
        size, architecture, _ = key
        thesis = [_thesis_bleu(reports[0], kind, size) for kind in kinds]
        for pair in zip_longest(*[[report for report in of_kind if _of_one_size(report) == key] for of_kind in ours]):
            cells = [_cell(report, name) for name in ("bleu1_sampled", "bleu1_greedy") for report in pair]
            lines.append([f"{size}{architecture}", *cells, *thesis])
    header = ["latent dim", "sMIM sampled", "AE sampled", "sMIM greedy", "AE greedy", "thesis: sMIM", "thesis: AE"]
    return table(header, lines, optional=header) if all(ours) else ""


def _of_one_size(report: Report) -> tuple[int, str, int]:
    return report["model"]["latent_dim"], architecture_of(report), report["model"]["seed"]


def further(reports: Sequence[Report]) -> str:
    """Every metric with a title that no table of the thesis shows, and whether the code has collapsed."""
    names = [each.name for each in headlines(_names(reports)) if each.name not in _SHOWN]
    columns = [*map(_column, [*names, "kl"]), Column("verdict", _verdict)]
    return _table(_with_any(reports, names), columns)


def answering(reports: Sequence[Report]) -> str:
    """Table 7.8, with the floors once: they are the same for every model."""
    questions, lines = reports[0]["questions"], []
    for kind, name in {"bm25": "word overlap (BM25)", "random": "random order"}.items():
        for floor in _with_any(reports, {f"p_at_1_{kind}"})[:1]:
            lines.append([name, _cell(floor, f"p_at_1_{kind}"), _cell(floor, f"mrr_{kind}")])
    of_thesis = [row for row in rows() if row.corpus == questions["name"] and "p_at_1" in row.metrics]
    columns = [_column("p_at_1"), _column("mrr")]
    return _table(reports, columns, of_thesis if questions["split"] == "test" else [], between=lines)


def named(reports: Sequence[Report]) -> list[tuple[str, Report]]:
    """Each report with its model's name, and its directory too where two are called the same."""
    names = [name_of(report) + settings_of(report) for report in reports]
    return [
        (literal(f"{name}, {report['model']['directory']}" if names.count(name) > 1 else name), report)
        for name, report in zip(names, reports, strict=True)
    ]


def _table(
    reports: Sequence[Report],
    columns: Sequence[Column],
    published_rows: Sequence[Row] = (),
    *,
    between: Sequence[list[str]] = (),
) -> str:
    """Our rows, those `between`, the published ones; "" where none is ours."""
    lines = [[name, *(column.ours(report) for column in columns)] for name, report in named(reports)]
    theirs = [[f"{row.source}: {row.name}", *(column.published(row) for column in columns)] for row in published_rows]
    header = ["model (latent dim)", *(column.title for column in columns)]
    return table(header, [*lines, *between, *theirs], optional=header) if lines else ""


def _with_any(reports: Sequence[Report], names: Sequence[str] | set[str]) -> list[Report]:
    return [report for report in reports if not report["metrics"].keys().isdisjoint(names)]


def _names(reports: Sequence[Report]) -> set[str]:
    return {name for report in reports for name in report["metrics"]}


def _published(reports: Sequence[Report], name: str) -> list[Row]:
    """Published rows that have a metric, for the sentences that the reports share."""
    if not reports or not is_whole_test(reports[0]):
        return []
    return [row for row in rows() if row.corpus == reports[0]["corpus"]["name"] and name in row.metrics]


def _thesis_bleu(report: Report, objective: str, latent_dim: int) -> str:
    found = published(rows(), report["corpus"]["name"], objective, latent_dim)[THESIS]
    return str(found.get("bleu1_sampled", "")) if is_whole_test(report) else ""


def _cell(report: Report | None, name: str) -> str:
    metric = report["metrics"].get(name) if report else None
    return with_error(metric["value"], metric.get("standard_error")) if metric else ""
