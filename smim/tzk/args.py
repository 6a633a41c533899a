"""The settings of TzK. They need no torch, so that the command line can show their defaults."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smim.errors import UserError, check_seed, too_low

if TYPE_CHECKING:
    from smim.model.distributions import DiagonalGaussian
    from smim.tzk.images import Dequantised, ImagePrior
    from smim.tzk.prior import CodePrior


@dataclass(frozen=True)
class PriorArgs:
    """The settings of the t-flow's shape: `num_coupling_layers`, whose networks have `hidden_dim` units."""

    num_coupling_layers: int = 8
    hidden_dim: int = 256

    def __post_init__(self) -> None:
        if problems := too_low(self, "prior", num_coupling_layers=1, hidden_dim=1):
            raise UserError("; ".join(problems))

    def make(self, train: "DiagonalGaussian") -> "CodePrior":
        """Make an untrained prior of such codes, standardised by their moments."""
        from smim.tzk.prior import CodePrior

        prior = CodePrior(train.mean.shape[1], self)
        prior.standardization.fit(train)
        return prior


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

    def make(self, train: "Dequantised") -> "ImagePrior":
        """Make an untrained prior of such images, whose ActNorms are set by a first batch."""
        from smim.tzk.images import ImagePrior

        prior = ImagePrior(train.shape, self)
        prior.initialize(train)
        return prior


@dataclass(frozen=True)
class KnowledgeArgs:
    """The settings that decide the shape of a knowledge type.

    `code_dim`: C. `num_coupling_layers`: of each z-flow, 4 as in section 8.4.4. `hidden_dim`: units in all networks,
    or channels. `num_code_layers`: coupling layers of the flows of p(c) and of p(c|e, t), 4 in section G.1. With 0,
    p(c) is N(0, I) and p(c|e, t) is a Gaussian.
    """

    code_dim: int = 4
    num_coupling_layers: int = 4
    hidden_dim: int = 128
    num_code_layers: int = 0

    def __post_init__(self) -> None:
        problems = too_low(self, "knowledge", code_dim=1, num_coupling_layers=1, hidden_dim=1, num_code_layers=0)
        if self.num_code_layers and self.code_dim < 2:
            problems.append("knowledge.num_code_layers needs a knowledge.code_dim of at least 2")
        if problems:
            raise UserError("; ".join(problems))


@dataclass(frozen=True)
class FitArgs:
    """The settings of all trainings here. They use Adam, whose learning rate rises to `learning_rate`, then falls to 0.

    A batch is `batch_size` codes, newly drawn from their posteriors. A tenth of the sentences is held out, and the
    weights that are best on it are kept. `max_sentences`: the number of random sentences of the corpus in use; for a
    label, at most half of them with it, and half without. For images, read images for sentences.

    `draw_t`: when a label's c is drawn from p(c), draw t from p(t|e, c) too (eq. G.1), without a gradient through the
    draw. Otherwise t is of the corpus. On held-out observations, t is always of the corpus.
    """

    num_optimizer_steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 1e-3
    max_sentences: int = 200_000
    seed: int = 0
    draw_t: bool = False

    def __post_init__(self) -> None:
        problems = too_low(self, "fit", num_optimizer_steps=10, batch_size=2, max_sentences=20)
        if not self.learning_rate > 0:
            problems.append(f"fit.learning_rate is {self.learning_rate}, but it must be above 0")
        if problems:
            raise UserError("; ".join(problems))
        check_seed(self.seed)


# Glow is slow on the CPU, so trainings of images are shorter than those of codes. Set more for good pictures.
IMAGE_FIT = FitArgs(num_optimizer_steps=2000, batch_size=32, learning_rate=2e-3)
IMAGE_LABEL = KnowledgeArgs(hidden_dim=64)
IMAGE_LABEL_FIT = FitArgs(num_optimizer_steps=1000, batch_size=32, learning_rate=1e-3)
