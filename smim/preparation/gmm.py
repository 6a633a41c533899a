"""Vectors with a known density: the Gaussian mixture of sections 4.2 and 5.3.1 of the thesis.

Shapes: N vectors, X their dimensions, K components.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smim.errors import refuse, too_low
from smim.preparation.vectors import LabelledVectors, VectorArgs, write_corpus


@dataclass
class GMMArgs(VectorArgs):
    """The settings of the mixture of isotropic components: one at the origin, the others around it at `radius`.

    All have equal weight. In two dimensions the outer means are evenly spaced on a circle, as in the authors' published
    experiments (the thesis gives no means). In more, their directions are random. In one dimension, all means are
    evenly spaced from -`radius` to `radius`. `center` is false for a ring, without the mean at the origin. `train`,
    `valid`, `test`: the number of independent vectors in each split.
    """

    dimension: int
    num_components: int
    standard_deviation: float
    radius: float
    center: bool
    train: int
    valid: int
    test: int

    def __post_init__(self) -> None:
        problems = too_low(self, "corpus", seed=0, dimension=1, num_components=1, train=1, valid=1, test=1)
        problems += [
            f"corpus.{name} is {getattr(self, name)}, but it must be above 0"
            for name in ("standard_deviation", "radius")
            if not getattr(self, name) > 0
        ]
        refuse(problems)


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
