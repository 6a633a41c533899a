"""How often a sentence's nearest neighbour has the same label: by latent code, by BM25, and by chance."""

from collections.abc import Sequence

import numpy as np
from sklearn.neighbors import NearestNeighbors


def nearest_by_code(codes: np.ndarray) -> np.ndarray:
    """Find the nearest other row of each row of `codes` [N, D] by Euclidean distance; int64 [N]."""
    return NearestNeighbors(n_neighbors=1).fit(codes).kneighbors(return_distance=False)[:, 0]


def nearest_by_bm25(texts: Sequence[str]) -> np.ndarray:
    """Find the other sentence with the highest BM25 score for each sentence as the query; int64 [N]."""
    import bm25s

    words = [text.split() for text in texts]
    retriever = bm25s.BM25()
    retriever.index(words, show_progress=False)
    found, _ = retriever.retrieve(words, k=2, show_progress=False)
    return np.where(found[:, 0] == np.arange(len(words)), found[:, 1], found[:, 0])


def share_of_same_label(neighbour: np.ndarray, labels: Sequence[str]) -> float:
    """Compute the share of sentences whose neighbour has their label.

    Only sentences whose label occurs at least twice count.
    """
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return float((numbers == numbers[neighbour])[sizes[numbers] > 1].mean())


def share_by_chance(labels: Sequence[str]) -> float:
    """Compute the expected value of `share_of_same_label` for random neighbours."""
    sizes = np.unique(labels, return_counts=True)[1]
    return float(np.average((sizes - 1) / (len(labels) - 1), weights=sizes * (sizes > 1)))
