"""TzK over images: t is an image itself, and its t-flow is a Glow (sections 8.4.2 to 8.4.4).

Shapes: N images, C channels, H rows, W columns, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smim import storage
from smim.errors import UserError
from smim.tzk import directory as files
from smim.tzk.codes import some_rows
from smim.tzk.images import GlowArgs, Images, bits_per_dimension
from smim.tzk.knowledge import Knowledge, KnowledgeArgs
from smim.tzk.labelled import LabelledPrior, Ranked, fit_to
from smim.tzk.labels import Label, values
from smim.tzk.prior import CodePrior
from smim.tzk.training import FitArgs, draw
from smim.vectors.corpus import VectorCorpus

# Glow is slow on the CPU, so these trainings are shorter than those of codes. Set more for good pictures.
FIT = FitArgs(num_optimizer_steps=2000, batch_size=32, learning_rate=2e-3)


@dataclass(frozen=True)
class ImageReport:
    """Figures of held-out images, with standard errors over images: (value, standard error).

    `label` is None for all images. `num_images`: those with the label. In bits per dimension of these: `prior`, p(t);
    `conditional`, p(t|e = 1) from 32 draws of c; and `one_code`, the thesis's figure, at one c ~ p(c|e = 1, t), which
    is no density. `auc`: the probability that p(e = 1|t) is higher for an image with the label than for one without.
    """

    label: str | None
    num_images: int
    prior: tuple[float, float]
    conditional: tuple[float, float] | None = None
    one_code: tuple[float, float] | None = None
    auc: float | None = None


class ImageTzK(LabelledPrior):
    """The prior p(t) of images, and the labels added to it. Open one with `open_image_tzk`.

    Every image has the label `corpus=NAME`, besides the label columns of its corpus. Images that the methods return are
    fp32 [N, C, H, W] with grey values or colours in [0, 1], padded as in training.
    """

    command = "smim tzk images"
    card: files.ImageCard

    def images(self, corpora: Sequence[VectorCorpus], split: str) -> Images:
        """The images of a split, padded for this prior. Raises `UserError` if their shape is another one."""
        images = Images(corpora, split, num_scales=self.card.prior.num_scales)
        if (found := list(images.padded_shape)) != self.card.shape:
            raise UserError(f"{images.name} has images of the shape {found} after padding, not {self.card.shape}")
        return images

    def add(
        self,
        corpora: Sequence[VectorCorpus],
        label: str,
        *,
        split: str = "train",
        args: KnowledgeArgs | None = None,
        fit: FitArgs | None = None,
    ) -> Knowledge:
        """Learn a label from the images of a split with and without it, with the t-flow fixed (section 8.4.4).

            tzk.add([VectorCorpus.open("data/mnist"), VectorCorpus.open("data/omniglot")], "corpus=mnist")

        Raises `UserError` like `TzK.add`.
        """
        return self._learn(self.images(corpora, split), label, args, fit or FIT)

    def sample(
        self, num: int = 16, labels: Sequence[str] = (), *, seed: int = 0, gibbs_steps: int | None = None
    ) -> Tensor:
        """Draw images with all `labels`; without labels, from p(t). See `sample_codes` for `gibbs_steps`."""
        return self._pictures(self.sample_codes(num, labels, seed=seed, gibbs_steps=gibbs_steps))

    def classify(
        self,
        corpora: Sequence[VectorCorpus],
        rows: Sequence[int],
        labels: Sequence[str] | None = None,
        *,
        split: str = "test",
    ) -> np.ndarray:
        """Compute p(e = 1|t) of the given rows of a split for each of `labels`, by default all: fp32 [N, L]."""
        posterior = self.images(corpora, split).posterior(np.asarray(rows, np.int64))
        return torch.sigmoid(self.log_odds(posterior.mean, self._asked(labels))).numpy()

    def rank(
        self, corpora: Sequence[VectorCorpus], labels: Sequence[str], k: int = 10, *, split: str = "test"
    ) -> list[Ranked]:
        """Find the `k` rows of a split with the highest probability of all `labels`, highest first."""
        images = self.images(corpora, split)
        return self._rank(
            len(images.split), lambda rows: images.posterior(rows).mean, labels, k, f"{images.name} {split}"
        )

    def interpolate(
        self, corpora: Sequence[VectorCorpus], rows: Sequence[int], num: int = 7, *, split: str = "test"
    ) -> Tensor:
        """Interpolate between four rows of a split, linearly in z (section 8.4.3), fp32 [num * num, C, H, W].

        `rows`: the images above left, above right, below left and below right of the grid of images.
        """
        posterior = self.images(corpora, split).posterior(np.asarray(rows, np.int64))
        return self._pictures(self.interpolate_codes(posterior.mean, num).flatten(0, 1))

    def measure(
        self,
        corpora: Sequence[VectorCorpus],
        labels: Sequence[str] | None = None,
        *,
        split: str = "test",
        num: int = 1000,
        seed: int = 0,
    ) -> list[ImageReport]:
        """Measure p(t) and each label (by default all) on at most `num` images of a split, and as many with the label.

        Raises `UserError` if the corpora lack a label's column, or the split has no image with a label.
        """
        images = self.images(corpora, split)
        generator = torch.Generator().manual_seed(seed)
        every = np.arange(len(images.split))

        def drawn(rows: np.ndarray) -> Tensor:
            return draw(images.posterior(some_rows(rows, num, seed)), generator)

        some = some_rows(every, num, seed)
        reports = [ImageReport(None, len(every), self._bits(self.log_prob(drawn(every))))]
        for label in self.labels if labels is None else labels:
            column = values(images.split, Label.parse(label).column).to_pylist()
            has = np.array([np.nan if value is None else value == Label.parse(label).value for value in column], float)
            with_label = every[has == 1]
            if not len(with_label):
                raise UserError(f"no image of {images.name} {split} has {label}; give another split or label")
            of_label = drawn(with_label)
            judged = np.union1d(some[~np.isnan(has[some])], some_rows(with_label, num, seed))
            log_odds = self.log_odds(images.posterior(judged).mean, [label])[:, 0].numpy()
            reports.append(
                ImageReport(
                    label,
                    len(with_label),
                    self._bits(self.log_prob(of_label)),
                    self._bits(self.log_prob(of_label, label, seed=seed)),
                    self._bits(self._log_prob_of_code(of_label, label, seed=seed)),
                    _auc(log_odds[has[judged] == 1], log_odds[has[judged] == 0]),
                )
            )
        return reports

    def _bits(self, log_prob_N: Tensor) -> tuple[float, float]:
        bits = bits_per_dimension(log_prob_N, self.prior.dim)
        return float(bits.mean()), float(bits.std() / len(bits) ** 0.5)

    def _pictures(self, observations_NT: Tensor) -> Tensor:
        return observations_NT.clamp(0, 1).unflatten(-1, tuple(self.card.shape))


def _auc(present: np.ndarray, absent: np.ndarray) -> float | None:
    """The area under the ROC curve, where equal values count half (Mann and Whitney). None if one side is empty."""
    if not len(present) or not len(absent):
        return None
    ordered = np.sort(absent)
    below, up_to = np.searchsorted(ordered, present), np.searchsorted(ordered, present, "right")
    return float((below + up_to).mean() / (2 * len(absent)))


def fit_image_tzk(
    corpora: Sequence[VectorCorpus],
    output: Path | str,
    *,
    split: str = "train",
    args: GlowArgs | None = None,
    fit: FitArgs | None = None,
    labels: Sequence[str] = (),
    knowledge: KnowledgeArgs | None = None,
) -> ImageTzK:
    """Learn the t-flow of the images of a split, and save it as `output`, which is replaced.

        fit_image_tzk([VectorCorpus.open("data/mnist")], "tzk/mnist")

    With `labels`, of the settings `knowledge`, the t-flow and the labels are learned jointly. Raises `UserError` for
    vectors that are no images, bits instead of grey values, and an `output` with other content.
    """
    args = args or GlowArgs()
    fit_to(
        Images(corpora, split, num_scales=args.num_scales),
        Path(output),
        args=args,
        fit=fit or FIT,
        labels=labels,
        knowledge=knowledge,
        measured=_bits_of_held_out,
    )
    return open_image_tzk(output)


def _bits_of_held_out(prior: CodePrior, held_out: Tensor) -> dict[str, float]:
    return {"valid_bits_per_dimension": float(bits_per_dimension(prior.log_prob(held_out), prior.dim).mean())}


def open_image_tzk(directory: Path | str) -> ImageTzK:
    """Open a directory of `fit_image_tzk`. Raises `UserError` if it is missing, damaged, or one of sentences."""
    card, prior = files.load_image_prior(Path(directory))
    return ImageTzK(Path(directory), card, prior)


def write_grid(images: Tensor, output: Path | str, *, columns: int | None = None) -> None:
    """Write images [N, C, H, W] in [0, 1] as one PNG, row by row, by default in a square.

    Raises `UserError` if matplotlib is missing, or for a number of channels other than 1 and 3.
    """
    try:
        from matplotlib.image import imsave
    except ImportError:
        raise UserError("pictures need matplotlib; install it with `pip install 'smim[pipeline]'`") from None

    num, channels, height, width = images.shape
    if channels not in (1, 3):
        raise UserError(f"the images have {channels} channels; pictures have 1 or 3")
    columns = columns or int(np.ceil(num**0.5))
    rows = -(-num // columns)
    grid = images.new_ones(rows * columns, channels, height + 1, width + 1)  # a white line between images
    grid[:num, :, :-1, :-1] = images
    whole = grid.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).reshape(rows * (height + 1), -1, channels)
    with storage.new_file(output) as partial:
        imsave(partial, whole.expand(-1, -1, 3).numpy(), format="png")
