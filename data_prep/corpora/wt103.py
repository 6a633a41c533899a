"""WikiText-103: paragraphs, without empty lines and headings (Table 7.1).

As in the thesis, train and valid are drawn from the original train file, and the original test file is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_prep import sources
from data_prep.corpora.args import CorpusArgs
from data_prep.readers import Lines, Piece, Problems
from data_prep.recipe import Input, Recipe

SIZES = {"train": 200_000, "valid": 10_000}
TEST_SIZE = 2185


@dataclass(frozen=True)
class Paragraphs(Lines):
    """Lines that are not headings, which look like `= = Title = =`."""

    def blocks(self, piece: Piece, *, skip_bad: bool, problems: Problems) -> Iterator[pa.Table]:
        for block in super().blocks(piece, skip_bad=skip_bad, problems=problems):
            heading = pc.match_substring_regex(block.column("text"), r"^=.*=$")
            problems.bad["heading"] += pc.sum(heading).as_py() or 0
            yield block.filter(pc.invert(heading))


def recipe(args: CorpusArgs) -> Recipe:
    """`wiki.train*.tokens` and `wiki.test*.tokens` in the folder `corpus.path`."""
    [folder] = args.given_paths("FOLDER with wiki.train.tokens and wiki.test.tokens")
    files = {split: sources.find(Path(folder).expanduser(), f"wiki.{split}*.tokens") for split in ("train", "test")}
    return Recipe(
        inputs=tuple(Input(split, path, Paragraphs()) for split, path in files.items()),
        draws={"train": dict(SIZES), "test": {"test": None}},
        cleaning=dict.fromkeys(files, args.cleaning),
        expected={**SIZES, "test": TEST_SIZE},
    )
