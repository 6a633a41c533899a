"""Fold hits: the nearest sentence stands for its row, and one hit stands for equal texts, with their count and ids.

What was found is excluded from the next search, until there are enough different texts. Then the sentences equal to
each are counted, by way of their words. Pages and counts are therefore the same for any number of segments and shards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from smim.search.query import Hit
from smim.search.segment import TEXT, Allowed, Segment
from smim.search.words import words_of

IDS_SHOWN = 100


@dataclass(frozen=True)
class Equals:
    """The number of equal sentences, and their first ids, ascending."""

    count: int
    ids: list[int]

    def __add__(self, other: "Equals") -> "Equals":
        return Equals(self.count + other.count, sorted([*self.ids, *other.ids])[:IDS_SHOWN])


def key_of(text: str, fold: str) -> str:
    """What equal texts have in common: the whole text, or for `words` its words, if it has any."""
    return " ".join(words_of(text)) or text if fold == "words" else text


class Folding:
    """Keeps the first hit of each row, and unless `fold` is `row`, of each distinct text; hits arrive in order."""

    def __init__(self, fold: str) -> None:
        self.fold, self.found = fold, list[Hit]()
        self._ids, self._keys = set[int](), set[str]()

    def add(self, hits: Iterable[Hit]) -> list[Hit]:
        """Take the next hits, and return the first hit of each new row; exclude these rows from the next search."""
        new = []
        for hit in hits:
            if hit.id in self._ids:
                continue
            self._ids.add(hit.id)
            new.append(hit)
            key = None if self.fold == "row" else key_of(hit.text, self.fold)
            if key not in self._keys:
                self.found.append(hit)
            if key is not None:
                self._keys.add(key)
        return new


def folded(hits: Iterable[Hit], fold: str) -> list[Hit]:
    """The first hit of each row or distinct text."""
    folding = Folding(fold)
    folding.add(hits)
    return folding.found


def equals(segment: Segment, texts: Sequence[str], fold: str, allowed: Allowed | None) -> list[Equals]:
    """For each text, the sentences of a segment that equal it and may be found."""
    rows = [_rows(segment, text, fold, allowed) for text in texts]
    return [Equals(len(each), np.asarray(segment.ids[each[:IDS_SHOWN]]).tolist()) for each in rows]


def without(segment: Segment, hits: Sequence[Hit], fold: str, allowed: Allowed | None) -> Allowed:
    """The allowed rows without the rows of hits, and, if each row is one sentence, without those equal to them."""
    left_R = np.ones(segment.info.count, bool) if allowed is None else allowed.rows.copy()
    if segment.texts is None:
        for text in dict.fromkeys(hit.text for hit in hits):
            left_R[_rows(segment, text, fold, allowed)] = False
    _, positions = segment.positions_of(np.array([hit.id for hit in hits], np.int64))
    for position in positions.tolist():
        left_R[segment.sentences_of(position)] = False
    return segment.allowed_of(left_R)


def _rows(segment: Segment, text: str, fold: str, allowed: Allowed | None) -> list[int]:
    rows, wanted = segment.words.holding_all(words_of(text)), key_of(text, fold)
    if allowed is not None:
        rows = rows[allowed.rows[rows]]
    if not len(rows):
        return []
    texts = segment.table(rows)[TEXT].to_pylist()
    return [row for row, each in zip(rows.tolist(), texts, strict=True) if key_of(each, fold) == wanted]
