"""The pictures of figures: curves over a setting, bars, and what models of two dimensions make of their data; as PNG.

Shapes: N vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.collections import EllipseCollection

from smim.evaluation.plots import plt, save
from smim.model.distributions import DiagonalGaussian

# The thesis's VAE is red and its MIM blue; methods beyond the first two get the others.
_COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:gray")
_LOG_SCALE_FROM = 20  # where the largest of the values is so many times the smallest
_SHOWN_POSTERIORS, _SHOWN_RECONSTRUCTIONS = 100, 1000
_LEVELS, _GRID = 6, 120


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds; the latter None for one seed."""

    mean: float
    stdev: float | None


@dataclass(frozen=True)
class Panel:
    """One quantity: its spread by method and by the value of what is varied, None where nothing is.

    `reference`: the name and height of a line.
    """

    title: str
    methods: Mapping[str, Mapping[float | None, Spread]]
    reference: tuple[str, float] | None = None


@dataclass(frozen=True)
class Plane:
    """A model of two dimensions: `reconstructions` fp32 [N, 2] and `posterior` of N vectors, and what to write in."""

    title: str
    reconstructions: np.ndarray
    posterior: DiagonalGaussian
    inset: str


def curves(panels: Sequence[Panel], output: Path, *, xlabel: str) -> None:
    """A panel a quantity, a line a method, with a band of a standard deviation; as Figure 5.2 of the thesis."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.2), squeeze=False, layout="constrained")
    for axis, panel in zip(axes[0], panels, strict=True):
        for colour, (method, points) in zip(_COLOURS, panel.methods.items(), strict=False):
            values, means, stdevs = _columns(points)
            axis.plot(values, means, marker=".", color=colour, label=method)
            axis.fill_between(values, means - stdevs, means + stdevs, color=colour, alpha=0.2, linewidth=0)
        if values[-1] >= _LOG_SCALE_FROM * values[0]:
            axis.set_xscale("log")
        axis.set_xticks(values, [f"{value:g}" for value in values], minor=False)
        axis.set_xticks([], minor=True)
        if panel.reference:
            name, height = panel.reference
            axis.axhline(height, color="gray", linestyle="--", label=name)
        axis.set(title=panel.title, xlabel=xlabel)
        axis.legend(fontsize="x-small")
    save(figure, output)


def bars(panels: Sequence[Panel], output: Path) -> None:
    """A panel a quantity, a bar a method, with a standard deviation."""
    figure, axes = plt.subplots(1, len(panels), figsize=(2.4 * len(panels), 3.4), squeeze=False, layout="constrained")
    for axis, panel in zip(axes[0], panels, strict=True):
        for colour, (method, points) in zip(_COLOURS, panel.methods.items(), strict=False):
            _, means, stdevs = _columns(points)
            axis.bar(method, means[0], yerr=stdevs[0], capsize=3, color=colour)
        heights = [points[None].mean for points in panel.methods.values()]
        if min(heights) > 0 and max(heights) >= _LOG_SCALE_FROM * min(heights):
            axis.set_yscale("log")
        axis.set(title=panel.title)
        axis.tick_params(axis="x", rotation=60, labelsize="small")
    save(figure, output)


def planes(models: Sequence[Plane], output: Path, *, log_density: Callable[[np.ndarray], np.ndarray]) -> None:
    """Figure 5.1 of the thesis: a column a model, reconstructions above and posteriors below.

    `log_density`: log P(x) of [N, 2] in nats [N], whose level sets are black.
    """
    size = (2.7 * len(models), 5.4)
    figure, axes = plt.subplots(2, len(models), figsize=size, squeeze=False, layout="constrained")
    for (above, below), model in zip(axes.T, models, strict=True):
        _contours(above, log_density)
        above.scatter(*model.reconstructions[:_SHOWN_RECONSTRUCTIONS].T, s=1, color="red")
        above.set_title(model.title, fontsize="medium")
        above.text(0.03, 0.03, model.inset, transform=above.transAxes, fontsize="small")
        _ellipses(below, model.posterior)
        for axis, extent in ((above, 2.0), (below, 3.0)):
            axis.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[])
    save(figure, output)


def _columns(points: Mapping[float | None, Spread]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, means and standard deviations, that of one seed as 0."""
    spreads = points.values()
    return np.array([*points]), np.array([s.mean for s in spreads]), np.array([s.stdev or 0.0 for s in spreads])


def _contours(axis: plt.Axes, log_density: Callable[[np.ndarray], np.ndarray]) -> None:
    ticks = np.linspace(-2, 2, _GRID)
    grid = np.stack(np.meshgrid(ticks, ticks), -1)
    density = np.exp(log_density(grid.reshape(-1, 2))).reshape(_GRID, _GRID)
    axis.contour(ticks, ticks, density, levels=_LEVELS, colors="black", linewidths=0.8)


def _ellipses(axis: plt.Axes, posterior: DiagonalGaussian) -> None:
    """One standard deviation of some posteriors, and of N(0, I)."""
    widths, heights = 2 * posterior.standard_deviation[:_SHOWN_POSTERIORS].numpy().T
    ellipses = EllipseCollection(
        widths,
        heights,
        np.zeros(len(widths)),
        units="xy",
        offsets=posterior.mean[:_SHOWN_POSTERIORS].numpy(),
        offset_transform=axis.transData,
        facecolors="none",
        edgecolors="green",
    )
    axis.add_collection(ellipses)
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, linestyle="--", linewidth=1.5))
