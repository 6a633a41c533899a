"""WordNet's definitions and examples as sentences, for models that learn the meaning of words.

The sources are the data files of WordNet 3.0 (such as `data.noun`). Each line has a set of synonyms and, after a bar,
its gloss: definitions, and examples in quotes. Both get a capital letter and a full stop.
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

# The folder of Debian's package wordnet-base.
_INSTALLED = Path("/usr/share/wordnet")
_FILES = ("data.adj", "data.adv", "data.noun", "data.verb")
_EXAMPLE = re.compile(r'"([^"]+)"')
_DOMAIN = re.compile(r"^\([^)]*\)\s*")
_END = re.compile(r"[.!?]$")


@dataclass(frozen=True, kw_only=True)
class WordNetArgs(TatoebaArgs):
    """The settings of WordNet. `valid`, `test`: shares of the sentences, as for Tatoeba."""


class Glosses(ChangedReader):
    """A reader that extracts sentences from another reader's lines, and copies them into the column for draws."""

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        texts = [each for line in block.column("text").to_pylist() for each in sentences(line)]
        return pa.table({"text": pa.array(texts, pa.string()), WRITTEN: pa.array(texts, pa.string())})


def sentences(line: str) -> Iterator[str]:
    """Yield the definition and the examples in a line of a data file. A line without a gloss has none."""
    gloss = line.partition(" | ")[2].strip()
    definition = _DOMAIN.sub("", gloss.partition('"')[0].strip(" ;"))
    for text in (definition, *_EXAMPLE.findall(gloss)):
        if text := text.strip(" ;,"):
            yield text[0].upper() + text[1:] + ("" if _END.search(text) else ".")


def recipe(args: WordNetArgs) -> Recipe:
    """Make the recipe of the data files in the folder `corpus.path`. null means the installed files."""
    folder = _INSTALLED if args.path is None else Path(args.given_paths("FOLDER")[0])
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise UserError(
            f"{folder} has no {missing[0]} of WordNet 3.0; install Debian's package wordnet-base, or fetch the data "
            "files from https://wordnet.princeton.edu/download and give their folder as corpus.path=FOLDER"
        )
    return Recipe(
        inputs=tuple(Input("all", folder / name, Glosses(Lines())) for name in _FILES),
        draws={"all": {"valid": args.valid, "test": args.test, "train": None}},
        cleaning={"all": args.cleaning},
        draw_by=WRITTEN,
        notes=("WordNet 3.0, Copyright 2006 by Princeton University, under the WordNet 3.0 license",),
    )
