"""WordNet's definitions and examples as sentences: what words mean, for models that learn meaning.

Read are the data files of WordNet 3.0 (`data.noun` and its like), in which each line has a set of synonyms and, behind
a bar, its gloss: definitions, and examples in quotes. Both are given a capital and a full stop.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data_prep.corpora.tatoeba import WRITTEN, TatoebaArgs
from smim.errors import UserError
from smim.preparation.readers import ChangedReader, Lines
from smim.preparation.recipe import Input, Recipe

# Where Debian's package wordnet-base has it.
_INSTALLED = Path("/usr/share/wordnet")
_FILES = ("data.adj", "data.adv", "data.noun", "data.verb")
_EXAMPLE = re.compile(r'"([^"]+)"')
_DOMAIN = re.compile(r"^\([^)]*\)\s*")
_END = re.compile(r"[.!?]$")


@dataclass(frozen=True, kw_only=True)
class WordNetArgs(TatoebaArgs):
    """As of Tatoeba: shares of the sentences for valid and test."""


class Glosses(ChangedReader):
    """The sentences of another reader's lines, and once more under the name that they are drawn by."""

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        texts = [each for line in block.column("text").to_pylist() for each in sentences(line)]
        return pa.table({"text": pa.array(texts, pa.string()), WRITTEN: pa.array(texts, pa.string())})


def sentences(line: str) -> Iterator[str]:
    """The definition and the examples of a line of a data file; nothing of a line without a gloss."""
    gloss = line.partition(" | ")[2].strip()
    definition = _DOMAIN.sub("", gloss.partition('"')[0].strip(" ;"))
    for text in (definition, *_EXAMPLE.findall(gloss)):
        if text := text.strip(" ;,"):
            yield text[0].upper() + text[1:] + ("" if _END.search(text) else ".")


def recipe(args: WordNetArgs) -> Recipe:
    """The data files in the folder `corpus.path`, or those that are installed where it is null."""
    folder = _INSTALLED if args.path is None else Path(args.given_paths("FOLDER")[0])
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise UserError(
            f"{folder} has no {missing[0]} of WordNet 3.0; give the folder of its data files: install Debian's package "
            "wordnet-base, or fetch them from https://wordnet.princeton.edu/download"
        )
    return Recipe(
        inputs=tuple(Input("all", folder / name, Glosses(Lines())) for name in _FILES),
        draws={"all": {"valid": args.valid, "test": args.test, "train": None}},
        cleaning={"all": args.cleaning},
        draw_by=WRITTEN,
        notes=("WordNet 3.0, Copyright 2006 by Princeton University, under the WordNet 3.0 license",),
    )
