"""Corpora of images: vectors of pixels, fp32 in [0, 1], row by row, channel first, with their shape in the card.

Shapes: N images, C channels, H rows of W pixels, X = C H W the dimensions of a vector.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smim import storage
from smim.errors import refuse, too_low
from smim.preparation.image_readers import mnist
from smim.preparation.image_readers.base import Images
from smim.preparation.vectors import LabelledVectors, VectorArgs, write_corpus


@dataclass
class ImageArgs(VectorArgs):
    """The settings of the published corpora of images. `path`: the folder with the files.

    `checksums`: compare the MD5 of files that have a published name. `train`, `valid`, `test`: the number of images to
    keep of each split, drawn by the seed in proportion to the labels; None keeps all.
    """

    path: str | None
    checksums: bool
    train: int | None
    valid: int | None
    test: int | None

    def __post_init__(self) -> None:
        refuse(too_low(self, "corpus", seed=0, train=1, valid=1, test=1))


# The last images of the train file are the validation set, as is usual for MNIST.
_VALID = 10_000


def build_mnist(args: ImageArgs, output: Path) -> dict[str, Any]:
    """Write MNIST at `output`: 50,000 images for train, the last 10,000 of its file for valid, 10,000 for test."""
    pools = mnist.read(
        args.path, name="mnist", label="digit", classes=mnist.DIGITS, md5=mnist.MD5_MNIST, checked=args.checksums
    )
    return _build(args, _last_as_valid(pools, _VALID), output)


def _last_as_valid(pools: dict[str, Images], num: int) -> dict[str, Images]:
    train = pools["train"]
    rows = np.arange(len(train))
    return {"train": _chosen(train, rows[:-num]), "valid": _chosen(train, rows[-num:]), "test": pools["test"]}


def _build(args: ImageArgs, splits: dict[str, Images], output: Path) -> dict[str, Any]:
    """Write the splits as a corpus, and return its card."""
    shape = list(splits["train"].pixels.shape[1:])
    files = dict.fromkeys(file for images in splits.values() for file in images.files)
    source = {
        "files": [{"file": file.name, "sha256": storage.sha256(file)} for file in files],
        "seed": args.seed,
    }
    return write_corpus(
        output,
        {name: _vectors(images) for name, images in splits.items()},
        name=args.name,
        label=next(iter(splits["train"].labels)),
        source=source,
        input_hash=hashlib.sha256(json.dumps({"images": shape}).encode()).hexdigest(),
        shape=shape,
        binarisation="none",
    )


def _vectors(images: Images) -> LabelledVectors:
    flat = images.pixels.reshape(len(images), -1)
    if flat.dtype == np.uint8:
        flat = flat.astype(np.float32) / 255
    [labels] = images.labels.values()
    return LabelledVectors(flat, labels)


def _chosen(images: Images, rows: np.ndarray) -> Images:
    labels = {name: [values[row] for row in rows] for name, values in images.labels.items()}
    return Images(images.pixels[rows], labels, images.files)
