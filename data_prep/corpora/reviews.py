"""Yelp15 and Yahoo Answers (Yang et al. 2017): 100K / 10K / 10K texts with a label (Table 7.1).

The formats are label TAB text, JSON Lines (`text`, and `label`, `stars` or `topic`), and one text per line, plain or
compressed. Files with train, valid and test in their names keep their splits. Other files are split randomly.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import (
    ChangedReader,
    Delimited,
    JsonLines,
    Lines,
    Reader,
    by_split,
    find_files,
    first_line,
)
from smim.preparation.recipe import Amount, Input, Recipe

SIZES = {"train": 100_000, "valid": 10_000, "test": 10_000}
_LABELS = ("label", "stars", "topic")


@dataclass(frozen=True)
class Labelled(ChangedReader):
    """A reader that renames the label of another reader to `label`, and replaces Yang et al.'s `_UNK` by `<unk>`."""

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        texts = pc.replace_substring_regex(block.column("text"), r"\b_UNK\b", "<unk>")
        # A block may lack the label.
        return pa.table([texts, *block.columns[1:]], names=["text", "label"][: block.num_columns])


def recipe(args: CorpusArgs) -> Recipe:
    files = by_split(find_files(args.given_paths("FOLDER or FILE")))
    readers = [(pool, path, _reader(path)) for pool, paths in files.items() for path in paths]
    draws, notes = _draws(list(files))
    return Recipe(
        inputs=tuple(Input(pool, path, Labelled(reader)) for pool, path, reader in readers),
        draws=draws,
        cleaning=dict.fromkeys(files, args.cleaning),
        label_columns=("label",) if any(reader.label_columns for _, _, reader in readers) else (),
        expected=SIZES,
        notes=notes,
    )


def _reader(path: Path) -> Reader:
    """Choose the reader by the format of the first line."""
    line = first_line(path)
    if line.startswith("{"):
        try:
            columns = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line 1: not a JSON object ({error})") from None
        label = next((name for name in _LABELS if name in columns), None)
        return JsonLines(text_column="text", label_columns=(label,) if label else ())
    if "\t" in line:
        return Delimited(delimiter="\t", text_column="1", label_columns=("0",), header=False)
    return Lines()


def _draws(pools: list[str]) -> tuple[dict[str, dict[str, Amount]], tuple[str, ...]]:
    """Decide what each split gets from each pool. Files of some splits may be missing."""
    draws: dict[str, dict[str, Amount]] = {pool: {} for pool in pools}
    if "all" in pools:
        return {"all": dict(SIZES)}, ()
    notes = []
    for split, size in SIZES.items():
        pool = split if split in pools else next(pool for pool in ("train", "valid", "test") if pool in pools)
        draws[pool][split] = size
        if pool != split:
            notes.append(f"there is no file for {split}: its texts are drawn from the file for {pool}")
    if "train" in draws.get("valid", {}):
        draws["valid"]["train"] = 9 * SIZES["valid"]
    return draws, tuple(notes)
