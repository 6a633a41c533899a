"""Sentences that are left out of a corpus and of teaching, such as those that a model will be evaluated on.

They stand in files, a text a line or several between tabs, and are compared by their letters and digits alone.
"""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from smim import storage
from smim.preparation.readers import find_files
from smim.preparation.readers.base import Intake, Piece, reading
from smim.preparation.readers.chunks import read_chunks, text_lines


def normalised(text: str) -> str:
    """What two texts have in common that differ in case, spaces, punctuation or accents: "Café!" and "cafe" are one."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))


def without_files(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """The files that paths, patterns and folders name, absolute; raises `UserError` where there are none."""
    return tuple(path.absolute() for path in find_files(map(str, paths)))


def describe(files: Iterable[Path]) -> list[dict[str, str]]:
    """What a card says of the files: name and SHA-256."""
    return [{"file": path.name, "sha256": storage.sha256(path)} for path in files]


@lru_cache(maxsize=1)
def texts_without(files: tuple[Path, ...]) -> frozenset[str]:
    """The normalised texts of all lines, and of all parts between tabs, that have a letter: scores are no texts.

    Raises `UserError` where a file cannot be read.
    """
    found: set[str] = set()
    for path in files:
        with reading(path):
            intake = Intake(path)
            for chunk in read_chunks(Piece(path), intake):
                found.update(normalised(part) for _, line in text_lines(chunk, intake) for part in line.split("\t"))
    return frozenset(text for text in found if not text.isdecimal() and text)
