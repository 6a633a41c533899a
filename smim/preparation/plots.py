"""Plots of a corpus."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from smim import storage

_MAX_BINS = 60


def length_histograms(lengths: Mapping[str, Mapping[int, int]], path: Path, *, name: str) -> None:
    """Draw histograms of sentence lengths in tokens, a panel per split, with the mean dashed (thesis, Figure D.1).

    `lengths[split][n]`: the number of sentences with n tokens. The axis ends at the 99.5 % quantile.
    """
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(4 * len(lengths), 3))
    figure.subplots_adjust(left=0.2 / len(lengths), right=0.98, bottom=0.16, top=0.9, wspace=0.25)
    panels = figure.subplots(1, len(lengths), squeeze=False)[0]
    for panel, (split, counts) in zip(panels, lengths.items(), strict=True):
        values = np.array(sorted(counts))
        weights = np.array([counts[int(value)] for value in values])
        cumulative = np.cumsum(weights)
        longest = int(values[np.searchsorted(cumulative, 0.995 * cumulative[-1])])
        width = -(-longest // _MAX_BINS)
        panel.hist(values, bins=np.arange(0, longest + 2 * width, width), weights=weights, color="tab:blue")
        mean = float((values * weights).sum() / weights.sum())
        panel.axvline(mean, color="black", linestyle="--", linewidth=1)
        panel.set_title(f"{name} {split}: {weights.sum():,} sentences, mean {mean:.1f}", fontsize=9)
        panel.set_xlabel("tokens")
    panels[0].set_ylabel("sentences")
    with storage.new_file(path) as partial:
        # Leave out the version of matplotlib, so that the same corpus gives the same bytes.
        figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
