"""Word-level tokenizer: a text is split into words, and the vocabulary is a list of words."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim import schema
from smim.errors import UserError, nearest
from smim.text.tokenizer import FILE, NOT_TEXT, SPECIAL, UNK_ID, Tokenizer, string_array

# Arrow's lookup hashes the whole vocabulary at each call. It pays if the words are more than a quarter of that number.
_LOOKUP_PAYS_FROM = 4


# A space next to a letter. Only runs of dots and telephone numbers can be words with spaces, and they have no letters.
_BETWEEN_WORDS = re.compile(r" (?:(?<=[^\W\d_] )|(?=[^\W\d_]))")
# The most distinct stretches between such spaces whose words are kept. Few texts have more that are frequent.
_STRETCHES_KEPT = 1 << 16


@cache
def _tweet_splitter() -> Callable[[str], list[str]]:
    from nltk.tokenize import TweetTokenizer  # importing NLTK takes a second

    tokenize = TweetTokenizer(preserve_case=False).tokenize

    @lru_cache(_STRETCHES_KEPT)
    def split(stretch: str) -> list[str]:
        # NLTK decodes HTML entities: `&#55296;` becomes a surrogate, which UTF-8 cannot encode.
        return [word.encode("utf-8", "replace").decode() for word in tokenize(stretch)]

    return lambda text: list(chain.from_iterable(map(split, _BETWEEN_WORDS.split(text))))


_SPLITTERS: dict[str, Callable[[], Callable[[str], list[str]]]] = {
    "whitespace": lambda: str.split,
    "tweet": _tweet_splitter,
}
SPLITTERS = tuple(_SPLITTERS)


# What `str.split` treats as white space, besides ASCII's tab, line feeds, carriage return and space.
_OTHER_SPACE = "[\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
# The first bytes of these characters in UTF-8.
_OTHER_SPACE_LEADS = np.isin(np.arange(256), [*range(0x1C, 0x20), 0xC2, 0xE1, 0xE2, 0xE3])


def split_words(texts: pa.StringArray, splitter: str) -> pa.ListArray:
    """Split each of N texts into words: N lists of strings. `whitespace` splits as `str.split` does.

    Raises `UserError` for an unknown splitter.
    """
    _check_splitter(splitter)
    if splitter == "whitespace":
        # Arrow splits twice as fast at ASCII white space alone, so replace other white space by a space first.
        if _may_hold_other_space(texts):
            texts = pc.replace_substring_regex(texts, _OTHER_SPACE, " ")
        # Trim first: Arrow's split reads past the end of a text that ends in white space, so that its result depends
        # on the bytes that follow in memory.
        return _without_empty(pc.ascii_split_whitespace(pc.ascii_trim_whitespace(texts)))
    split = _SPLITTERS[splitter]()
    return pa.array([split(text) for text in texts.to_pylist()], pa.list_(pa.string()))


def _may_hold_other_space(texts: pa.StringArray) -> bool:
    """Check quickly whether a byte may begin unusual white space."""
    data = texts.buffers()[2]
    return data is not None and bool(_OTHER_SPACE_LEADS[np.frombuffer(data, np.uint8)].any())


def nearest_min_count(words: pa.StringArray, counts: pa.Int64Array, *, near: int, min_count: int = 1) -> int:
    """Find the minimum count, from `min_count` up, whose vocabulary size (with special tokens) is nearest to `near`.

    `words` has each word once, and `counts` its count. If two are equally near, the smaller minimum count wins.
    """
    ascending = np.sort(_countable(words, counts, min_count=min_count).column("count").to_numpy())
    # The size only changes when the minimum passes an existing count.
    candidates = np.concatenate([[min_count], np.unique(ascending) + 1])
    sizes = len(SPECIAL) + len(ascending) - np.searchsorted(ascending, candidates)
    return int(candidates[np.argmin(np.abs(sizes - near))])


@dataclass(frozen=True)
class WordTokenizer(Tokenizer):
    """Splits text into words and maps each to its id; a word outside of the vocabulary becomes `<unk>`.

    `splitter` is `whitespace`, or `tweet` for NLTK's `TweetTokenizer(preserve_case=False)`, as in the thesis. `words`
    starts with `<pad> <sos> <eos> <unk>`; a word's id is its position.
    """

    kind = "word"
    splitter: str
    words: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        _check_splitter(self.splitter)
        if self.words[: len(SPECIAL)] != SPECIAL or len(set(self.words)) != len(self.words):
            raise UserError(f"a vocabulary must start with {' '.join(SPECIAL)} and have each word once")

    @classmethod
    def from_counts(
        cls,
        words: pa.StringArray,
        counts: pa.Int64Array,
        *,
        splitter: str,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> "WordTokenizer":
        """Make the vocabulary of words with at least `min_count` occurrences, most frequent first, ties by code points.

        `words` has each word once, and `counts` its count. `max_size` bounds the size of the vocabulary, including the
        four special tokens. Raises `UserError` if it does not admit any word.
        """
        if max_size is not None and max_size <= len(SPECIAL):
            raise UserError(f"max_size is {max_size}; it must be above {len(SPECIAL)}, the number of special tokens")
        table = _countable(words, counts, min_count=min_count)
        table = table.sort_by([("count", "descending"), ("word", "ascending")])  # by UTF-8 bytes, so by code points
        kept = table.column("word")[: None if max_size is None else max_size - len(SPECIAL)]
        return cls(splitter=splitter, words=(*SPECIAL, *kept.to_pylist()))

    @classmethod
    def train(cls, texts: Iterable[str], *, splitter: str, min_count: int = 1) -> "WordTokenizer":
        """Make the vocabulary from texts, as `from_counts` does. Raises `UserError` for an unknown splitter."""
        words, counts = split_words(string_array(list(texts)), splitter).flatten().value_counts().flatten()
        return cls.from_counts(words, counts, splitter=splitter, min_count=min_count)

    @property
    def vocabulary_size(self) -> int:
        return len(self.words)

    @cached_property
    def hash(self) -> str:
        content = json.dumps(["word", self.splitter, self.words], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        ids = self._ids
        return [ids.get(word, UNK_ID) for word in self._split(text)]

    def encode_batch(self, texts: pa.StringArray | Sequence[str]) -> pa.ListArray:
        split = split_words(string_array(texts), self.splitter)
        return pa.ListArray.from_arrays(split.offsets, self.lookup(split.values))

    def lookup(self, words: pa.StringArray) -> pa.Int32Array:
        """Return the id of each of M words, int32 [M]."""
        encoded = words.dictionary_encode()
        distinct = encoded.dictionary
        if len(distinct) * _LOOKUP_PAYS_FROM > self.vocabulary_size:
            ids = pc.fill_null(pc.index_in(distinct, value_set=self._value_set), UNK_ID)
        else:
            ids = pa.array([self._ids.get(word, UNK_ID) for word in distinct.to_pylist()], pa.int32())
        return ids.take(encoded.indices)

    def decode(self, ids: Iterable[int]) -> str:
        """Join the words of `ids` with spaces, without padding, `<sos>` and `<eos>`."""
        return " ".join(self.words[i] for i in ids if i not in NOT_TEXT)

    def token(self, id: int) -> str:
        return self.words[id]

    def _write(self, directory: Path) -> dict[str, Any]:
        return {"splitter": self.splitter, "words": list(self.words)}

    @classmethod
    def _read(cls, kind: str, state: dict[str, Any], directory: Path) -> "WordTokenizer":
        return schema.make(cls, state, directory / FILE)

    @cached_property
    def _ids(self) -> dict[str, int]:
        # Special tokens other than <unk> are never words of a text; in a text they are unknown.
        return {word: i for i, word in enumerate(self.words) if i not in NOT_TEXT}

    @cached_property
    def _value_set(self) -> pa.StringArray:
        # A null matches no word, and keeps each word's position equal to its id.
        return pa.array([None if i in NOT_TEXT else word for i, word in enumerate(self.words)], pa.string())

    @cached_property
    def _split(self) -> Callable[[str], list[str]]:
        return _SPLITTERS[self.splitter]()


def _check_splitter(splitter: str) -> None:
    if splitter not in SPLITTERS:
        raise UserError(f"unknown word splitter {splitter!r}; {nearest(splitter, list(SPLITTERS))}")


def _countable(words: pa.StringArray, counts: pa.Int64Array, *, min_count: int) -> pa.Table:
    """Return the rows (word, count) that a vocabulary may contain."""
    special = pc.is_in(words, value_set=pa.array(SPECIAL))
    kept = pc.and_(pc.greater_equal(counts, min_count), pc.invert(special))
    return pa.table({"word": words, "count": counts}).filter(kept)


def _without_empty(split: pa.ListArray) -> pa.ListArray:
    """Drop the empty strings that Arrow, unlike `str.split`, makes from an empty text."""
    filled = pc.greater(pc.binary_length(split.values), 0)
    if pc.all(filled).as_py():
        return split
    num_filled_before = np.concatenate([[0], np.cumsum(filled.to_numpy(zero_copy_only=False))])
    offsets = pa.array(num_filled_before[split.offsets.to_numpy()], pa.int32())
    return pa.ListArray.from_arrays(offsets, split.values.filter(filled))
