"""What a family of metrics contributes to a report: figures with their errors, notes, tables, plots."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from smim.errors import SmimError


@dataclass(frozen=True)
class Figure:
    """One number of a report.

    `standard_error`: of `value` as an estimate for the population that the N items were drawn from, None
    where the figure is no mean. `stdev_over_runs`: between repetitions with fresh noise over the same items,
    as the thesis's tables give it, None for a single run.
    """

    value: float
    standard_error: float | None
    n: int
    runs: int = 1
    stdev_over_runs: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows of plain text; `header` has as many cells as each row."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """A family's part of the report.

    `figures` by name, each defined in `definitions.py`; `notes`: paragraphs of Markdown; `plots`: caption
    by file name, each drawn into the directory that the family was given.
    """

    title: str
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Section":
        return cls(
            title=content["title"],
            figures={name: Figure(**figure) for name, figure in content["figures"].items()},
            notes=content["notes"],
            tables=[Table(**table) for table in content["tables"]],
            plots=content["plots"],
        )


def mean(name: str, values: np.ndarray) -> Figure:
    """The mean over items and runs of `values`, [N] or [N, R]; raises `SmimError` naming a figure with NaN."""
    return ratio(name, values, np.ones(len(values)))


def ratio(name: str, values: np.ndarray, weights: np.ndarray) -> Figure:
    """Sum of `values` ([N] or [N, R]) over sum of `weights` [N], such as nats over tokens.

    The standard error is that of a ratio estimator (Cochran, Sampling Techniques, 6.4).
    """
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    runs = values.sum(0) / weights.sum()
    value = _finite(name, float(runs.mean()))
    error = None
    if len(values) > 1:
        residuals = values.mean(1) - value * weights
        error = float(residuals.std(ddof=1) / (math.sqrt(len(values)) * weights.mean()))
    # Runs that do not differ may still do so by rounding.
    stdev = float(runs.std(ddof=1)) * bool(np.ptp(runs) > 1e-12 * abs(value)) if len(runs) > 1 else None
    return Figure(value, error, n=len(values), runs=len(runs), stdev_over_runs=stdev)


def exponential(name: str, figure: Figure) -> Figure:
    """exp of a figure (below 700), its errors to first order: a perplexity from nats a token."""
    value = _finite(name, math.exp(figure.value))
    errors = [None if error is None else value * error for error in (figure.standard_error, figure.stdev_over_runs)]
    return Figure(value, errors[0], n=figure.n, runs=figure.runs, stdev_over_runs=errors[1])


def scalar(name: str, value: float, *, n: int, standard_error: float | None = None) -> Figure:
    """A figure that is not a mean over items; raises `SmimError` naming it where it is NaN or infinite."""
    return Figure(_finite(name, float(value)), standard_error, n=n)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise SmimError(f"the figure {name!r} came out as {value}; the model is not usable")
    return value
