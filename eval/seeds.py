"""Comparison of objectives over seeds: the effect of each objective, relative to the variation between seeds.

A row has the reports of one objective with equal architecture, settings, size and training corpus, over all seeds. If
a seed has several reports, the first one counts.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from smim.evaluation.groups import headlines
from smim.evaluation.markup import literal, prose, table, with_error
from smim.evaluation.reference import name_of
from smim.evaluation.section import Definition

Report = dict[str, Any]

_REFERENCE = "vae"
# The thesis's architecture, which a model's name omits.
_USUAL_ARCHITECTURES = ("gru", "mlp")


def over_seeds(reports: Sequence[Report]) -> str:
    """Make the table of means and standard deviations over seeds; "" if no objective has more than one seed."""
    groups = _groups(reports)
    if all(len(group) < 2 for group in groups.values()):
        return ""
    lines = [
        [name, str(len(group)), *(_mean_and_stdev(_values(group, each.name)) for each in _headlines(reports))]
        for name, group in groups.items()
    ]
    return _table(["model (latent dim)", "seeds"], lines, reports)


def differences(reports: Sequence[Report]) -> str:
    """Make tables of each objective's difference from the plain VAE, in units of the spread between seeds.

    (mean - mean of the VAE) / sqrt((variance + variance of the VAE) / 2): above about 3 it is not due to random seeds.
    There is a table for each architecture with such a VAE.
    """
    by_architecture: dict[str, list[Report]] = {}
    for report in reports:
        by_architecture.setdefault(architecture_of(report), []).append(report)
    return "\n\n".join(filter(None, map(_differences, by_architecture.values())))


def _differences(reports: Sequence[Report]) -> str:
    groups = {name: group for name, group in _groups(reports).items() if len(group) > 1}
    plain = [
        name
        for name, [first, *_] in groups.items()
        if first["model"]["objective"] == _REFERENCE and not first["model"].get("settings")
    ]
    if not plain or len(groups) < 2:
        return ""
    reference = groups.pop(plain[0])
    lines = [
        [name, *(_in_spreads(_values(group, each.name), _values(reference, each.name)) for each in _headlines(reports))]
        for name, group in groups.items()
    ]
    return _table([f"less {plain[0]}, in spreads"], lines, reports)


def settings_of(report: Report) -> str:
    """The unusual properties of a model: architecture, settings, prior, another training corpus; such as ", beta 4"."""
    settings, trained_on = report["model"].get("settings", {}), report["model"].get("trained_on")
    elsewhere = f", trained on {trained_on}" if trained_on not in (None, report["corpus"]["name"]) else ""
    unusual = "".join(f", {name} {value}" for name, value in sorted(settings.items()))
    return architecture_of(report) + unusual + elsewhere


def architecture_of(report: Report) -> str:
    """The encoder and decoder, such as ", transformer"; "" for the thesis's."""
    architecture = report["model"].get("architecture")
    return "" if architecture is None or architecture in _USUAL_ARCHITECTURES else f", {architecture}"


def _groups(reports: Sequence[Report]) -> dict[str, list[Report]]:
    """Group reports, one per seed, by the model's name, and by its parameters if models of a name differ in size."""
    names = [literal(name_of(report) + settings_of(report)) for report in reports]
    sizes = [report["model"]["parameters"] for report in reports]
    groups: dict[str, dict[int, Report]] = {}
    for name, size, report in zip(names, sizes, reports, strict=True):
        alike = {other for other_name, other in zip(names, sizes, strict=True) if other_name == name}
        key = f"{name}, {size:,} parameters" if len(alike) > 1 else name
        groups.setdefault(key, {}).setdefault(report["model"]["seed"], report)
    return {name: list(group.values()) for name, group in groups.items()}


def _headlines(reports: Sequence[Report]) -> list[Definition]:
    return headlines(name for report in reports for name in report["metrics"])


def _table(leading: list[str], lines: list[list[str]], reports: Sequence[Report]) -> str:
    header = [*leading, *(prose(each.title) for each in _headlines(reports))]
    return table(header, lines, optional=header)


def _values(group: Sequence[Report], metric: str) -> list[float]:
    return [report["metrics"][metric]["value"] for report in group if metric in report["metrics"]]


def _mean_and_stdev(values: Sequence[float]) -> str:
    return with_error(fmean(values), stdev(values) if len(values) > 1 else None) if values else ""


def _in_spreads(values: Sequence[float], reference: Sequence[float]) -> str:
    if min(len(values), len(reference)) < 2:
        return ""
    difference = fmean(values) - fmean(reference)
    spread = math.hypot(stdev(values), stdev(reference)) / math.sqrt(2)
    if spread:
        return f"{difference / spread:+.1f}"
    return f"{math.copysign(math.inf, difference):+}" if difference else "0"
