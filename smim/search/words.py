"""The words of a segment's sentences, for searches by words and by words and codes together.

    words.arrow      each distinct word, ascending by its bytes, and where its rows end in the next two files
    word_rows.npy    the rows that hold the first word in ascending order, those of the second, ..., int32 [P]
    word_counts.npy  how often each row holds the word, at most 255, uint8 [P]
    lengths.npy      the number of words of each row, int32 [R]

Only counts are stored. A search computes a word's weight from the rows that exist then, so the result depends neither
on segments nor on deleted rows.

If rows are sentences of longer texts, whole texts are compared: a review may say in two sentences what a query says in
one.

Shapes: R rows, P pairs of a word and a row, T texts.
"""

import math
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from smim.arrow import check_batch, first_line, open_rows
from smim.search.errors import Unreadable
from smim.shards import open_array

WORDS, ROWS_OF_WORDS, COUNTS, LENGTHS = "words.arrow", "word_rows.npy", "word_counts.npy", "lengths.npy"
FILES = (WORDS, ROWS_OF_WORDS, COUNTS, LENGTHS)
_WORD = re.compile(r"\w+")
_MOST = 255
# BM25: k1 limits the weight of repeated words, b sets the influence of a sentence's length.
_K1, _B = 1.2, 0.75
# The weight of words beside codes: lowest and highest, between two mean rarities of a query's words (below).
_LEAST_SHARE, _MOST_SHARE = 0.2, 0.9
# For texts of several sentences, the search compares all words, but the code of only one sentence.
_LEAST_SHARE_OF_TEXTS = 0.5
_OF_SENTENCES, _OF_KEYWORDS = 0.45, 0.7


def words_of(text: str) -> list[str]:
    """The words of a text for search: runs of letters and digits, after case folding and Unicode NFKC."""
    return _WORD.findall(text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold())


def spans_of(text: str, words: Iterable[str]) -> list[tuple[int, int]]:
    """The positions in a text of `words`, which come from `words_of`, in order."""
    wanted = set(words)
    return [found.span() for found in _WORD.finditer(text) if not wanted.isdisjoint(words_of(found.group()))]


@dataclass(frozen=True)
class Texts:
    """The number of each row's text, int32 [R], ascending from 0; rows with one number are sentences of one text."""

    of_R: np.ndarray
    count: int

    @classmethod
    def of(cls, ids_R: np.ndarray) -> "Texts":
        """From the rows' ids, which the sentences of a text share."""
        of_R = np.zeros(len(ids_R), np.int32)
        np.cumsum(ids_R[1:] != ids_R[:-1], out=of_R[1:])
        return cls(of_R, int(of_R[-1]) + 1)

    def any(self, rows_R: np.ndarray) -> np.ndarray:
        """Bool [R]: true for all rows of a text if it is true for one."""
        return np.bincount(self.of_R[rows_R], minlength=self.count).astype(bool)[self.of_R]

    def all(self, rows_R: np.ndarray) -> np.ndarray:
        """Bool [R]: true for all rows of a text if it is true for each."""
        return ~self.any(~rows_R)

    def count_of(self, rows: np.ndarray) -> int:
        """The number of texts that some rows, ascending, belong to."""
        texts = self.of_R[rows]
        return int(np.count_nonzero(texts[1:] != texts[:-1])) + 1 if len(texts) else 0


@dataclass(frozen=True)
class Statistics:
    """The number of sentences, of their words, and of sentences that hold each requested word.

    `of_texts`: whether some are texts of several sentences.
    """

    sentences: int
    words: int
    holding: Mapping[str, int]
    of_texts: bool = False

    def __add__(self, other: "Statistics") -> "Statistics":
        holding = {word: count + other.holding[word] for word, count in self.holding.items()}
        of_texts = self.of_texts or other.of_texts
        return Statistics(self.sentences + other.sentences, self.words + other.words, holding, of_texts)

    @property
    def mean_length(self) -> float:
        return max(self.words, 1) / max(self.sentences, 1)


class WordQuery:
    """BM25 scores of a text: the sum over its words w, repeated ones several times, of

        log(1 + (N - n + 1/2) / (n + 1/2))  c (k1 + 1) / (c + k1 (1 - b + b L / mean L))

    for a sentence of L words, c of them w; n of N sentences hold w (Robertson and Zaragoza 2009, as in Lucene). The
    similarity is this score divided by the score of the text itself.

    `share`: the weight of this similarity beside that of codes. A query of only rare words is a list of keywords. A
    query with common words is a sentence, which others may express in other words.
    """

    def __init__(self, text: str, statistics: Statistics) -> None:
        words, self.mean_length = words_of(text), statistics.mean_length
        self.counts = Counter(words)
        rarity = {word: _rarity(statistics, statistics.holding[word]) for word in self.counts}
        self.weights = {word: rarity[word] * count for word, count in self.counts.items()}
        own = np.array([len(words)])
        self.most = sum(float(self.gain(word, np.array([count]), own)[0]) for word, count in self.counts.items())
        mean_rarity = sum(self.weights.values()) / len(words) / _rarity(statistics, 0) if words else 0.0
        between = (mean_rarity - _OF_SENTENCES) / (_OF_KEYWORDS - _OF_SENTENCES)
        least = _LEAST_SHARE_OF_TEXTS if statistics.of_texts else _LEAST_SHARE
        self.share = least + (_MOST_SHARE - least) * min(max(between, 0.0), 1.0) if words else 0.0

    def gain(self, word: str, count: np.ndarray, length: np.ndarray) -> np.ndarray:
        """What a word adds to the scores of sentences that hold it, fp64."""
        slowed = _K1 * (1 - _B + _B * length / self.mean_length)
        return self.weights[word] * count * (_K1 + 1) / (count + slowed)


def _rarity(statistics: Statistics, holding: int) -> float:
    return math.log1p((statistics.sentences - holding + 0.5) / (holding + 0.5))


class Words:
    """The words of a segment; files are read only on use."""

    def __init__(self, paths: Mapping[str, Path], num_rows: int) -> None:
        """Open the files; raises `UserError` if a file is missing or does not fit the others."""
        self.path, self.num_rows = paths[WORDS], num_rows
        self._reader = open_rows(paths[WORDS])
        self._lengths = open_array(paths[LENGTHS], np.int32, (num_rows,))
        num_pairs = self._batch.column(1)[-1].as_py() if len(self._batch) else 0
        self._rows = open_array(paths[ROWS_OF_WORDS], np.int32, (num_pairs,))
        self._counts = open_array(paths[COUNTS], np.uint8, (num_pairs,))
        self._text_lengths: np.ndarray | None = None

    @cached_property
    def _batch(self) -> pa.RecordBatch:
        """The words, as bytes, and where the rows of each end."""
        try:
            if self._reader.schema != _SCHEMA or self._reader.num_record_batches != 1:
                raise self._unreadable("it is not a list of words")
            batch = check_batch(self._reader.get_batch(0))
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(first_line(error)) from None
        return batch

    def statistics(self, words: Iterable[str], live_R: np.ndarray | None, texts: Texts | None = None) -> Statistics:
        """Statistics of the live rows, or of their texts; `live_R` None: all rows."""
        holding = {}
        for word in words:
            rows, _ = self._holding(word)
            rows = rows if live_R is None else rows[live_R[rows]]
            holding[word] = len(rows) if texts is None else texts.count_of(rows)
        lengths = self._lengths if live_R is None else self._lengths[live_R]
        count = len(lengths)
        if texts is not None:
            count = texts.count if live_R is None else texts.count_of(np.flatnonzero(live_R))
        return Statistics(count, int(lengths.sum(dtype=np.int64)), holding, texts is not None)

    def similarities(self, query: WordQuery, texts: Texts | None = None) -> np.ndarray:
        """The similarity of each row, or its text, to a query's text, fp64 [R]; 0 if no word is shared."""
        if texts is None:
            lengths, scores = self._lengths, np.zeros(self.num_rows)
        else:
            lengths, scores = self._lengths_of(texts), np.zeros(texts.count)
        for word in query.counts:
            rows, counts = self._holding(word)
            if texts is not None:
                rows, counts = _summed(texts.of_R[rows], counts)
            scores[rows] += query.gain(word, counts.astype(np.float64), lengths[rows])
        scores = scores / query.most if query.most else scores
        return scores if texts is None else scores[texts.of_R]

    def _lengths_of(self, texts: Texts) -> np.ndarray:
        """The number of words of each text, fp64 [T]."""
        if self._text_lengths is None:
            self._text_lengths = np.bincount(texts.of_R, weights=self._lengths, minlength=texts.count)
        return self._text_lengths

    def holding_all(self, words: list[str]) -> np.ndarray:
        """The rows that hold each of these words and have the same number of words, ascending."""
        if not words:
            return np.flatnonzero(np.asarray(self._lengths) == 0)
        by_rarity = sorted((self._holding(word)[0] for word in set(words)), key=len)
        rows = by_rarity[0]
        for others in by_rarity[1:]:
            rows = np.intersect1d(rows, others, assume_unique=True)
        return rows[self._lengths[rows] == len(words)]

    def _holding(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """The rows that hold a word, ascending, and how often each does."""
        names, ends = self._batch.columns
        wanted = word.encode()
        at = bisect_left(range(len(names)), wanted, key=lambda i: names[i].as_py())
        if at == len(names) or names[at].as_py() != wanted:
            return self._rows[:0], self._counts[:0]
        start, end = ends[at - 1].as_py() if at else 0, ends[at].as_py()
        rows = self._rows[start:end]
        if not 0 <= start < end <= len(self._rows) or rows[0] < 0 or rows[-1] >= self.num_rows or _falls(rows):
            raise self._unreadable("it refers to rows that do not exist")
        return rows, self._counts[start:end]

    def _unreadable(self, problem: str) -> Unreadable:
        return Unreadable(f"{self.path} cannot be read ({problem}); build the index again")


def _summed(texts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values of ascending numbers, and the sum of the counts of each."""
    if not len(texts):
        return texts, counts
    starts = np.flatnonzero(np.r_[True, texts[1:] != texts[:-1]])
    return texts[starts], np.add.reduceat(counts, starts, dtype=np.int64)


def _falls(rows: np.ndarray) -> bool:
    return bool((rows[1:] <= rows[:-1]).any())


_SCHEMA = pa.schema([("word", pa.binary()), ("end", pa.int64())])


class WordsWriter:
    """Collects the words of a segment's sentences, a few bytes each, and writes the files."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._pairs: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._num_rows = 0

    def add(self, texts: Iterable[bytes]) -> None:
        """Add the texts of the next rows, in UTF-8."""
        numbers, lengths, known = [], [], self._numbers
        for text in texts:
            words = words_of(text.decode(errors="replace"))
            lengths.append(len(words))
            numbers += [known.setdefault(word, len(known)) for word in words]
        rows = np.repeat(np.arange(self._num_rows, self._num_rows + len(lengths)), lengths)
        pairs, counts = np.unique(np.array(numbers, np.int64) << 32 | rows, return_counts=True)
        self._pairs.append(pairs)
        self._counts.append(np.minimum(counts, _MOST).astype(np.uint8))
        self._lengths.append(np.array(lengths, np.int32))
        self._num_rows += len(lengths)

    def write(self, folder: Path) -> None:
        encoded = [word.encode() for word in self._numbers]
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        pairs = np.concatenate(self._pairs)
        word, row = rank[pairs >> 32], pairs & 0xFFFFFFFF
        by_word = np.lexsort((row, word))
        np.save(folder / ROWS_OF_WORDS, row[by_word].astype(np.int32))
        np.save(folder / COUNTS, np.concatenate(self._counts)[by_word])
        np.save(folder / LENGTHS, np.concatenate(self._lengths))
        ends = np.cumsum(np.bincount(word, minlength=len(order)))
        columns = [pa.array([encoded[i] for i in order], pa.binary()), pa.array(ends, pa.int64())]
        with pa.OSFile(str(folder / WORDS), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as file:
            file.write_batch(pa.record_batch(columns, schema=_SCHEMA))
