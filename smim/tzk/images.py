"""Images as t: their dequantised levels, their prior, and the images of prepared corpora (section 8.4).

Shapes: N images, B images of a batch, T = C H W numbers of an image, C channels, H rows, W columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.text.corpus import Split
from smim.tzk.args import GlowArgs
from smim.tzk.glow import Glow, Shape, z_shape
from smim.tzk.labels import values
from smim.tzk.prior import CodePrior, Shapes, at_once
from smim.vectors.corpus import VectorCorpus, VectorSplit

LEVELS = 256
CORPUS = "corpus"  # a label column that every image has: the name of its corpus
LARGEST_IMAGE = 2**24  # numbers, after padding
_FIRST_BATCH, _ROWS_AT_ONCE = 256, 4096


@dataclass(frozen=True)
class Dequantised:
    """N images, `levels` uint8 [N, C, H, W]. An observation is (level + u) / 256 with u ~ U(0, 1), fp32 [N, T]."""

    levels: Tensor

    @property
    def shape(self) -> Shape:
        channels, rows, columns = self.levels.shape[1:]
        return channels, rows, columns

    @property
    def mean(self) -> Tensor:
        """The means of the observations, fp32 [N, T]."""
        return (self.levels.flatten(1).float() + 0.5) / LEVELS

    def sample(self, noise: Tensor) -> Tensor:
        """Draw observations [N, T]; `noise` ~ N(0, I) [N, T] becomes uniform by its distribution function."""
        return (self.levels.flatten(1).float() + torch.special.ndtr(noise)) / LEVELS


class Centering(nn.Module):
    """The map of observations in [0, 1] to t = 2 x - 1, with the interface of `Standardization`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_det = dim * math.log(2)

    def standardize(self, codes_BT: Tensor) -> Tensor:
        return 2 * codes_BT - 1

    def restore(self, t_BT: Tensor) -> Tensor:
        return (t_BT + 1) / 2


class ImagePrior(CodePrior):
    """A density of dequantised images: a Glow maps them to z ~ N(0, I)."""

    flow: Glow

    def __init__(self, shape: Shape, args: GlowArgs) -> None:
        nn.Module.__init__(self)
        self.args, self.dim = args, math.prod(shape)
        self.shapes = Shapes(shape, z_shape(shape, args.num_scales))
        self.standardization = Centering(self.dim)
        self.flow = Glow(
            shape, num_scales=args.num_scales, num_layers=args.num_coupling_layers, hidden_dim=args.hidden_dim
        )

    def initialize(self, train: Dequantised) -> None:
        """Set the ActNorms by a first batch, drawn with torch's random numbers."""
        some = Dequantised(train.levels[torch.randint(len(train.levels), (_FIRST_BATCH,))])
        # Without its noise, a channel of equal levels would have no deviation.
        drawn = some.sample(torch.randn(some.mean.shape))
        self.flow.initialize(self.standardization.standardize(drawn))


def bits_per_dimension(log_prob_N: Tensor, dim: int) -> Tensor:
    """Convert log densities of dequantised images in nats [N] to bits per dimension [N] (Table 8.2).

    Their mean is an upper bound of the bits per dimension of the levels, because log is concave.
    """
    return math.log2(LEVELS) - log_prob_N.double() / (dim * math.log(2))


class Images:
    """The images of one split of one or several prepared corpora, padded so that `num_scales` scales fit.

    They have the label columns of all corpora as text, empty where a corpus lacks a column, and `corpus`. `levels`:
    uint8 [N, C, H, W].
    """

    unit = "images"
    most_held_out: int | None = 500

    def __init__(self, corpora: Sequence[VectorCorpus], split: str, *, num_scales: int) -> None:
        """Raise `UserError` for corpora without images of 8 bits per number, of different shapes, or of one name."""
        if not corpora:
            raise UserError("give at least one prepared corpus of images")
        self.corpora, self.num_scales = corpora, num_scales
        names = [corpus.name for corpus in corpora]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise UserError(
                f"two corpora have the name {repeated}, so {CORPUS}={repeated} would mean both; give each corpus once, "
                "or prepare one with another corpus.name"
            )
        shapes = [_shape_of(corpus) for corpus in corpora]
        if len(set(shapes)) > 1:
            found = ", ".join(f"{corpus.name} {shape}" for corpus, shape in zip(corpora, shapes, strict=True))
            raise UserError(f"the images have different shapes: {found}; prepare them with the same shape")
        channels, *sizes = self._shape = shapes[0]
        factor = 2**num_scales
        self.padded_shape: Shape = (channels, *(-(-size // factor) * factor for size in sizes))
        splits = [corpus.split(split) for corpus in corpora]
        tables = [_labels(each, name) for each, name in zip(splits, names, strict=True)]
        self.split = Split(name=split, table=pa.concat_tables(tables, promote_options="default"))
        self.levels = self._levels(splits)

    @property
    def described(self) -> dict[str, object]:
        """The description of the images for a card."""
        name = self.split.name
        return {
            "split": name,
            "corpora": [{"corpus": each.name, "corpus_hash": each.hash_of(name)} for each in self.corpora],
        }

    @property
    def name(self) -> str:
        return " + ".join(each.name for each in self.corpora)

    def _levels(self, splits: Sequence[VectorSplit]) -> Tensor:
        channels, rows, columns = self._shape
        levels = np.zeros((len(self.split), *self.padded_shape), np.uint8)
        top, left = (self.padded_shape[1] - rows) // 2, (self.padded_shape[2] - columns) // 2
        inner = levels[:, :, top : top + rows, left : left + columns]
        at_a_time, done = at_once(_ROWS_AT_ONCE, channels * rows * columns), 0
        for split in splits:
            for start in range(0, len(split), at_a_time):
                pixels = split.vectors[start : start + at_a_time] * (LEVELS - 1)
                rounded = np.rint(pixels)
                if rounded.min() < 0 or rounded.max() >= LEVELS or np.abs(pixels - rounded).max() > 0.01:
                    raise UserError(
                        f"{self.name} has pixels that are no multiples of 1/255 in [0, 1], but TzK needs images of "
                        "8 bits per number; give such images, as of corpus=mnist"
                    )
                inner[done : done + len(pixels)] = rounded.reshape(-1, *self._shape)
                done += len(pixels)
        return torch.from_numpy(levels)

    def check_scales(self) -> None:
        """Raise `UserError` for images that are too small for the scales, or too large for TzK."""
        _, rows, columns = self._shape
        most = min(rows, columns).bit_length() - 1
        if self.num_scales > most:
            raise UserError(
                f"prior.num_scales is {self.num_scales}, but images of {rows} x {columns} allow at most {most}; "
                "give fewer scales or larger images"
            )
        if (size := math.prod(self.padded_shape)) > LARGEST_IMAGE:
            raise UserError(
                f"an image of {self.name} has {size:,} numbers after padding, but TzK learns at most "
                f"{LARGEST_IMAGE:,}; prepare smaller images"
            )

    def rows(self, given: Sequence[int]) -> np.ndarray:
        """The given row numbers, int64. Raises `UserError` for none, and for one that the split does not have."""
        num = len(self.split)
        if outside := [row for row in given if not isinstance(row, Integral) or not 0 <= row < num]:
            raise UserError(f"{self.name} {self.split.name} has no row {outside[0]}; its rows are 0 to {num - 1}")
        if not len(given):
            raise UserError("no rows were given; give at least one")
        return np.asarray(given, np.int64)

    def labels(self, rows: Sequence[int]) -> list[dict[str, str | None]]:
        """The values of all label columns of the given rows."""
        return self.split.table.take(list(rows)).to_pylist()

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """The given rows as images in [0, 1], fp32 [N, C, H, W]."""
        return self.levels[torch.tensor(rows)].float() / (LEVELS - 1)

    def posterior(self, rows: np.ndarray) -> Dequantised:
        """The images of the given rows in their order."""
        return Dequantised(self.levels[torch.from_numpy(rows)])


def _labels(split: VectorSplit, name: str) -> pa.Table:
    """The label columns of a corpus's split as text, and its `name` as the column `corpus`."""
    if CORPUS in split.label_columns:
        raise UserError(f"{name} has a label column {CORPUS!r}, which TzK itself adds; rename it")
    columns = {column: values(split, column) for column in split.label_columns}
    return pa.table({**columns, CORPUS: pa.array([name] * len(split), pa.string())})


def _shape_of(corpus: VectorCorpus) -> Shape:
    shape = corpus.card.get("shape")
    if not shape:
        raise UserError(
            f"{corpus.directory} holds vectors without the shape of an image; prepare images, such as corpus=mnist"
        )
    if (binarisation := corpus.card.get("binarisation", "none")) != "none":
        raise UserError(
            f"{corpus.directory} holds bits (corpus.binarisation={binarisation}), but TzK is learned from grey values; "
            "prepare it with corpus.binarisation=none"
        )
    channels, rows, columns = shape
    return channels, rows, columns
