"""Vectors with a known density: the Gaussian mixture of sections 4.2 and 5.3.1 of the thesis.

Shapes: N vectors, X their dimensions, K components.
"""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smim.preparation.vectors import MOST_NUMBERS, LabelledVectors, VectorArgs, write_corpus
from smim.schema import bounded

_LARGEST = 1e30  # its square is finite, and fp32 holds it


@dataclass(kw_only=True)
class GMMArgs(VectorArgs):
    """The settings of the mixture of isotropic components: one at the origin, the others around it at `radius`.

    All have equal weight. In two dimensions the outer means are evenly spaced on a circle, as in the authors' published
    experiments (the thesis gives no means). In more, their directions are random. In one dimension, all means are
    evenly spaced from -`radius` to `radius`. `center` is false for a ring, without the mean at the origin. `train`,
    `valid`, `test`: the number of independent vectors in each split.
    """

    dimension: int = bounded(MISSING, least=1)
    num_components: int = bounded(MISSING, least=1)
    standard_deviation: float = bounded(MISSING, above=0, most=_LARGEST)
    radius: float = bounded(MISSING, above=0, most=_LARGEST)
    center: bool
    train: int = bounded(MISSING, least=1)
    valid: int = bounded(MISSING, least=1)
    test: int = bounded(MISSING, least=1)

    def problems(self) -> list[str]:
        return super().problems() + [
            f"corpus.{split}={num} vectors of corpus.dimension={self.dimension} have more than {MOST_NUMBERS:,} "
            f"numbers; give fewer"
            for split, num in (("train", self.train), ("valid", self.valid), ("test", self.test))
            if num * self.dimension > MOST_NUMBERS
        ]


def build(args: GMMArgs, output: Path) -> dict[str, Any]:
    """Draw the corpus, write it at `output` and return its card, which contains the exact `density`."""
    [of_means, *of_splits] = np.random.default_rng(args.seed).spawn(4)
    means = component_means(args, of_means)
    sizes = {"train": args.train, "valid": args.valid, "test": args.test}
    return write_corpus(
        output,
        {split: _draw(args, means, num, random) for (split, num), random in zip(sizes.items(), of_splits, strict=True)},
        name=args.name,
        label="component",
        source={
            "generator": "smim/preparation/gmm.py",
            "seed": args.seed,
            "dimension": args.dimension,
            "components": args.num_components,
            **({} if args.center else {"center": False}),
            "radius": args.radius,
            "standard_deviation": args.standard_deviation,
        },
        density={"means": means.tolist(), "standard_deviation": args.standard_deviation},
    )


def component_means(args: GMMArgs, random: np.random.Generator) -> np.ndarray:
    """Make the means, fp64 [K, X]: the origin, and K - 1 points on the sphere; without a center K of them."""
    if args.dimension == 1:
        return np.linspace(-args.radius, args.radius, args.num_components)[:, None] * (args.num_components > 1)
    num_outer = args.num_components - args.center
    if args.dimension == 2:
        angles = 2 * np.pi * np.arange(num_outer) / max(1, num_outer)
        outer = np.stack([np.cos(angles), np.sin(angles)], 1)
    else:
        outer = random.standard_normal((num_outer, args.dimension))
        outer /= np.linalg.norm(outer, axis=1, keepdims=True)
    return np.concatenate([np.zeros((int(args.center), args.dimension)), args.radius * outer])


def _draw(args: GMMArgs, means: np.ndarray, num: int, random: np.random.Generator) -> LabelledVectors:
    components = random.integers(len(means), size=num)
    noise = random.standard_normal((num, args.dimension))
    vectors = means[components] + args.standard_deviation * noise
    return LabelledVectors(vectors.astype(np.float32), [str(each) for each in components])
