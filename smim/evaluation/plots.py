"""Plots of trainings, latent spaces and metrics, as PNG.

Shapes: N sentences or vectors, D latent dimensions.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.collections import EllipseCollection

from smim.evaluation.consistency import Pair
from smim.model.distributions import DiagonalGaussian

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# As in the thesis, the first method (VAE) is red and the second (MIM) is blue.
_COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:gray")
_SHAPES = "o^sDv"
_LOG_SCALE_FROM = 20  # smallest ratio of the largest to the smallest value for which an axis is logarithmic
_SHOWN_POSTERIORS, _SHOWN_RECONSTRUCTIONS = 100, 1000
_LEVELS, _GRID = 6, 120


@dataclass(frozen=True)
class Panel:
    """The plot of one quantity: the points of each method, one for each `value` of the varied setting.

    A point has `value` (None if nothing is varied), `mean`, and `stdev`: the standard deviation over seeds or the
    standard error, None if unknown. `reference`: the name and height of a line.
    """

    title: str
    methods: Mapping[str, Sequence[dict[str, Any]]]
    reference: tuple[str, float] | None = None


@dataclass(frozen=True)
class Plane:
    """The plot of a model of two dimensions: `reconstructions` fp32 [N, 2], the `posterior` of N vectors, and texts."""

    title: str
    reconstructions: np.ndarray
    posterior: DiagonalGaussian
    inset: str


@dataclass(frozen=True)
class Chains:
    """The row of a model of two dimensions in InfoVAE's Figure 1.

    `ancestral` and `chain`: samples fp32 [N, 2] from the prior, and at the end of Markov chains. `history`: the
    validation lines of the training's metrics.jsonl. `inset`: text.
    """

    title: str
    ancestral: np.ndarray
    chain: np.ndarray
    history: Sequence[Mapping[str, Any]]
    inset: str


@contextmanager
def _axes(output: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[np.ndarray]:
    """Make axes [rows, columns] of `size` inches each, and write them to `output` at the end."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, layout="constrained"
    )
    yield axes
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120, bbox_inches="tight")
    plt.close(figure)


def learning_curves(runs: Mapping[str, Path], output: Path) -> None:
    """Plot -log p(x|z) and KL of the validation set against the step, one line per run, from its metrics.jsonl."""
    titles = {"reconstruction": "-log p(x|z) of the validation set", "kl": "KL(q(z|x) || p(z))"}
    with _axes(output, 1, 2, (6, 4)) as [axes]:
        for name, run in runs.items():
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
            valid = [line for line in lines if line["split"] == "valid"]
            for axis, (term, title) in zip(axes, titles.items(), strict=True):
                axis.plot([line["step"] for line in valid], [line[term] for line in valid], marker=".", label=name)
                axis.set(title=title, xlabel="optimizer steps", ylabel="nats per sentence")
        axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))  # beside the axes, so that it hides no line
        axes[1].set_yscale("symlog")


def latent_maps(
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]], output: Path, *, size: tuple[float, float] = (7.5, 5)
) -> None:
    """Plot points [N, 2] in a panel of `size` inches for each title.

    Values [N], class names or numbers, give the colours.
    """
    columns = min(2, len(maps))
    with _axes(output, -(-len(maps) // columns), columns, size) as axes:
        for axis in axes.flat[len(maps) :]:
            axis.remove()
        for axis, (title, (points, values)) in zip(axes.flat, maps.items(), strict=False):
            axis.set(title=title, xticks=[], yticks=[])
            if np.issubdtype(values.dtype, np.number):
                axis.figure.colorbar(axis.scatter(*points.T, s=4, c=values, cmap="viridis"), ax=axis)
                continue
            names, numbers = np.unique(values, return_inverse=True)
            colours, last = next(
                each
                for each in (("tab10", 9), ("tab20", 19), ("nipy_spectral", len(names)))
                if len(names) <= each[1] + 1
            )
            shown = axis.scatter(*points.T, s=4, c=numbers, cmap=colours, vmin=0, vmax=last)
            place = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "ncols": -(-len(names) // 25)}
            axis.legend(shown.legend_elements(num=None, size=6)[0], names, fontsize="small", **place)


def tsne(codes: np.ndarray, *, seed: int) -> np.ndarray:
    """Map the codes [N, D] of at least 4 sentences to two dimensions with t-SNE, [N, 2]."""
    from sklearn.manifold import TSNE

    # The usual perplexity, if there are enough neighbours for it.
    perplexity = min(30.0, (len(codes) - 1) / 3)
    return TSNE(2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(codes)


def melbo_by_set_size(panels: Mapping[str, np.ndarray], output: Path) -> None:
    """Plot MELBO against the number K of sentences in the set, from -log p(x|z) of N sentences (Figure D.2).

    There is a panel for each title. It shows the mean and standard deviation over all subsets of K sentences. They are
    exact, from the variance of a mean without replacement (Cochran, Sampling Techniques, 2.2). The thesis draws random
    subsets instead.
    """
    with _axes(output, 1, len(panels), (6, 4) if len(panels) == 1 else (4.5, 3.4)) as [axes]:
        for axis, (title, reconstruction) in zip(axes, panels.items(), strict=True):
            num, mean = len(reconstruction), reconstruction.mean()
            sizes, beyond = np.unique(np.geomspace(min(10, num), num, 60).astype(int)), np.geomspace(num, 1e9, 50)
            stdev = reconstruction.std(ddof=1) if num > 1 else 0.0
            error = stdev / np.sqrt(sizes) * np.sqrt(1 - sizes / num)
            middle = mean + np.log(sizes)
            axis.fill_between(sizes, middle - error, middle + error, alpha=0.25, label="standard deviation")
            axis.plot(sizes, middle, label="mean")
            axis.plot(beyond, mean + np.log(beyond), "--", color="gray", label="extrapolated")
            axis.plot([num], [mean + np.log(num)], "rx", label=f"this set, {num:,} sentences")
            axis.set(title=title, xscale="log", xlabel="sentences in the set")
        axes[0].set_ylabel("MELBO, nats per sentence")
        axes[-1].legend()


def histograms(panels: Mapping[str, Mapping[str, np.ndarray]], output: Path, *, xlabel: str) -> None:
    """Plot histograms of values [N] by label in a panel for each title. Dashed lines are the means."""
    with _axes(output, 1, len(panels), (4.5, 3.4)) as [axes]:
        for axis, (title, values) in zip(axes, panels.items(), strict=True):
            every = np.concatenate(list(values.values()))
            bins = np.histogram_bin_edges(every, min(80, max(5, len(every) // 10)))
            for colour, (label, sample) in zip(("tab:blue", "tab:orange"), values.items(), strict=False):
                axis.hist(sample, bins=bins, alpha=0.6, color=colour, label=label)
                axis.axvline(float(np.mean(sample)), color=colour, linestyle="--")
            axis.set_title(title, fontsize="small")
            axis.set(xlabel=xlabel)
            axis.locator_params(axis="x", nbins=5)
            if len(values) > 1:
                axis.legend()
        axes[0].set_ylabel("sentences")


def lines(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], output: Path, **settings: Any) -> None:
    """Plot a line (x, y) for each name. `settings`: those of the axis."""
    with _axes(output, 1, 1, (6, 4)) as [[axis]]:
        for name, (x, y) in curves.items():
            axis.plot(x, y, marker="." if len(x) <= 60 else None, label=name)
        axis.set(**settings)
        axis.legend()


def scatters(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], output: Path, *, xlabel: str, ylabel: str) -> None:
    """Plot points (x [N], y [N]) in a panel for each title."""
    with _axes(output, 1, len(panels), (4, 3.4)) as [axes]:
        for axis, (title, (x, y)) in zip(axes, panels.items(), strict=True):
            axis.scatter(x, y, s=6, alpha=0.4, linewidths=0)
            axis.set(title=title, xlabel=xlabel)
        axes[0].set_ylabel(ylabel)


def points(
    named: Mapping[str, tuple[float, float]], lines: Mapping[str, float], output: Path, *, xlabel: str, ylabel: str
) -> None:
    """Plot a point (x, y) for each name in `named`, and a horizontal line for each name in `lines`."""
    with _axes(output, 1, 1, (7, 4.2)) as [[axis]]:
        # Points with the same colour have different shapes.
        for number, ((name, (x, y)), colour) in enumerate(zip(named.items(), cycle(_COLOURS))):
            axis.plot(x, y, _SHAPES[number // len(_COLOURS) % len(_SHAPES)], color=colour, label=name)
        for (name, y), style in zip(lines.items(), cycle(("--", ":", "-."))):
            axis.axhline(y, color="gray", linestyle=style, linewidth=1, label=name)
        axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
        axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def dots(values: Mapping[str, Mapping[str, tuple[float, float]]], output: Path) -> None:
    """Plot a row for each name, from the top, with a value and its standard error for each method."""
    places = {name: -row for row, name in enumerate(values)}
    with _axes(output, 1, 1, (7, 1 + 0.35 * len(values))) as [[axis]]:
        for method in dict.fromkeys(method for of_name in values.values() for method in of_name):
            found = [(*of_name[method], places[name]) for name, of_name in values.items() if method in of_name]
            value, error, place = zip(*found, strict=True)
            axis.errorbar(value, place, xerr=error, fmt="o", markersize=5, capsize=2, label=method)
        axis.set_yticks(list(places.values()), list(places))
        axis.grid(axis="x", alpha=0.3)
        axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def curves(panels: Sequence[Panel], output: Path, *, xlabel: str) -> None:
    """Plot a panel per quantity and a line per method, with a band of one standard deviation (Figure 5.2)."""
    with _axes(output, 1, len(panels), (3.4, 3.2)) as [axes]:
        for axis, by_method in _by_method(axes, panels):
            for method, (colour, values, means, stdevs) in by_method.items():
                axis.plot(values, means, marker=".", color=colour, label=method)
                axis.fill_between(values, means - stdevs, means + stdevs, color=colour, alpha=0.2, linewidth=0)
            if values[-1] >= _LOG_SCALE_FROM * values[0]:
                axis.set_xscale("log")
            axis.set_xticks(values, [f"{value:g}" for value in values], minor=False)
            axis.set_xticks([], minor=True)
            axis.set(xlabel=xlabel)
            axis.legend(fontsize="x-small")


def bars(panels: Sequence[Panel], output: Path) -> None:
    """Plot a panel per quantity and a bar per method, with its standard deviation or standard error."""
    with _axes(output, 1, len(panels), (2.4, 3.4)) as [axes]:
        for axis, by_method in _by_method(axes, panels):
            for method, (colour, _, means, stdevs) in by_method.items():
                axis.bar(method, means[0], yerr=stdevs[0], capsize=3, color=colour)
            heights = [means[0] for _, _, means, _ in by_method.values()]
            if min(heights) > 0 and max(heights) >= _LOG_SCALE_FROM * min(heights):
                axis.set_yscale("log")
            axis.tick_params(axis="x", rotation=60, labelsize="small")


def planes(models: Sequence[Plane], output: Path, *, log_density: Callable[[np.ndarray], np.ndarray]) -> None:
    """Plot a column per model as in Figure 5.1: reconstructions above, one standard deviation of posteriors below.

    `log_density`: the function from vectors [N, 2] to log P(x) in nats [N]. Its level sets are drawn in black.
    """
    with _axes(output, 2, len(models), (2.7, 2.7)) as axes:
        for (above, below), model in zip(axes.T, models, strict=True):
            _level_sets(above, log_density)
            above.scatter(*model.reconstructions[:_SHOWN_RECONSTRUCTIONS].T, s=1, color="red")
            above.set_title(model.title, fontsize="medium")
            above.text(0.03, 0.03, model.inset, transform=above.transAxes, fontsize="small")
            widths, heights = 2 * model.posterior.standard_deviation[:_SHOWN_POSTERIORS].numpy().T
            ellipses = EllipseCollection(
                widths,
                heights,
                np.zeros(len(widths)),
                units="xy",
                offsets=model.posterior.mean[:_SHOWN_POSTERIORS].numpy(),
                offset_transform=below.transData,
                facecolors="none",
                edgecolors="green",
            )
            below.add_collection(ellipses)
            below.add_patch(plt.Circle((0, 0), 1, fill=False, linestyle="--", linewidth=1.5))
            for axis, extent in ((above, 2.0), (below, 3.0)):
                axis.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[])


def chains(models: Sequence[Chains], output: Path, *, log_density: Callable[[np.ndarray], np.ndarray]) -> None:
    """Plot a row per model as in InfoVAE's Figure 1: samples from the prior, from a Markov chain, and the training.

    `log_density`: the function from vectors [N, 2] to log P(x) in nats [N], whose level sets are drawn in black.
    """
    with _axes(output, len(models), 3, (2.7, 2.4)) as axes:
        for (ancestral, chain, training), model in zip(axes, models, strict=True):
            for axis, samples, title in (
                (ancestral, model.ancestral, "from the prior"),
                (chain, model.chain, "Markov chain"),
            ):
                _level_sets(axis, log_density)
                axis.scatter(*samples[:_SHOWN_RECONSTRUCTIONS].T, s=1, color="red")
                axis.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal", xticks=[], yticks=[])
                axis.set_title(f"{model.title}: {title}", fontsize="small")
            steps = [line["step"] for line in model.history]
            for term, name in (("kl", "KL(q(z|x) || p(z))"), ("reconstruction", "-log p(x|z)")):
                training.plot(steps, [line[term] for line in model.history], marker=".", label=name)
            training.set(xlabel="optimizer steps", ylabel="nats")
            training.set_title(model.inset, fontsize="small")
            training.legend(fontsize="x-small")


def _level_sets(axis: plt.Axes, log_density: Callable[[np.ndarray], np.ndarray]) -> None:
    ticks = np.linspace(-2, 2, _GRID)
    grid = np.stack(np.meshgrid(ticks, ticks), -1)
    density = np.exp(log_density(grid.reshape(-1, 2))).reshape(_GRID, _GRID)
    axis.contour(ticks, ticks, density, levels=_LEVELS, colors="black", linewidths=0.8)


def densities(columns: Mapping[str, tuple[Pair, str]], output: Path) -> None:
    """Plot a column for each title as in Figure B.1: x above and z below, with the density of the given name filled.

    The anchor is dashed. The prior q(x) is red, and p(z) is blue.
    """
    with _axes(output, 2, len(columns), (2.3, 1.9)) as axes:
        for above_and_below, (title, (pair, shown)) in zip(axes.T, columns.items(), strict=True):
            styles = (("x", "tab:red", "tab:green"), ("z", "tab:blue", "gold"))
            for axis, each, (name, of_prior, filled) in zip(above_and_below, pair, styles, strict=True):
                axis.fill_between(each.points, getattr(each, shown), color=filled, alpha=0.6, linewidth=0)
                axis.plot(each.points, each.prior, color=of_prior)
                axis.plot(each.points, each.anchor, "--", color="black", linewidth=1)
                axis.set(ylim=(0, 1.6 * each.anchor.max()), yticks=[], xlabel=name)
            above_and_below[0].set_title(title, fontsize="small")


def _by_method(axes: np.ndarray, panels: Sequence[Panel]) -> Iterator[tuple[plt.Axes, dict[str, Any]]]:
    """Yield each axis with the colour, values, means and standard deviations of each method (0 for one seed)."""
    for axis, panel in zip(axes, panels, strict=True):
        axis.set(title=panel.title)
        if panel.reference:
            name, height = panel.reference
            axis.axhline(height, color="gray", linestyle="--", label=name)
        found = {}
        for colour, (method, points) in zip(_COLOURS, panel.methods.items(), strict=False):
            means, stdevs = np.array([[each["mean"], each["stdev"] or 0.0] for each in points]).T
            found[method] = (colour, np.array([each["value"] for each in points]), means, stdevs)
        yield axis, found
