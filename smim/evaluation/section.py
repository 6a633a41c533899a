"""What a group of metrics contributes to a report: metrics with their errors, notes, tables, plots."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from smim.errors import SmimError


@dataclass(frozen=True)
class Metric:
    """One number of a report.

    `standard_error`: of `value` as an estimate for the population that the N items were drawn from, None
    where the metric is no mean. `stdev_over_runs`: between repetitions with fresh noise over the same items,
    as the thesis's tables give it, None for a single run.
    """

    value: float
    standard_error: float | None
    n: int
    runs: int = 1
    stdev_over_runs: float | None = None


@dataclass(frozen=True)
class Definition:
    """A metric that reports can hold: its name, unit and meaning, and how it comes of what its group has computed.

    `of` takes that and gives a `Metric`, or values of each item, [N] or [N, R] in R runs, whose mean it is. `title`:
    its short name; one with a title is shown at a glance and in comparisons too. `better`: "higher" or "lower", ""
    where neither is. `equation`: where it is from. One of each label column has "{label}" in its texts. `in_tables`: a
    page shows it only in the tables of its section. `zero_is_least`: false where 0 is a value like any other, of which
    an error is no share. `exponent_of`: the metric that it is the exponential of.
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
        """That of one label column; `self` where it is for no label."""
        texts = {key: getattr(self, key).replace("{label}", label) for key in ("meaning", "title")}
        return replace(self, name=f"{self.name}:{label}", **texts) if label else self


@dataclass(frozen=True)
class Table:
    """Rows of plain text; `header` has as many cells as each row."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """A group's part of the report.

    `metrics` by name, each with a `Definition`; `notes`: paragraphs of Markdown; `plots`: caption by file name, each
    drawn into the directory that the group was given; `samples`: what a reader is to see before all numbers.
    """

    title: str
    metrics: dict[str, Metric] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    samples: Table | None = None


def measure(definitions: Iterable[Definition], computed: Any, *, label: str = "") -> dict[str, Metric]:
    """The metrics of what a group has `computed`; those that take a key of it that is not there are left out.

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
    """The mean over items and runs of `values`, [N] or [N, R]."""
    return ratio(values, np.ones(len(values)))


def ratio(values: np.ndarray, weights: np.ndarray) -> Metric:
    """Sum of `values` ([N] or [N, R]) over sum of `weights` [N], such as nats over tokens.

    The standard error is that of a ratio estimator (Cochran, Sampling Techniques, 6.4).
    """
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    runs = values.sum(0) / weights.sum()
    value, error = float(runs.mean()), None
    if len(values) > 1:
        residuals = values.mean(1) - value * weights
        error = float(residuals.std(ddof=1) / (math.sqrt(len(values)) * weights.mean()))
    # Runs that do not differ may still do so by rounding.
    stdev = float(runs.std(ddof=1)) * bool(np.ptp(runs) > 1e-12 * abs(value)) if len(runs) > 1 else None
    return Metric(value, error, n=len(values), runs=len(runs), stdev_over_runs=stdev)


def exponential(metric: Metric) -> Metric:
    """exp of a metric (below 700), its errors to first order: a perplexity from nats a token."""
    value = math.exp(metric.value)
    errors = [None if error is None else value * error for error in (metric.standard_error, metric.stdev_over_runs)]
    return replace(metric, value=value, standard_error=errors[0], stdev_over_runs=errors[1])


def scalar(value: float, *, n: int, standard_error: float | None = None) -> Metric:
    """A metric that is not a mean over items."""
    return Metric(float(value), standard_error, n=n)
