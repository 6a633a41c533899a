"""Everyday English sentences of Tatoeba, as people write them, from the sentence pairs of manythings.org/anki.

The formats are the archives of that site (such as `fra-eng.zip`: English TAB translation), the files in them, and plain
text with one sentence per line. A sentence with several translations occurs several times.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.download import download
from smim.errors import UserError, refuse
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import ChangedReader, Lines, Piece, Reader, find_files
from smim.preparation.readers.base import MAX_LINE_BYTES
from smim.preparation.recipe import Input, Recipe

# A fixed copy, because the site updates its own each month.
_URL = "https://d2l-data.s3-accelerate.amazonaws.com/fra-eng.zip"
_SHA1 = "94646ad1522d915e7b0f9296181140edcf86a4f5"
_ZIP = ".zip"
_LINES_PER_BLOCK = 10_000
# The column that draws use. It is the same for all forms of a sentence, in all corpora.
WRITTEN = "written"


@dataclass(frozen=True, kw_only=True)
class TatoebaArgs(CorpusArgs):
    """The settings of Tatoeba. `valid`, `test`: shares of the sentences, drawn by (seed, text)."""

    valid: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.valid > 0 and self.test > 0 and self.valid + self.test < 1):
            refuse([f"corpus.valid={self.valid} and corpus.test={self.test} must be above 0 and leave some for train"])


@dataclass(frozen=True)
class Archive(Reader):
    """A reader of the text in an archive, without its description (`_about.txt`)."""

    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        try:
            with zipfile.ZipFile(piece.path) as archive:
                names = [Path(name) for name in archive.namelist()]
                texts = [name for name in names if name.suffix == ".txt" and not name.name.startswith("_")]
                if len(texts) != 1:
                    raise UserError(f"{piece.path} holds {len(texts)} texts, but must hold one, such as fra.txt")
                with archive.open(texts[0].as_posix()) as file:
                    yield from _blocks(file)
        except (zipfile.BadZipFile, UnicodeDecodeError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{piece.path} is damaged or no archive of sentences ({error}); fetch it again") from None


class First(ChangedReader):
    """A reader of another reader's lines up to the first tab. It also copies them into the column for draws."""

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        texts = pc.utf8_trim_whitespace(pc.replace_substring_regex(block.column("text"), "\t.*", ""))
        return pa.table({"text": texts, WRITTEN: texts}).filter(pc.not_equal(texts, ""))


def recipe(args: TatoebaArgs) -> Recipe:
    """Make the recipe of the file `corpus.path`, or of the archive downloaded into `data/downloads/tatoeba`."""
    if args.path is None:
        target = Path("data/downloads/tatoeba") / Path(_URL).name
        instead = "Fetch an archive from https://www.manythings.org/anki and give it as corpus.path=FILE"
        download(_URL, target, digest=_SHA1, algorithm="sha1", instead=instead)
        files = [target]
    else:
        files = find_files(args.given_paths("FILE"), also=[_ZIP])
    return Recipe(
        inputs=tuple(Input("all", path, First(Archive() if path.suffix == _ZIP else Lines())) for path in files),
        draws={"all": {"valid": args.valid, "test": args.test, "train": None}},
        cleaning={"all": args.cleaning},
        draw_by=WRITTEN,
        notes=("sentences of manythings.org/anki and tatoeba.org, CC BY 2.0 FR",),
    )


def _blocks(file: IO[bytes]) -> Iterator[pa.Table]:
    lines = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
    while block := list(islice(lines, _LINES_PER_BLOCK)):
        yield pa.table({"text": pa.array([line.decode("utf-8-sig") for line in block], pa.string())})
