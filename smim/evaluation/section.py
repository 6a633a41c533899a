"""The part of a report by one metric group: metrics with their errors, notes, tables, plots."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from smim.errors import SmimError


@dataclass(frozen=True)
class Metric:
    """One number of a report.

    `standard_error`: that of `value` as an estimate for the population of the N items; None if the metric is not a
    mean. `stdev_over_runs`: the standard deviation between repetitions with new noise on the same items, as in the
    thesis's tables; None for a single run.
    """

    value: float
    standard_error: float | None
    n: int
    runs: int = 1
    stdev_over_runs: float | None = None


@dataclass(frozen=True)
class Definition:
    """A metric of reports: its name, unit and meaning, and the function that computes it from its group's results.

    `of` maps the results to a `Metric`, or to values per item, [N] or [N, R] for R runs, whose mean is the metric.
    `title`: a short name; metrics with a title also appear in the summary and in comparisons. `better`: "higher",
    "lower", or "" for neither. `equation`: the source. Metrics per label column have "{label}" in their texts.
    `in_tables`: a page shows the metric only in its section's tables. `zero_is_least`: false if values can be negative,
    so that relative errors make no sense. `exponent_of`: the metric of which this is the exponential.
    """

    name: str
    unit: str
    meaning: str
    of: Callable[[Any], Metric | np.ndarray]
    title: str = ""
    better: str = ""
    equation: str = ""
    in_tables: bool = False
    zero_is_least: bool = True
    exponent_of: str = ""

    def for_label(self, label: str) -> "Definition":
        """The definition for one label column; `self` if the label is empty."""
        texts = {key: getattr(self, key).replace("{label}", label) for key in ("meaning", "title")}
        return replace(self, name=f"{self.name}:{label}", **texts) if label else self


@dataclass(frozen=True)
class Table:
    """A table of plain text. `header` has as many cells as each row."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """A group's part of the report.

    `metrics`: by name, each with a `Definition`. `notes`: paragraphs of Markdown. `plots`: captions by file name; the
    files are in the directory that the group was given. `samples`: a table that readers see before all numbers.
    """

    title: str
    metrics: dict[str, Metric] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    samples: Table | None = None


def measure(definitions: Iterable[Definition], computed: Any, *, label: str = "") -> dict[str, Metric]:
    """Compute the metrics from a group's results. A metric is left out if it needs a key that `computed` lacks.

    Raises `SmimError` naming a metric that is NaN or infinite.
    """
    metrics = {}
    for definition in definitions:
        try:
            found = definition.of(computed)
        except KeyError:
            continue
        name = definition.for_label(label).name
        metrics[name] = found if isinstance(found, Metric) else mean(found)
        if not math.isfinite(metrics[name].value):
            raise SmimError(f"the metric {name!r} came out as {metrics[name].value}; the model is not usable")
    return metrics


def mean(values: np.ndarray) -> Metric:
    """Compute the mean over items and runs of `values`, [N] or [N, R]."""
    return ratio(values, np.ones(len(values)))


def ratio(values: np.ndarray, weights: np.ndarray) -> Metric:
    """Compute the sum of `values` ([N] or [N, R]) divided by the sum of `weights` [N], such as nats per token.

    The standard error is that of a ratio estimator (Cochran, Sampling Techniques, 6.4).
    """
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    runs = values.sum(0) / weights.sum()
    value, error = float(runs.mean()), None
    if len(values) > 1:
        residuals = values.mean(1) - value * weights
        error = float(residuals.std(ddof=1) / (math.sqrt(len(values)) * weights.mean()))
    # Equal runs can differ by rounding.
    stdev = float(runs.std(ddof=1)) * bool(np.ptp(runs) > 1e-12 * abs(value)) if len(runs) > 1 else None
    return Metric(value, error, n=len(values), runs=len(runs), stdev_over_runs=stdev)


def exponential(metric: Metric) -> Metric:
    """Compute exp of a metric (below 700) with first-order errors, such as a perplexity from nats per token."""
    value = math.exp(metric.value)
    errors = [None if error is None else value * error for error in (metric.standard_error, metric.stdev_over_runs)]
    return replace(metric, value=value, standard_error=errors[0], stdev_over_runs=errors[1])


def scalar(value: float, *, n: int, standard_error: float | None = None) -> Metric:
    """Make a metric that is not a mean over items."""
    return Metric(float(value), standard_error, n=n)
