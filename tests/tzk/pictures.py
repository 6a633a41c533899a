"""Corpora of small images: a bright row or column on dark ground."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from smim.preparation.vectors import LabelledVectors, write_corpus
from smim.vectors.corpus import VectorCorpus

SIZE = 6


def bars(num: int, way: str, *, seed: int, ground: int) -> np.ndarray:
    """Grey values in 0..255, int64 [num, 1, SIZE, SIZE], with a bar across or down."""
    random = np.random.default_rng(seed)
    images = random.integers(ground, ground + 40, (num, 1, SIZE, SIZE))
    for image, place in zip(images, random.integers(1, SIZE - 1, num), strict=True):
        line = image[0, place] if way == "across" else image[0, :, place]
        line[:] = random.integers(200, 256, SIZE)
    return images


def write_bars(
    directory: Path,
    name: str,
    *,
    num: int = 60,
    ground: int = 0,
    others: Mapping[str, Any] | None = None,
    levels: int = 255,
    **described: object,
) -> VectorCorpus:
    """A corpus with the label column `way`: as many images across as down, in `train` and `test`.

    `others`: further columns. `levels`: the number by which grey values are divided.
    """
    splits = {}
    for seed, split in enumerate(("train", "test")):
        images = np.concatenate([bars(num // 2, way, seed=seed, ground=ground) for way in ("across", "down")])
        ways = ["across"] * (num // 2) + ["down"] * (num // 2)
        splits[split] = LabelledVectors((images.reshape(num, -1) / levels).astype(np.float32), ways, others or {})
    described = {"shape": [1, SIZE, SIZE], "binarisation": "none", **described}
    write_corpus(directory / name, splits, name=name, label="way", source={"data": name}, **described)
    return VectorCorpus.open(directory / name)
