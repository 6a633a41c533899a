"""Images as t: their dequantised levels, their prior, and the images of prepared corpora (section 8.4).

Shapes: N images, B images of a batch, T = C H W numbers of an image, C channels, H rows, W columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from smim.errors import UserError, too_low
from smim.text.corpus import Split
from smim.tzk.glow import Glow, Shape, z_shape
from smim.tzk.prior import CodePrior, Shapes
from smim.vectors.corpus import VectorCorpus, VectorSplit

LEVELS = 256
CORPUS = "corpus"  # a label column that every image has: the name of its corpus
_FIRST_BATCH = 256


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


@dataclass(frozen=True)
class GlowArgs:
    """The settings of the t-flow of images.

    Each of `num_scales` scales halves the rows and columns. It has `num_coupling_layers` layers, whose networks have
    `hidden_dim` channels. The thesis uses 3 scales of 20 or 32 layers with 512 channels.
    """

    num_scales: int = 3
    num_coupling_layers: int = 6
    hidden_dim: int = 64

    def __post_init__(self) -> None:
        problems = too_low(self, "prior", num_scales=1, num_coupling_layers=1, hidden_dim=1)
        if self.num_scales > 10:
            problems.append(f"prior.num_scales is {self.num_scales}, but it must be at most 10")
        if problems:
            raise UserError("; ".join(problems))

    def make(self, train: Dequantised) -> "ImagePrior":
        """Make an untrained prior of such images, whose ActNorms are set by a first batch."""
        prior = ImagePrior(train.shape, self)
        some = Dequantised(train.levels[torch.randint(len(train.levels), (_FIRST_BATCH,))])
        prior.flow.initialize(prior.standardization.standardize(some.mean))
        return prior


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


def bits_per_dimension(log_prob_N: Tensor, dim: int) -> Tensor:
    """Convert log densities of dequantised images in nats [N] to bits per dimension [N] (Table 8.2).

    Their mean is an upper bound of the bits per dimension of the levels, because log is concave.
    """
    return math.log2(LEVELS) - log_prob_N.double() / (dim * math.log(2))


class Images:
    """The images of one split of one or several prepared corpora, padded so that `num_scales` scales fit.

    They have the label columns of all corpora, empty where a corpus lacks a column, and `corpus`.
    """

    unit = "images"
    most_held_out: int | None = 500

    def __init__(self, corpora: Sequence[VectorCorpus], split: str, *, num_scales: int) -> None:
        """Raise `UserError` for corpora without an image's shape, with bits, or with images of different shapes."""
        if not corpora:
            raise UserError("give at least one prepared corpus of images")
        self.corpora, self.num_scales = corpora, num_scales
        shapes = [_shape_of(corpus) for corpus in corpora]
        if len(set(shapes)) > 1:
            found = ", ".join(f"{corpus.name} {shape}" for corpus, shape in zip(corpora, shapes, strict=True))
            raise UserError(f"the images have different shapes: {found}; prepare them with the same shape")
        channels, *sizes = self._shape = shapes[0]
        factor = 2**num_scales
        self.padded_shape: Shape = (channels, *(-(-size // factor) * factor for size in sizes))
        tables = []
        for corpus in corpora:
            table = corpus.split(split).table
            if CORPUS in table.column_names:
                raise UserError(f"{corpus.name} has a label column {CORPUS!r}, which TzK itself adds; rename it")
            tables.append(table.append_column(CORPUS, pa.array([corpus.name] * len(table))))
        self.split: Split = VectorSplit(name=split, table=pa.concat_tables(tables, promote_options="default"))

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

    @cached_property
    def levels(self) -> Tensor:
        """All images, uint8 [N, C, H, W]. Raises `UserError` for pixels that are not one of 256 grey values."""
        pixels = self.split.vectors * (LEVELS - 1)  # type: ignore[attr-defined]
        levels = np.rint(pixels)
        if levels.min() < 0 or levels.max() >= LEVELS or np.abs(pixels - levels).max() > 0.01:
            raise UserError(f"{self.name} has pixels that are no multiples of 1/255 in [0, 1]; prepare it again")
        images = levels.astype(np.uint8).reshape(-1, *self._shape)
        added = [padded - size for padded, size in zip(self.padded_shape, self._shape, strict=True)]
        return torch.from_numpy(np.pad(images, [(0, 0), *((each // 2, each - each // 2) for each in added)]))

    def labels(self, rows: Sequence[int]) -> list[dict[str, str | None]]:
        """The values of all label columns of the given rows."""
        return self.split.table.select(self.split.label_columns).take(list(rows)).to_pylist()

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """The given rows as images in [0, 1], fp32 [N, C, H, W]."""
        return self.levels[torch.tensor(rows)].float() / (LEVELS - 1)

    def posterior(self, rows: np.ndarray) -> Dequantised:
        """The images of the given rows in their order. Raises `UserError` for a row that the split does not have."""
        if outside := [row for row in rows.tolist() if not 0 <= row < len(self.levels)]:
            last = len(self.levels) - 1
            raise UserError(f"{self.name} {self.split.name} has no row {outside[0]}; its rows are 0 to {last}")
        return Dequantised(self.levels[torch.from_numpy(rows)])


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
