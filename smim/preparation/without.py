"""Sentences to leave out of a corpus and of teaching, such as those of evaluation sets.

The files have one text per line, or several separated by tabs. The comparison uses only letters and digits.
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
    """Remove case, spaces, punctuation and accents, so that "Café!" and "cafe" become equal."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))


def without_files(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """List the absolute files that paths, patterns and folders name. Raises `UserError` if there are none."""
    return tuple(path.absolute() for path in find_files(map(str, paths)))


def describe(files: Iterable[Path]) -> list[dict[str, str]]:
    """Describe the files for a card: name and SHA-256."""
    return [{"file": path.name, "sha256": storage.sha256(path)} for path in files]


@lru_cache(maxsize=1)
def texts_without(files: tuple[Path, ...]) -> frozenset[str]:
    """Read the files into a set of normalised texts. Texts of digits only, such as scores, are left out.

    Raises `UserError` if a file cannot be read.
    """
    found: set[str] = set()
    for path in files:
        with reading(path):
            intake = Intake(path)
            for chunk in read_chunks(Piece(path), intake):
                found.update(normalised(part) for _, line in text_lines(chunk, intake) for part in line.split("\t"))
    return frozenset(text for text in found if not text.isdecimal() and text)
