"""TzK over images: t is an image itself, and its t-flow is a Glow (sections 8.4.2 to 8.4.4).

Shapes: N images, C channels, H rows, W columns, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smim.errors import UserError, check_seed, check_whole
from smim.tzk import directory as files
from smim.tzk.args import IMAGE_FIT, IMAGE_LABEL, IMAGE_LABEL_FIT, FitArgs, GlowArgs, KnowledgeArgs
from smim.tzk.codes import some_rows
from smim.tzk.images import Images, bits_per_dimension
from smim.tzk.knowledge import Knowledge
from smim.tzk.labelled import LabelledPrior, Ranked, fit_to
from smim.tzk.labels import Label, values
from smim.tzk.prior import CodePrior
from smim.tzk.training import draw
from smim.vectors.corpus import VectorCorpus


@dataclass(frozen=True)
class ImageReport:
    """Figures of held-out images, with standard errors over images: (value, standard error).

    `label` is None for all images. `num_images`: those with the label. In bits per dimension of these: `prior`, p(t);
    `conditional`, p(t|e = 1) from 32 draws of c; and `one_code`, the thesis's figure, at one c ~ p(c|e = 1, t), which
    is no density. `gain`: the mean improvement of `conditional` over `prior`, image by image. `auc`: the probability
    that p(e = 1|t) is higher for an image with the label than for one without.
    """

    label: str | None
    num_images: int
    prior: tuple[float, float]
    conditional: tuple[float, float] | None = None
    one_code: tuple[float, float] | None = None
    gain: tuple[float, float] | None = None
    auc: float | None = None


class ImageTzK(LabelledPrior):
    """The prior p(t) of images, and the labels added to it. Open one with `open_image_tzk`.

    Every image has the label `corpus=NAME`, besides the label columns of its corpus. Images that the methods return are
    fp32 [N, C, H, W] with grey values or colours in [0, 1], padded as in training.
    """

    command, what = "smim tzk images", "images"
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

        `args` and `fit` are by default those of `smim tzk images add`. Raises `UserError` like `TzK.add`.
        """
        return self._learn(self.images(corpora, split), label, args or IMAGE_LABEL, fit or IMAGE_LABEL_FIT)

    def check(self, corpora: Sequence[VectorCorpus], labels: Sequence[str], *, split: str = "train") -> None:
        """Raise the `UserError` of `add` if one of `labels` cannot be learned from a split."""
        self._check(self.images(corpora, split), labels)

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
        images = self.images(corpora, split)
        return torch.sigmoid(self.log_odds(images.posterior(images.rows(rows)).mean, self.asked(labels))).numpy()

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
        images = self.images(corpora, split)
        corners = images.posterior(images.rows(rows)).mean
        return self._pictures(self.interpolate_codes(corners, num).flatten(0, 1))

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

        Raises `UserError` if scikit-learn is missing, if the corpora lack a label's column, or if fewer than two images
        of the split have a label.
        """
        try:
            from sklearn.metrics import roc_auc_score
        except ImportError:
            raise UserError("the report needs scikit-learn; install it with `pip install 'smim[pipeline]'`") from None

        check_whole("num", num, least=2)
        check_seed(seed)
        images = self.images(corpora, split)
        every = np.arange(len(images.split))
        if len(every) < 2:
            raise UserError(f"{images.name} {split} has {len(every)} images; the report needs at least two")
        labels = list(dict.fromkeys(self.labels if labels is None else labels))
        having = [self._having(images, label) for label in labels]

        def drawn(rows: np.ndarray) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            return draw(images.posterior(some_rows(rows, num, seed)), generator)

        def bits(log_prob_N: Tensor) -> Tensor:
            return bits_per_dimension(log_prob_N, self.prior.dim)

        some = some_rows(every, num, seed)
        reports = [ImageReport(None, len(every), _estimate(bits(self.log_prob(drawn(every)))))]
        for label, has in zip(labels, having, strict=True):
            with_label = every[has == 1]
            of_label = drawn(with_label)
            prior, conditional = (bits(self.log_prob(of_label, each, seed=seed)) for each in (None, label))
            judged = np.union1d(some[~np.isnan(has[some])], some_rows(with_label, num, seed))
            log_odds = self.log_odds(images.posterior(judged).mean, [label])[:, 0]
            reports.append(
                ImageReport(
                    label,
                    len(with_label),
                    prior=_estimate(prior),
                    conditional=_estimate(conditional),
                    one_code=_estimate(bits(self.log_prob_of_code(of_label, label, seed=seed))),
                    gain=_estimate(prior - conditional),
                    auc=None if has[judged].all() else float(roc_auc_score(has[judged], log_odds)),
                )
            )
        return reports

    def _having(self, images: Images, label: str) -> np.ndarray:
        """Whether each image has a label that was added: 1, 0, or NaN without a value in the column [N]."""
        self.knowledge(label)
        wanted = Label.parse(label)
        column = values(images.split, wanted.column).to_pylist()
        has = np.array([np.nan if value is None else value == wanted.value for value in column], float)
        if (num := int((has == 1).sum())) < 2:
            raise UserError(
                f"{num} images of {images.name} {images.split.name} have {label}; the report needs at least "
                "two, so give another split or label"
            )
        return has

    def _pictures(self, observations_NT: Tensor) -> Tensor:
        return observations_NT.clamp(0, 1).unflatten(-1, tuple(self.card.shape))


def _estimate(values_N: Tensor) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(values_N.mean()), float(values_N.std() / len(values_N) ** 0.5)


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
    vectors that are no images of 8 bits per number, images that are too small for the scales, and an `output` with
    other content.
    """
    args = args or GlowArgs()
    images = Images(corpora, split, num_scales=args.num_scales)
    images.check_scales()
    fit_to(
        images,
        Path(output),
        args=args,
        fit=fit or IMAGE_FIT,
        labels=labels,
        knowledge=knowledge or (IMAGE_LABEL if labels else None),
        measured=_bits_of_held_out,
    )
    return open_image_tzk(output)


def _bits_of_held_out(prior: CodePrior, held_out: Tensor) -> dict[str, float]:
    return {"valid_bits_per_dimension": float(bits_per_dimension(prior.log_prob(held_out), prior.dim).mean())}


def open_image_tzk(directory: Path | str) -> ImageTzK:
    """Open a directory of `fit_image_tzk`. Raises `UserError` if it is missing, damaged, or one of sentences."""
    card, prior = files.load_image_prior(Path(directory))
    return ImageTzK(Path(directory), card, prior)
