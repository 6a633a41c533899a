"""Cleaning of texts, a block at a time: Unicode, case, sentences, and limits of length."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sentencex

from smim.errors import UserError, not_among

_NORMAL_FORMS = ["none", "NFC", "NFD", "NFKC", "NFKD"]
_TOO_LONG = ["drop", "truncate", "split"]
# Those that sentencex has rules for; most other codes it takes for English without a word.
_LANGUAGES = (
    *("am", "ar", "bg", "bn", "ca", "da", "de", "el", "en", "es", "fi", "fr", "gu", "hi", "hy", "it", "ja", "kk"),
    *("kn", "ml", "mr", "my", "nl", "pa", "pl", "pt", "ru", "sk", "ta", "te", "uk"),
)

# White space as `str.split` knows it: single bytes, and the UTF-8 of wider characters as numbers.
_SPACES = np.isin(np.arange(256), [*range(0x09, 0x0E), *range(0x1C, 0x21)])
_WIDE = [0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
_WIDE_SPACES = np.array([int.from_bytes(chr(code).encode()) for code in _WIDE])
_WIDE_LEADS = np.isin(np.arange(256), [chr(code).encode()[0] for code in _WIDE])


@dataclass(frozen=True)
class Cleaning:
    """What is done to texts, in this order: normalised, lower-cased, split into sentences, limited in length.

    `normalize`: none, NFC, NFD, NFKC or NFKD. `split_sentences`: by the rules of `language`, a code of two letters.
    Sentences of fewer than `min_words` words, as white space parts them, are left out. What becomes of those
    of more than `max_words`: `too_long` is drop, truncate (the first `max_words` are kept), or split (into
    pieces of `max_words`, and the rest).
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
                f"corpus.language is {self.language!r}; sentences are split by the rules of one of "
                f"{', '.join(_LANGUAGES)}: take the one that is nearest"
            )
        if self.min_words < 0:
            problems.append(f"corpus.min_words is {self.min_words}, it must not be negative")
        if self.max_words is not None and self.max_words < max(1, self.min_words):
            least = "corpus.min_words" if self.min_words > 1 else "1"
            problems.append(f"corpus.max_words is {self.max_words}, it must be at least {least}")
        if problems:
            raise UserError("; ".join(problems))

    def apply(self, block: pa.Table, counts: Counter[str]) -> pa.Table:
        """The block's rows, cleaned, in their order; labels go along.

        Adds to `counts`: `too_short` and `too_long_dropped` sentences left out, `truncated` and `split` ones.
        """
        if self.normalize != "none":
            # Some characters become a space and another one: trim again.
            texts = pc.utf8_normalize(block.column("text"), self.normalize)
            block = _with_texts(block, pc.utf8_trim_whitespace(texts))
        if self.lowercase:
            block = _with_texts(block, pc.utf8_lower(block.column("text")))
        if self.split_sentences:
            block = self._sentences(block)
        if self.min_words > 1 or self.max_words is not None:
            block = self._limit(block, counts)
        return block

    def _sentences(self, block: pa.Table) -> pa.Table:
        found: list[str] = []
        rows: list[int] = []
        for row, text in enumerate(block.column("text").to_pylist()):
            sentences = [stripped for each in sentencex.segment(self.language, text) if (stripped := each.strip())]
            found += sentences
            rows += [row] * len(sentences)
        return _with_texts(block.take(pa.array(rows, pa.int64())), pa.array(found, pa.string()))

    def _limit(self, block: pa.Table, counts: Counter[str]) -> pa.Table:
        words = _Words(block.column("text"))
        rows, first, after = np.arange(len(block)), words.first[:-1], words.first[1:]
        if self.max_words is not None:
            too_long = after - first > self.max_words
            if self.too_long == "drop":
                _count(counts, "too_long_dropped", too_long)
                rows, first, after = rows[~too_long], first[~too_long], after[~too_long]
            elif self.too_long == "truncate":
                _count(counts, "truncated", too_long)
                after = np.minimum(after, first + self.max_words)
            else:
                _count(counts, "split", too_long)
                rows, first, after = _split(rows, first, after, self.max_words)
        enough = after - first >= max(1, self.min_words)
        _count(counts, "too_short", ~enough)
        return _with_texts(block.take(pa.array(rows[enough])), words.texts(first[enough], after[enough]))


class _Words:
    """Where the words of texts are; `first[i]` is the number of text i's first word, `first[-1]` how many there are."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        texts = column.combine_chunks()
        _, offsets, self.data = texts.buffers()
        borders = np.frombuffer(offsets, np.int32)[texts.offset :][: len(texts) + 1] if len(texts) else np.zeros(1, int)
        data = np.frombuffer(self.data, np.uint8)[: borders[-1]] if self.data else np.zeros(0, np.uint8)
        space = _is_space(data)
        # A text's first word begins, and its last one ends, without white space between it and the next text.
        breaks = np.zeros(len(data) + 1, bool)
        breaks[borders] = True
        self.starts = np.flatnonzero(~space & (breaks[:-1] | np.concatenate([[True], space[:-1]])))
        self.ends = np.flatnonzero(~space & (breaks[1:] | np.concatenate([space[1:], [True]]))) + 1
        self.first = np.searchsorted(self.starts, borders)

    def texts(self, first: np.ndarray, after: np.ndarray) -> pa.Array:
        """Texts from the word `first[i]` to the one before `after[i]`, in the order of the words."""
        if len(first) == 0:
            return pa.array([], pa.string())
        # Over the same bytes, every second string is what lies between two texts.
        offsets = np.stack([self.starts[first], self.ends[after - 1]], axis=1).ravel().astype(np.int32)
        strings = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), self.data)
        return strings.take(pa.array(np.arange(0, len(strings), 2)))


def _is_space(data: np.ndarray) -> np.ndarray:
    """Which bytes of UTF-8 are white space, or part of a character that is."""
    space = _SPACES[data]
    leads = np.flatnonzero(_WIDE_LEADS[data])
    if len(leads):
        padded = np.concatenate([data, np.zeros(2, np.uint8)]).astype(np.int32)
        three = padded[leads] << 16 | padded[leads + 1] << 8 | padded[leads + 2]
        two_wide = leads[np.isin(three >> 8, _WIDE_SPACES)]
        three_wide = leads[np.isin(three, _WIDE_SPACES)]
        for places, width in ((two_wide, 2), (three_wide, 3)):
            space[(places[:, None] + np.arange(width)).ravel()] = True
    return space


def _split(rows: np.ndarray, first: np.ndarray, after: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
    """Each row of more than `most` words as several."""
    pieces = np.maximum(1, -(-(after - first) // most))
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = np.repeat(first, pieces) + number * most
    return np.repeat(rows, pieces), start, np.minimum(start + most, np.repeat(after, pieces))


def _count(counts: Counter[str], name: str, rows: np.ndarray) -> None:
    if some := int(rows.sum()):
        counts[name] += some


def _with_texts(block: pa.Table, texts: pa.Array) -> pa.Table:
    return block.set_column(block.column_names.index("text"), "text", texts)
