"""How often a sentence's nearest neighbour is one of its family: by latent code, by BM25, by chance."""

from collections import Counter
from collections.abc import Sequence

import faiss
import numpy as np


def nearest_by_code(codes: np.ndarray) -> np.ndarray:
    """The row nearest to each row of `codes` [N, D] in Euclidean distance, itself excepted; int64 [N]."""
    index = faiss.IndexFlatL2(codes.shape[1])
    index.add(codes)
    _, found = index.search(codes, 2)
    return _first_other(found)


def nearest_by_bm25(texts: Sequence[str]) -> np.ndarray:
    """The sentence with the highest BM25 score for each sentence as the query, itself excepted; int64 [N]."""
    import bm25s

    words = [text.split() for text in texts]
    retriever = bm25s.BM25()
    retriever.index(words, show_progress=False)
    found, _ = retriever.retrieve(words, k=2, show_progress=False)
    return _first_other(np.asarray(found))


def share_in_family(neighbour: np.ndarray, families: Sequence[str]) -> float:
    """Share of the sentences that have relatives whose neighbour is one of them."""
    sizes = Counter(families)
    hits = [families[i] == families[j] for i, j in enumerate(neighbour) if sizes[families[i]] > 1]
    return float(np.mean(hits))


def share_by_chance(families: Sequence[str]) -> float:
    """What `share_in_family` is expected to be for neighbours drawn at random."""
    sizes = Counter(families)
    return float(np.mean([(sizes[f] - 1) / (len(families) - 1) for f in families if sizes[f] > 1]))


def _first_other(found: np.ndarray) -> np.ndarray:
    rows = np.arange(len(found))
    return np.where(found[:, 0] == rows, found[:, 1], found[:, 0])
