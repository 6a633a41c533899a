"""Distances and similarities (0 to 1) of codes by a metric: `l2`, `cosine` or `inner_product`.

Shapes: N and M codes of D dimensions.
"""

import numpy as np

_SMALLEST = 1e-12


def distances(metric: str, codes_ND: np.ndarray, others_MD: np.ndarray) -> np.ndarray:
    """Distances of each code to each other one, fp64 [N, M]: Euclidean, 1 - cosine, or the negative inner product."""
    codes_ND, others_MD = codes_ND.astype(np.float64), others_MD.astype(np.float64)
    if metric == "cosine":
        codes_ND, others_MD = (
            each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), _SMALLEST) for each in (codes_ND, others_MD)
        )
    products_NM: np.ndarray = codes_ND @ others_MD.T
    if metric == "l2":
        squares_NM = (codes_ND**2).sum(1)[:, None] + (others_MD**2).sum(1) - 2 * products_NM
        return np.sqrt(np.maximum(squares_NM, 0))
    return 1 - products_NM if metric == "cosine" else -products_NM


def similarity(metric: str, distances: np.ndarray) -> np.ndarray:
    """Similarities, 0 to 1: the cosine (0 if negative), 1 / (1 + d) for `l2`, 1 / (1 + e^-v) for an inner product v."""
    if metric == "cosine":
        return np.clip(1.0 - distances.astype(np.float64), 0.0, 1.0)
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + (np.exp(distances.astype(np.float64)) if metric == "inner_product" else distances))
