"""The demo corpus: random sentences of a grammar, without a download."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data_prep.corpora import grammar
from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import Piece, Reader
from smim.preparation.recipe import Input, Recipe

_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Generated(Reader):
    """A reader that generates rows from the grammar. The name of the "file" is the split."""

    seed: int
    label_columns: tuple[str, ...] = ("topic", "family", "kind")

    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        yield pa.Table.from_pylist(grammar.generate(seed=self.seed)[piece.path.name])


def recipe(args: CorpusArgs) -> Recipe:
    """Make the recipe. Raises `UserError` if a `path` is given, because this corpus has no files."""
    if args.path is not None:
        raise UserError("corpus=demo is generated and takes no corpus.path; for your own text, give corpus=text")
    return Recipe(
        inputs=tuple(Input(split, Path(split), Generated(args.seed), generated=True) for split in _SPLITS),
        draws={split: {split: None} for split in _SPLITS},
        cleaning=dict.fromkeys(_SPLITS, args.cleaning),
        label_columns=Generated.label_columns,
        facts={"generator": "data_prep/corpora/grammar.py"},
    )
