"""The tables of a comparison, in the layout of the thesis's Tables 7.2 to 7.8, with its rows below ours.

The reports of one table are of one set of sentences, or of questions. A table without any of our figures is "".
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from eval.family import architecture_of, settings_of
from eval.thesis import Row, name_of, rows, thesis_figures
from smim.evaluation.markup import literal, rounded, table, with_error
from smim.evaluation.report import is_whole_test

Report = dict[str, Any]


def language_modelling(reports: Sequence[Report]) -> str:
    """Tables 7.2 to 7.5."""
    lines = [
        [
            name,
            _with_stdev(report, "ppl_thesis"),
            *_cells(report, "nll", "bleu1_sampled", "bleu1_greedy", "nll_elbo", "nll_iw", "kl"),
            _active_units(report),
            _parameters(report["model"]["parameters"]),
        ]
        for name, report in named(reports)
        if not {"nll", "bleu1_sampled", "bleu1_greedy"}.isdisjoint(report["figures"])
    ]
    header = ["model (latent dim)", "PPL (stdev)", "NLL", "BLEU-1 sampled", "BLEU-1 greedy",
              "NLL under the prior (ELBO)", "NLL under the prior (IW)", "KL", "active units", "parameters"]  # fmt: skip
    for row in _published(reports, "nll") if lines else []:
        ppl = f"{row.figures['ppl_thesis']} ({row.ppl_stdev})" if "ppl_thesis" in row.figures else ""
        values = [str(row.figures.get(name, "")) for name in ("nll", "bleu1_sampled")]
        lines.append([_published_name(row), ppl, *values, "", "", "", "", "", row.parameters])
    return table(header, lines, optional=header) if lines else ""


def entropy(reports: Sequence[Report]) -> str:
    """Table 7.6."""
    names = ("latent_entropy", "latent_entropy_normal")
    lines = [[name, *_cells(report, *names)] for name, report in named(reports) if names[0] in report["figures"]]
    for row in _published(reports, names[0]) if lines else []:
        lines.append([_published_name(row), *[str(row.figures[name]) for name in names]])
    return table(["model (latent dim)", "entropy", "N(0, I)"], lines) if lines else ""


def bleu(reports: Sequence[Report]) -> str:
    """Table 7.7: a row for each latent size, architecture and seed, where there are models of both kinds."""
    kinds = ("amim", "autoencoder")
    ours = [
        [report for report in reports if report["model"]["objective"] == kind and "bleu1_sampled" in report["figures"]]
        for kind in kinds
    ]
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


def information(reports: Sequence[Report]) -> str:
    """What the codes tell of the sentences, in nats, beside the most that the estimate can show."""
    names = ("mutual_information", "mutual_information_cap", "mutual_information_knn", "posterior_entropy", "kl")
    lines = [
        [name, *_cells(report, *names), _verdict(report)]
        for name, report in named(reports)
        if names[0] in report["figures"]
    ]
    header = ["model (latent dim)", "mutual information", "its cap, log M", "by kNN entropy", "entropy of q(z|x)", "KL",
              "verdict"]  # fmt: skip
    return table(header, lines, optional=header) if lines else ""


def answering(reports: Sequence[Report]) -> str:
    """Table 7.8, with the floors once: they are the same for every model."""
    lines = [[name, *_cells(report, "p_at_1", "mrr")] for name, report in named(reports)]
    for kind, name in {"bm25": "word overlap (BM25)", "random": "random order"}.items():
        floors = [report for report in reports if f"p_at_1_{kind}" in report["figures"]]
        lines += [[name, *_cells(report, f"p_at_1_{kind}", f"mrr_{kind}")] for report in floors[:1]]
    questions = reports[0]["questions"]
    for row in rows():
        if row.corpus == questions["name"] and questions["split"] == "test" and "p_at_1" in row.figures:
            lines.append([_published_name(row), str(row.figures["p_at_1"]), str(row.figures["mrr"])])
    return table(["model (latent dim)", "P@1", "MRR"], lines)


def named(reports: Sequence[Report]) -> list[tuple[str, Report]]:
    """Each report with its model's name, and its directory too where two are called the same."""
    names = [name_of(report) + settings_of(report) for report in reports]
    return [
        (literal(f"{name}, {report['model']['directory']}" if names.count(name) > 1 else name), report)
        for name, report in zip(names, reports, strict=True)
    ]


def _published(reports: Sequence[Report], figure: str) -> list[Row]:
    """Published rows that have a figure, for the sentences that the reports share."""
    if not is_whole_test(reports[0]):
        return []
    return [row for row in rows() if row.corpus == reports[0]["corpus"]["name"] and figure in row.figures]


def _published_name(row: Row) -> str:
    return f"{row.source}: {row.name}"


def _thesis_bleu(report: Report, objective: str, latent_dim: int) -> str:
    if not is_whole_test(report):
        return ""
    return str(thesis_figures(report["corpus"]["name"], objective, latent_dim).get("bleu1_sampled", ""))


def _cells(report: Report, *names: str) -> list[str]:
    return [_cell(report, name) for name in names]


def _cell(report: Report | None, name: str) -> str:
    figure = report["figures"].get(name) if report else None
    return with_error(figure["value"], figure.get("standard_error")) if figure else ""


def _with_stdev(report: Report, name: str) -> str:
    figure = report["figures"].get(name)
    if figure is None:
        return ""
    value, stdev = rounded(figure["value"], figure.get("stdev_over_runs"))
    return f"{value} ({stdev})" if stdev else value


def _active_units(report: Report) -> str:
    figure = report["figures"].get("active_units_relative")
    return f"{figure['value']:.0f} of {report['model']['latent_dim']}" if figure else ""


def _verdict(report: Report) -> str:
    figure = report["figures"].get("collapsed")
    return "" if figure is None else "collapsed" if figure["value"] else "not collapsed"


def _parameters(num: int) -> str:
    return f"{num / 1e6:.1f}M" if num >= 1e5 else f"{num:,}"
