"""The tables of a comparison, in the layout of the thesis's Tables 7.2 to 7.8, with its rows below ours.

All reports of a table are for the same sentences or questions. A table without any of our metrics is "".
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from eval.seeds import architecture_of, settings_of
from eval.thesis import THESIS, rows
from smim.evaluation.groups import definition, headlines
from smim.evaluation.markup import literal, prose, rounded, table, with_error
from smim.evaluation.reference import Row, name_of
from smim.evaluation.report import is_whole_test

Report = dict[str, Any]


_LANGUAGE_MODELLING = ["ppl_thesis", "nll", "bleu1_sampled", "bleu1_greedy", "nll_elbo", "nll_iw", "kl",
                       "active_units_relative", "parameters"]  # fmt: skip
_TEXT_VAES = ["nll_with_eos_iw", "nll_with_eos_elbo", "nll_with_eos_train_prior", "kl", "mutual_information",
              "mutual_information_in_batches", "active_units", "ppl_with_eos_iw", "parameters"]  # fmt: skip
_ENTROPY, _ANSWERING = ["latent_entropy", "latent_entropy_normal"], ["p_at_1", "mrr"]
# Columns with other names than the metric's title, and columns that are not metrics.
_TITLES = {"ppl_thesis": "PPL (stdev)", "parameters": "parameters", "collapsed": "verdict",
           "nll_with_eos_iw": "NLL (IW)", "nll_with_eos_elbo": "NLL (ELBO)",
           "nll_with_eos_train_prior": "NLL (training posteriors)", "mutual_information_in_batches": "MI of 32",
           "active_units": "AU", "ppl_with_eos_iw": "PPL of NLL (IW)"}  # fmt: skip
_OF_TEXT_VAES = (
    "As papers about text VAEs print it: NLL and PPL count `<eos>`. They are bounds under the model's own prior, or "
    "under training posteriors; a language model's are exact. AU are dimensions whose posterior mean has a variance "
    "above 0.01. MI of 32 is the mutual information within batches of at most 32 sentences, so at most 3.47."
)


def language_modelling(reports: Sequence[Report]) -> str:
    """Tables 7.2 to 7.5."""
    ours = _with_any(reports, ["nll", "bleu1_sampled", "bleu1_greedy"])
    return _table(ours, _LANGUAGE_MODELLING, _published(ours, "nll"))


def text_vaes(reports: Sequence[Report]) -> str:
    """The table that papers about text VAEs print: NLL, KL, mutual information, active units and perplexity."""
    shown = _table(_with_any(reports, ["ppl_with_eos_iw"]), _TEXT_VAES)
    return f"{_OF_TEXT_VAES}\n\n{shown}" if shown else ""


def entropy(reports: Sequence[Report]) -> str:
    """Table 7.6."""
    ours = _with_any(reports, _ENTROPY[:1])
    return _table(ours, _ENTROPY, _published(ours, _ENTROPY[0]))


def bleu(reports: Sequence[Report]) -> str:
    """Table 7.7: a row for each latent size, architecture and seed with models of both kinds."""
    kinds = ("amim", "autoencoder")
    with_bleu = _with_any(reports, ["bleu1_sampled"])
    ours = [[report for report in with_bleu if report["model"]["objective"] == kind] for kind in kinds]
    of_thesis = {
        (row.objective, row.latent_dim): row
        for row in _published(reports, "bleu1_sampled")
        if row.source == THESIS and row.trained_on == row.corpus
    }
    lines = []
    for key in sorted({_of_one_size(report) for of_kind in ours for report in of_kind}):
        size, architecture, _ = key
        thesis = [
            _theirs(of_thesis[kind, size], "bleu1_sampled") if (kind, size) in of_thesis else "" for kind in kinds
        ]
        for pair in zip_longest(*[[report for report in of_kind if _of_one_size(report) == key] for of_kind in ours]):
            cells = [_ours(report, name) for name in ("bleu1_sampled", "bleu1_greedy") for report in pair]
            lines.append([f"{size}{architecture}", *cells, *thesis])
    header = ["latent dim", "sMIM sampled", "AE sampled", "sMIM greedy", "AE greedy", "thesis: sMIM", "thesis: AE"]
    return table(header, lines, optional=header) if all(ours) else ""


def _of_one_size(report: Report) -> tuple[int, str, int]:
    return report["model"]["latent_dim"], architecture_of(report), report["model"]["seed"]


def further(reports: Sequence[Report]) -> str:
    """The table of all metrics with a title that no table of the thesis shows, and whether the code has collapsed."""
    shown = {*_LANGUAGE_MODELLING, *_ENTROPY, *_ANSWERING}
    every = headlines(name for report in reports for name in report["metrics"])
    names = [each.name for each in every if each.name not in shown]
    return _table(_with_any(reports, names), [*names, "kl", "collapsed"])


def answering(reports: Sequence[Report]) -> str:
    """Table 7.8, with the baselines once, because they are the same for all models."""
    questions, floors = reports[0]["questions"], []
    for kind, name in {"bm25": "word overlap (BM25)", "random": "random order"}.items():
        for report in _with_any(reports, [f"p_at_1_{kind}"])[:1]:
            floors.append([name, *(_ours(report, f"{metric}_{kind}") for metric in _ANSWERING)])
    of_test = questions["split"] == "test"
    published_rows = [row for row in rows() if of_test and row.corpus == questions["name"] and "p_at_1" in row.metrics]
    return _table(reports, _ANSWERING, published_rows, floors=floors)


def named(reports: Sequence[Report]) -> list[tuple[str, Report]]:
    """Return each report with its model's name, and with its directory if two names are equal."""
    names = [name_of(report) + settings_of(report) for report in reports]
    return [
        (literal(f"{name}, {report['model']['directory']}" if names.count(name) > 1 else name), report)
        for name, report in zip(names, reports, strict=True)
    ]


def in_millions(num: int) -> str:
    """Format a count of parameters, such as "3.1M"; a small one in full."""
    return f"{num / 1e6:.1f}M" if num >= 1e5 else f"{num:,}"


def _table(
    reports: Sequence[Report],
    names: Sequence[str],
    published_rows: Sequence[Row] = (),
    *,
    floors: Sequence[list[str]] = (),
) -> str:
    """Make a table with a column per name, of our rows, the `floors`, and published rows; "" without rows of ours."""
    lines = [[model, *(_ours(report, name) for name in names)] for model, report in named(reports)]
    theirs = [[f"{row.source}: {row.name}", *(_theirs(row, name) for name in names)] for row in published_rows]
    header = ["model (latent dim)", *(_TITLES.get(name) or prose(definition(name).title) for name in names)]
    return table(header, [*lines, *floors, *theirs], optional=header) if lines else ""


def _with_any(reports: Sequence[Report], names: Sequence[str]) -> list[Report]:
    return [report for report in reports if not report["metrics"].keys().isdisjoint(names)]


def _published(reports: Sequence[Report], name: str) -> list[Row]:
    """The published rows that have a metric, for the sentences of the reports."""
    shared = reports[0]["corpus"]["name"] if reports and is_whole_test(reports[0]) else None
    return [row for row in rows() if row.corpus == shared and name in row.metrics]


def _ours(report: Report | None, name: str) -> str:
    """The cell of a report; "" if it has no such metric."""
    if report and name == "parameters":
        return in_millions(report["model"]["parameters"])
    metric = report["metrics"].get(name) if report else None
    if metric is None or report is None:
        return ""
    if name == "ppl_thesis":
        value, stdev = rounded(metric["value"], metric.get("stdev_over_runs"))
        return f"{value} ({stdev})" if stdev else value
    if name == "active_units_relative":
        return f"{metric['value']:.0f} of {report['model']['latent_dim']}"
    if name == "collapsed":
        return "collapsed" if metric["value"] else "not collapsed"
    return with_error(metric["value"], metric.get("standard_error"))


def _theirs(row: Row, name: str) -> str:
    """The cell of a published model."""
    value = row.parameters if name == "parameters" else str(row.metrics.get(name, ""))
    return f"{value} ({row.ppl_stdev})" if value and name == "ppl_thesis" else value
