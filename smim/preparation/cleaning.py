"""Cleaning of texts in blocks: Unicode normalisation, case, sentence splitting, and length limits."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import not_among, refuse
from smim.text.sentences import sentences_of

_NORMAL_FORMS = ["none", "NFC", "NFD", "NFKC", "NFKD"]
# The name under which each choice is counted.
_TOO_LONG = {"drop": "too_long_dropped", "truncate": "truncated", "split": "split"}
# The languages for which sentencex has rules. It silently treats most other codes as English.
_LANGUAGES = (
    *("am", "ar", "bg", "bn", "ca", "da", "de", "el", "en", "es", "fi", "fr", "gu", "hi", "hy", "it", "ja", "kk"),
    *("kn", "ml", "mr", "my", "nl", "pa", "pl", "pt", "ru", "sk", "ta", "te", "uk"),
)


@dataclass(frozen=True)
class Cleaning:
    """The cleaning steps, in this order: normalise, convert to lower case, split into sentences, limit the length.

    `normalize`: none, NFC, NFD, NFKC or NFKD. `split_sentences`: by the rules of `language`, a code of two letters.
    Sentences with fewer than `min_words` words (separated by white space) are left out. `too_long` applies to those
    with more than `max_words`: drop, truncate (keep the first `max_words`), or split (into pieces of `max_words`, and
    the rest).
    """

    normalize: str = "none"
    lowercase: bool = False
    split_sentences: bool = False
    language: str = "en"
    min_words: int = 1
    max_words: int | None = None
    too_long: str = "drop"

    def __post_init__(self) -> None:
        problems = not_among(self, "corpus", normalize=_NORMAL_FORMS, too_long=_TOO_LONG)
        if self.split_sentences and self.language not in _LANGUAGES:
            problems.append(
                f"corpus.language is {self.language!r}; to split sentences, give one of {', '.join(_LANGUAGES)}: take "
                f"the most similar language"
            )
        if self.min_words < 0:
            problems.append(f"corpus.min_words is {self.min_words}, but it must not be negative")
        if self.max_words is not None and self.max_words < max(1, self.min_words):
            least = "corpus.min_words" if self.min_words > 1 else "1"
            problems.append(f"corpus.max_words is {self.max_words}, but it must be at least {least}")
        refuse(problems)

    def apply(self, block: pa.Table, counts: Counter[str]) -> pa.Table:
        """Clean the texts of a block. Rows keep their labels and their order.

        Adds to `counts` the sentences that are left out (`too_short`, `too_long_dropped`), `truncated` or `split`.
        """
        if self.normalize != "none":
            # Some characters become a space and another character, so trim again.
            texts = pc.utf8_normalize(block.column("text"), self.normalize)
            block = _with_texts(block, pc.utf8_trim_whitespace(texts))
        if self.lowercase:
            block = _with_texts(block, pc.utf8_lower(block.column("text")))
        if self.split_sentences:
            block = _replaced(block, self._sentences)
        if self.min_words > 1 or self.max_words is not None:
            block = _replaced(block, partial(self._limited, counts))
        return block

    def _sentences(self, text: str) -> list[str]:
        return sentences_of(text, self.language)

    def _limited(self, counts: Counter[str], text: str) -> list[str]:
        pieces = [text]
        if self.max_words is not None and len(text.split()) > self.max_words:
            counts[_TOO_LONG[self.too_long]] += 1
            if self.too_long == "drop":
                return []
            pieces = re.findall(rf"\S+(?:\s+\S+){{0,{self.max_words - 1}}}", text)
            if self.too_long == "truncate":
                pieces = pieces[:1]
        enough = [piece for piece in pieces if len(piece.split()) >= max(1, self.min_words)]
        if len(enough) < len(pieces):
            counts["too_short"] += len(pieces) - len(enough)
        return enough


def _replaced(block: pa.Table, texts_of: Callable[[str], list[str]]) -> pa.Table:
    """Replace each text of a block by several texts or none, with the same labels."""
    found = [texts_of(text) for text in block.column("text").to_pylist()]
    rows = np.repeat(np.arange(len(found)), [len(texts) for texts in found])
    return _with_texts(block.take(pa.array(rows)), pa.array(chain.from_iterable(found), pa.string()))


def _with_texts(block: pa.Table, texts: pa.Array) -> pa.Table:
    return block.set_column(block.column_names.index("text"), "text", texts)
