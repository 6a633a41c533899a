"""WikiText-103: paragraphs, without empty lines and headings (Table 7.1).

As in the thesis, train and valid are random parts of the original train file, and test is the original test file.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import ChangedReader, by_split, find_files, hub_files, reader_for
from smim.preparation.recipe import Input, Recipe

SIZES = {"train": 200_000, "valid": 10_000}
TEST_SIZE = 2185
_HUB = ("Salesforce/wikitext", "wikitext-103-v1")


@dataclass(frozen=True)
class Paragraphs(ChangedReader):
    """A reader that leaves out the headings, such as `= = Title = =`, from another reader's lines."""

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        heading = pc.match_substring_regex(block.column("text"), r"^=.*=$")
        left_out["heading"] += pc.sum(heading).as_py() or 0
        return block.filter(pc.invert(heading))


def recipe(args: CorpusArgs) -> Recipe:
    """Make the recipe of `wiki.train.tokens` and `wiki.test.tokens`, or of Parquet files; by default from the hub."""
    files = hub_files(*_HUB) if args.path is None else by_split(find_files(args.given_paths("FOLDER")))
    if not {"train", "test"} <= set(files):
        raise UserError(f"WikiText-103 needs files with train and test in their names; {args.path} has {_names(files)}")
    inputs = tuple(
        Input(split, path, Paragraphs(reader_for(path))) for split in ("train", "test") for path in files[split]
    )
    return Recipe(
        inputs=inputs,
        draws={"train": dict(SIZES), "test": {"test": None}},
        cleaning={"train": args.cleaning, "test": args.cleaning},
        expected={**SIZES, "test": TEST_SIZE},
    )


def _names(files: dict[str, list[Path]]) -> str:
    return ", ".join([path.name for paths in files.values() for path in paths][:8])
