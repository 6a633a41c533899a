"""Small corpora of images for tests."""

from pathlib import Path

import numpy as np

from smim.preparation.vectors import LabelledVectors, write_corpus
from smim.vectors.corpus import VectorCorpus

SHAPE = [1, 8, 8]


def write_digits(directory: Path, *, num: int = 300, bits: bool = True, **described) -> VectorCorpus:
    """Of scikit-learn's digits: 2/3 to train, the rest halved, as bits or as multiples of 1/16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    vectors = (data.data[:num] / 16).astype(np.float32)
    if bits:
        vectors = (vectors > 0.5).astype(np.float32)
    labels = data.target[:num].astype(str).tolist()
    bounds = {"train": (0, num * 2 // 3), "valid": (num * 2 // 3, num * 5 // 6), "test": (num * 5 // 6, num)}
    splits = {name: LabelledVectors(vectors[i:j], labels[i:j]) for name, (i, j) in bounds.items()}
    write_corpus(
        directory, splits, name="digits", label="digit", source={"data": "digits"}, **{"shape": SHAPE, **described}
    )
    return VectorCorpus.open(directory)
