"""Handwritten digits as vectors: scikit-learn's 1,797 images of 8x8 pixels, without a download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smim.preparation.vectors import LabelledVectors, VectorArgs, write_corpus

_LEAST_SHARE = 0.01  # each split has each digit
_LEVELS = 16  # a pixel is the number of set points in a block of 4x4


@dataclass(kw_only=True)
class DigitsArgs(VectorArgs):
    """The settings of digits. `valid`, `test`: shares of the images, stratified by digit."""

    valid: float
    test: float

    def problems(self) -> list[str]:
        found = super().problems()
        shares = (self.valid, self.test, 1 - self.valid - self.test)
        if not all(share >= _LEAST_SHARE for share in shares):
            found.append(
                f"corpus.valid={self.valid} and corpus.test={self.test} must be at least {_LEAST_SHARE}, and leave "
                f"{_LEAST_SHARE} for train"
            )
        return found


def build(args: DigitsArgs, output: Path) -> dict[str, Any]:
    """Split the images, write the corpus at `output` and return its card. Pixels are grey values from 0 to 1."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    vectors, digits = (data.data / _LEVELS).astype(np.float32), data.target
    rows, test = train_test_split(np.arange(len(digits)), test_size=args.test, stratify=digits, random_state=args.seed)
    share = args.valid / (1 - args.test)
    train, valid = train_test_split(rows, test_size=share, stratify=digits[rows], random_state=args.seed)
    return write_corpus(
        output,
        {
            split: LabelledVectors(vectors[chosen], digits[chosen].astype(str).tolist())
            for split, chosen in {"train": train, "valid": valid, "test": test}.items()
        },
        name=args.name,
        label="digit",
        shape=[1, 8, 8],
        source={"data": "scikit-learn's digits, 8x8 pixels", "seed": args.seed, "valid": args.valid, "test": args.test},
    )
