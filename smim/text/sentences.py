"""Splitting of long texts into sentences, because one code cannot represent a whole page well.

`sentencex` splits by the rules of a language, by default of English: after a full stop that does not belong to an
abbreviation, and at an empty line.
"""

from collections.abc import Callable

import sentencex

from smim.errors import UserError, nearest

# `auto` splits texts of more than `SPLIT_ABOVE` tokens, `sentences` splits every text of several sentences.
SPLITS = ("auto", "sentences", "none")
SPLIT_ABOVE = 60


def check_split(split: str) -> None:
    """Raise `UserError` for a value that is not in `SPLITS`."""
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; {nearest(str(split), list(SPLITS))}")


def sentences_of(text: str, language: str = "en") -> list[str]:
    """Return the sentences of a text in order, without white space around them. An empty text has none."""
    return [stripped for each in sentencex.segment(language, text) if (stripped := each.strip())]


def split_text(text: str, encode: Callable[[str], list[int]], split: str) -> list[tuple[str, list[int]]]:
    """Return the text or its sentences (at least one), each with its token ids. `split` is one of `SPLITS`."""
    whole = [(text, encode(text))] if split != "sentences" else []
    if split == "none" or (split == "auto" and len(whole[0][1]) <= SPLIT_ABOVE):
        return whole
    sentences = [(each, encode(each)) for each in sentences_of(text)]
    return sentences if len(sentences) > 1 else whole or [(text, encode(text))]
