"""Pictures of trainings and latent spaces, as PNG."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def learning_curves(runs: Mapping[str, Path], output: Path) -> None:
    """Validation reconstruction and KL against the step, a line a run, from each run's metrics.jsonl."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
    for name, run in runs.items():
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        valid = [line for line in lines if line["split"] == "valid"]
        for axis, term in zip(axes, ("reconstruction", "kl"), strict=True):
            axis.plot([line["step"] for line in valid], [line[term] for line in valid], marker=".", label=name)
    for axis, title in zip(axes, ("-log p(x|z) of validation", "KL(q(z|x) || p(z))"), strict=True):
        axis.set(title=title, xlabel="optimizer steps", ylabel="nats a sentence")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))  # beside: it would hide lines
    axes[1].set_yscale("symlog")
    save(figure, output)


def latent_maps(codes: Mapping[str, np.ndarray], labels: Sequence[str], output: Path) -> None:
    """A t-SNE map of each model's codes [N, D], coloured by label."""
    figure, axes = plt.subplots(1, len(codes), figsize=(5.5 * len(codes), 5), squeeze=False)
    for axis, (model, vectors) in zip(axes[0], codes.items(), strict=True):
        _scatter(axis, tsne(vectors, seed=0), np.array(labels))
        axis.set(title=model)
    _legend(axes[0][-1])
    save(figure, output)


def latent_map(codes: np.ndarray, colourings: Mapping[str, np.ndarray], output: Path, *, seed: int) -> None:
    """One t-SNE map of codes [N, D], in a panel for each colouring [N]: by name of a class, or by number."""
    points = tsne(codes, seed=seed)
    columns = min(2, len(colourings))
    rows = -(-len(colourings) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7.5 * columns, 5 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(colourings) :]:
        axis.remove()
    for axis, (title, values) in zip(axes.flat, colourings.items(), strict=False):
        if np.issubdtype(values.dtype, np.number):
            shown = axis.scatter(*points.T, s=4, c=values, cmap="viridis")
            axis.set(xticks=[], yticks=[])
            figure.colorbar(shown, ax=axis)
        else:
            _scatter(axis, points, values)
            _legend(axis)
        axis.set(title=title)
    save(figure, output)


def tsne(codes: np.ndarray, *, seed: int) -> np.ndarray:
    """The codes [N, D] of at least 4 sentences in two dimensions, [N, 2]."""
    from sklearn.manifold import TSNE

    # The usual perplexity, where there are enough neighbours for it.
    perplexity = min(30.0, (len(codes) - 1) / 3)
    return TSNE(2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(codes)


def bars(
    values: Mapping[str, Mapping[str, tuple[float, float]]], output: Path, *, floor: Mapping[str, float], ceiling: float
) -> None:
    """For each method a bar for each measure: value and standard error. Dashed: `floor` of each measure, `ceiling`."""
    figure, axis = plt.subplots(figsize=(6, 4))
    width = 0.8 / len(values)
    for i, (method, row) in enumerate(values.items()):
        heights, errors = zip(*(row[measure] for measure in floor), strict=True)
        axis.bar(np.arange(len(floor)) - 0.4 + width * (i + 0.5), heights, width, yerr=errors, capsize=3, label=method)
    for place, height in enumerate(floor.values()):
        axis.hlines([height, ceiling], place - 0.45, place + 0.45, color="black", linestyle="--")
    axis.set_xticks(range(len(floor)), list(floor))
    axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08))
    save(figure, output)


def _scatter(axis: plt.Axes, points: np.ndarray, labels: np.ndarray) -> None:
    names = sorted(set(labels.tolist()))
    colours = _colours(len(names))
    for name, colour in zip(names, colours, strict=True):
        chosen = points[labels == name]
        axis.scatter(chosen[:, 0], chosen[:, 1], s=4, color=colour, label=name)
    axis.set(xticks=[], yticks=[])


def _colours(num: int) -> list[tuple[float, ...]]:
    if num <= 20:
        colours = plt.get_cmap("tab10" if num <= 10 else "tab20")
        return [colours(i) for i in range(num)]
    return [plt.get_cmap("nipy_spectral")(i / num) for i in range(num)]


def _legend(axis: plt.Axes) -> None:
    columns = -(-len(axis.collections) // 25)
    axis.legend(markerscale=3, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), ncols=columns)


def save(figure: plt.Figure, output: Path) -> None:
    """Writes a picture, and closes it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120, bbox_inches="tight")
    plt.close(figure)


def melbo_by_set_size(reconstruction: np.ndarray, output: Path) -> None:
    """MELBO against the number K of sentences in the set, for -log p(x|z) of N sentences; Figure D.2 of the thesis.

    Mean and standard deviation over all ways to choose K of the N: exact, by the variance of a mean without
    replacement (Cochran, Sampling Techniques, 2.2), where the thesis draws trials.
    """
    num = len(reconstruction)
    sizes = np.unique(np.geomspace(min(10, num), num, 60).astype(int))
    stdev = reconstruction.std(ddof=1) if num > 1 else 0.0
    error = stdev / np.sqrt(sizes) * np.sqrt(1 - sizes / num)
    beyond = np.geomspace(num, 1e9, 50)
    figure, axis = plt.subplots(figsize=(6, 4))
    middle = reconstruction.mean() + np.log(sizes)
    axis.fill_between(sizes, middle - error, middle + error, alpha=0.25, label="standard deviation")
    axis.plot(sizes, middle, label="mean")
    axis.plot(beyond, reconstruction.mean() + np.log(beyond), "--", color="gray", label="extrapolated")
    axis.plot([num], [reconstruction.mean() + np.log(num)], "rx", label=f"this set, {num:,} sentences")
    axis.set(xscale="log", xlabel="sentences in the set", ylabel="MELBO, nats a sentence")
    axis.legend()
    save(figure, output)


def histograms(values: Mapping[str, np.ndarray], output: Path, *, xlabel: str) -> None:
    """A histogram for each name, in panels of their own, with the mean as a dashed line."""
    figure, axes = plt.subplots(1, len(values), figsize=(4 * len(values), 3.2), squeeze=False)
    for axis, (name, sample) in zip(axes[0], values.items(), strict=True):
        axis.hist(sample, bins=min(60, max(5, len(sample) // 10)))
        axis.axvline(float(np.mean(sample)), color="black", linestyle="--")
        axis.set_title(name, fontsize="small")
        axis.set(xlabel=xlabel)
    axes[0][0].set_ylabel("sentences")
    save(figure, output)


def accuracy_by_length(lengths: np.ndarray, accuracy: np.ndarray, bleu: np.ndarray, output: Path) -> None:
    """Mean word accuracy and BLEU-1 by sentence length, in bins of about equally many sentences."""
    order = np.argsort(lengths, kind="stable")
    bins = [part for part in np.array_split(order, min(20, len(order))) if len(part)]
    middle = [float(lengths[part].mean()) for part in bins]
    figure, axis = plt.subplots(figsize=(6, 4))
    for name, values in {"words in their place": accuracy, "BLEU-1": bleu}.items():
        axis.plot(middle, [float(values[part].mean()) for part in bins], marker=".", label=name)
    axis.set(xlabel="tokens of the sentence", ylabel="greedy reconstruction", ylim=(0, 1))
    axis.legend()
    save(figure, output)


def overlap(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], output: Path) -> None:
    """Histograms of log densities for i = j and for i != j, a panel a density; Figure 7.1 of the thesis."""
    figure, axes = plt.subplots(1, len(pairs), figsize=(5.5 * len(pairs), 3.5), squeeze=False)
    for axis, (name, (own, other)) in zip(axes[0], pairs.items(), strict=True):
        bins = np.histogram_bin_edges(np.concatenate([own, other]), 80)
        for values, label in ((own, "i = j"), (other, "i ≠ j")):
            axis.hist(values, bins=bins, alpha=0.6, label=label)
        axis.set(title=name, xlabel="nats")
        axis.locator_params(axis="x", nbins=5)
        axis.legend()
    axes[0][0].set_ylabel("sentences")
    save(figure, output)


def latent_variance(mean_variance: np.ndarray, posterior_variance: np.ndarray, output: Path) -> None:
    """Var(mean) and the mean posterior variance of each dimension, from the widest to the narrowest."""
    order = np.argsort(-mean_variance)
    figure, axis = plt.subplots(figsize=(6, 4))
    axis.plot(mean_variance[order], label="of the means, Var(E[z|x])")
    axis.plot(posterior_variance[order], label="within a posterior, E[Var(z|x)]")
    axis.axhline(1, color="gray", linestyle=":", label="N(0, I)")
    axis.set(yscale="log", xlabel="dimension, by variance of the means", ylabel="variance")
    axis.legend()
    save(figure, output)
