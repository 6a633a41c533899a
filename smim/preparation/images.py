"""Corpora of images: vectors of pixels, fp32 in [0, 1], row by row, channel first, with their shape in the card.

Shapes: N images, C channels (1: grey, 3: RGB), H rows of W pixels, X = C H W the dimensions of a vector.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smim import storage
from smim.errors import UserError
from smim.preparation.image_readers import cifar, folder, mnist, omniglot
from smim.preparation.image_readers.base import Images, Labels
from smim.preparation.readers import files_not_read, shortened
from smim.preparation.vectors import MOST_NUMBERS, LabelledVectors, VectorArgs, write_corpus
from smim.progress import console
from smim.schema import bounded
from smim.vectors.corpus import BINARISATIONS, GREY, draw_bits

SPLITS = ("train", "valid", "test")
# The share of the train file, at its end, that becomes valid, as is usual: 10,000 of 60,000, and 5,000 of 50,000.
_LAST_OF_MNIST, _LAST_OF_CIFAR = 1 / 6, 1 / 10
# The card lists up to this many files, and only a hash of more.
_MOST_FILES = 12
_MOST_NAMED = 8
# The settings that decide the vectors.
_DECIDING = ("seed", "binarisation", *SPLITS, "pca", "size", "valid_share", "test_share", "channels")


@dataclass
class ImageArgs(VectorArgs):
    """The settings that all corpora of images share. `path`: the folder with the files.

    `binarisation`: "none" keeps grey values. "static" draws x ~ Bernoulli(grey value) once, by the seed. "dynamic" does
    so too, and training draws new bits in each step (Tomczak and Welling 2017). `train`, `valid`, `test`: the number of
    images to keep of each split, drawn by the seed in proportion to the labels; None keeps all. `pca`: if given, the
    vectors are the projections on so many principal components of train, as in section 4.2 of the thesis. `checksums`:
    compare the MD5 of files that have a published name.
    """

    path: str | None = None
    binarisation: str = bounded("none", among=BINARISATIONS)
    train: int | None = bounded(None, least=1)
    valid: int | None = bounded(None, least=1)
    test: int | None = bounded(None, least=1)
    pca: int | None = bounded(None, least=1)
    checksums: bool = True

    def problems(self) -> list[str]:
        found = super().problems()
        if self.pca is not None and self.binarisation != "none":
            found.append(f"corpus.pca needs grey values; leave out corpus.binarisation={self.binarisation}")
        return found


@dataclass
class DrawnArgs(ImageArgs):
    """The settings of images without published splits. `size`: resize to `size` x `size`.

    `valid_share`, `test_share`: shares of all images, drawn by the seed in proportion to the labels, if the files do
    not give these splits.
    """

    size: int | None = bounded(None, least=1, most=4096)
    valid_share: float = bounded(0.1, above=0, below=1)
    test_share: float = bounded(0.1, above=0, below=1)

    def problems(self) -> list[str]:
        found = super().problems()
        if self.valid_share + self.test_share >= 1:
            found.append(
                f"corpus.valid_share={self.valid_share} and corpus.test_share={self.test_share} leave nothing for train"
            )
        return found


@dataclass
class FolderArgs(DrawnArgs):
    """The settings of a folder of pictures. `channels`: convert them to "grey" or "rgb"."""

    channels: str = bounded("grey", among=["grey", "rgb"])


def build_mnist(args: ImageArgs, output: Path) -> dict[str, Any]:
    """Write MNIST at `output`: 50,000 images for train, the last 10,000 of its file for valid, 10,000 for test."""
    pools = mnist.read(
        args.path, name="mnist", label="digit", classes=mnist.DIGITS, md5=mnist.MD5_MNIST, checked=args.checksums
    )
    return _build(args, _last_as_valid(pools, _LAST_OF_MNIST), output)


def build_fashion_mnist(args: ImageArgs, output: Path) -> dict[str, Any]:
    """Write Fashion-MNIST at `output`, with the same splits as MNIST."""
    pools = mnist.read(
        args.path,
        name="fashion_mnist",
        label="article",
        classes=mnist.ARTICLES,
        md5=mnist.MD5_FASHION_MNIST,
        checked=args.checksums,
    )
    return _build(args, _last_as_valid(pools, _LAST_OF_MNIST), output)


def build_cifar10(args: ImageArgs, output: Path) -> dict[str, Any]:
    """Write CIFAR-10 at `output`: 45,000 images for train, the last 5,000 of its batches for valid, 10,000 for test."""
    return _build(args, _last_as_valid(cifar.read(args.path, checked=args.checksums), _LAST_OF_CIFAR), output)


def build_omniglot(args: DrawnArgs, output: Path) -> dict[str, Any]:
    """Write Omniglot at `output`: with Burda et al.'s test set, or with splits drawn from the authors' archives."""
    pools, repeated = omniglot.read(args.path, size=args.size or omniglot.SIZE, checked=args.checksums)
    left_out = {"left_out": {"drawings that two archives hold": repeated}} if repeated else {}
    return _build(args, _drawn_splits(pools, args), output, **left_out)


def build_folder(args: FolderArgs, output: Path) -> dict[str, Any]:
    """Write any folder of pictures at `output`."""
    pools = folder.read(args.path, rgb=args.channels == "rgb", size=args.size)
    read = [file for images in pools.values() for file in images.files]
    if unread := files_not_read([str(args.path)], read):
        console.print(f"not read: {shortened(unread, _MOST_NAMED)}")
    return _build(args, _drawn_splits(pools, args), output)


def stratified(labels: Labels, random: np.random.Generator) -> np.ndarray:
    """Order rows at random so that each beginning holds all labels in their proportions. int64 [N].

    This is systematic sampling: the rows of a label are evenly spaced, and each label starts at a random place.
    """
    shuffled = random.permutation(len(labels))
    _, classes, counts = np.unique(
        np.array([each or "" for each in labels])[shuffled], return_inverse=True, return_counts=True
    )
    by_class = np.argsort(classes, kind="stable")
    place = np.empty(len(labels))
    place[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Without random starts, all labels with the same number of rows would have the same places.
    starts = random.random(len(counts))
    return shuffled[np.argsort((place + starts[classes]) / counts[classes], kind="stable")]


def _last_as_valid(pools: Mapping[str, Images], share: float) -> dict[str, Images]:
    train = pools["train"]
    rows, num = np.arange(len(train)), round(share * len(train))
    if not 0 < num < len(train):
        raise UserError(f"{train.files[0]} has {len(train)} images, too few for a train and a validation set")
    return {"train": train.chosen(rows[:-num]), "valid": train.chosen(rows[-num:]), "test": pools["test"]}


def _drawn_splits(pools: Mapping[str, Images], args: DrawnArgs) -> dict[str, Images]:
    """Draw the splits that the pools lack from the pool "all" or train."""
    base, splits = pools.get("all", pools.get("train")), dict(pools)
    assert base is not None
    total = sum(map(len, pools.values()))
    rows = stratified(base.finest_labels, np.random.default_rng([args.seed, 0]))
    for split, share in (("test", args.test_share), ("valid", args.valid_share)):
        if split not in pools:
            num = max(1, round(share * total))
            splits[split], rows = base.chosen(np.sort(rows[:num])), rows[num:]
    if not len(rows):
        raise UserError(f"{args.path} has {total} images, too few for train, valid and test")
    splits["train"] = base.chosen(np.sort(rows))
    return {split: splits[split] for split in SPLITS}


def _build(args: ImageArgs, splits: dict[str, Images], output: Path, **described: Any) -> dict[str, Any]:
    """Reduce, binarise or project the splits, write them as a corpus at `output`, and return its card."""
    files = list(dict.fromkeys(file for images in splits.values() for file in images.files))
    settings = {name: value for name in _DECIDING if (value := getattr(args, name, None)) is not None}
    source = {**_files(files), **settings}
    splits = {split: _reduced(images, split, args) for split, images in splits.items()}
    if (numbers := sum(images.pixels.size for images in splits.values())) > MOST_NUMBERS:
        raise UserError(
            f"the images have {numbers:,} numbers, more than the limit of {MOST_NUMBERS:,}; keep fewer with "
            f"corpus.train=N, corpus.valid=N and corpus.test=N"
        )
    shapes = {split: list(images.pixels.shape[1:]) for split, images in splits.items()}
    shape = shapes["train"]
    if other := next((split for split in splits if shapes[split] != shape), None):
        raise UserError(f"the images of {other} have the shape {shapes[other]}, but those of train have {shape}")
    vectors = {split: images.vectors for split, images in splits.items()}
    further: dict[str, dict[str, Any]] = {split: {} for split in splits}
    meaning: Any = {"images": shape}
    if args.pca is not None:
        vectors, share = _projected(vectors, args)
        described |= {"pca": {"components": args.pca, "share_of_variance": share}}
        meaning = source
    else:
        described |= {"shape": shape, "binarisation": args.binarisation}
    if args.binarisation != "none":
        if args.binarisation == "dynamic":
            further["train"][GREY] = vectors["train"]
        for number, split in enumerate(SPLITS):
            vectors[split] = draw_bits(vectors[split], np.random.default_rng([args.seed, 2, number]))
    label, *others = splits["train"].labels
    return write_corpus(
        output,
        {
            split: LabelledVectors(
                vectors[split],
                images.labels[label],
                {**{name: images.labels[name] for name in others}, **further[split]},
            )
            for split, images in splits.items()
        },
        name=args.name,
        label=label,
        source=source,
        input_hash=hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest(),
        **described,
    )


def _files(files: list[Path]) -> dict[str, Any]:
    """Identify the files that were read, in the card: each with its SHA-256, or many with one."""
    if len(files) <= _MOST_FILES:
        return {"files": [{"file": file.name, "sha256": storage.sha256(file)} for file in files]}
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {storage.sha256(file)}\n".encode())
    return {"files": len(files), "sha256": digest.hexdigest()}


def _reduced(images: Images, split: str, args: ImageArgs) -> Images:
    """Keep the number of images that the settings ask for, in their order."""
    num = getattr(args, split)
    if num is None:
        return images
    if num > len(images):
        raise UserError(f"corpus.{split} is {num}, but there are only {len(images)} images for {split}")
    rows = stratified(images.finest_labels, np.random.default_rng([args.seed, 1, SPLITS.index(split)]))
    return images.chosen(np.sort(rows[:num]))


def _projected(vectors: dict[str, np.ndarray], args: ImageArgs) -> tuple[dict[str, np.ndarray], float]:
    """Project all splits on the first principal components of train. Also return their share of its variance."""
    from sklearn.decomposition import PCA

    num, dimension = vectors["train"].shape
    most = min(num - 1, dimension)
    if args.pca is None or args.pca > most:
        raise UserError(
            f"corpus.pca is {args.pca}, but train has only {most} principal components; give a smaller corpus.pca or "
            f"more images for train"
        )
    if not np.ptp(vectors["train"], axis=0).any():
        raise UserError("all images of train are equal, so they have no principal components; leave out corpus.pca")
    # The covariance has X x X numbers.
    solver = "covariance_eigh" if dimension <= num else "full"
    pca = PCA(args.pca, svd_solver=solver).fit(vectors["train"].astype(np.float64))
    projected = {split: pca.transform(each).astype(np.float32) for split, each in vectors.items()}
    return projected, float(pca.explained_variance_ratio_.sum())
