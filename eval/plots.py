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
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for name, run in runs.items():
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        valid = [line for line in lines if line["split"] == "valid"]
        for axis, term in zip(axes, ("reconstruction", "kl"), strict=True):
            axis.plot([line["step"] for line in valid], [line[term] for line in valid], marker=".", label=name)
    for axis, title in zip(axes, ("-log p(x|z) of validation", "KL(q(z|x) || N(0, I))"), strict=True):
        axis.set(title=title, xlabel="optimizer steps", ylabel="nats a sentence")
        axis.legend()
    axes[1].set_yscale("symlog")
    _save(figure, output)


def latent_maps(codes: Mapping[str, np.ndarray], labels: Sequence[str], output: Path) -> None:
    """A t-SNE map of each model's codes [N, D], coloured by label."""
    from sklearn.manifold import TSNE

    names = sorted(set(labels))
    colours = plt.get_cmap("tab10" if len(names) <= 10 else "tab20")
    figure, axes = plt.subplots(1, len(codes), figsize=(5.5 * len(codes), 5), squeeze=False)
    for axis, (model, vectors) in zip(axes[0], codes.items(), strict=True):
        points = TSNE(2, init="pca", random_state=0).fit_transform(vectors)
        for i, name in enumerate(names):
            chosen = points[[label == name for label in labels]]
            axis.scatter(chosen[:, 0], chosen[:, 1], s=4, color=colours(i), label=name)
        axis.set(title=model, xticks=[], yticks=[])
    axes[0][-1].legend(markerscale=3, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, output)


def _save(figure: plt.Figure, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120, bbox_inches="tight")
    plt.close(figure)
