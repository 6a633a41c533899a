"""The sentences of a row as one hit, the nearest of them, and equal ones as one, with how many there are and their ids.

What was found is left out of the next search, until there are enough different texts; then the sentences that are
equal to each are counted, by way of the words that they have. So a page, and a count, are the same however the index
is cut into segments and shards.
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
    """How many sentences are equal, and the first ids of them, ascending."""

    count: int
    ids: list[int]

    def __add__(self, other: "Equals") -> "Equals":
        return Equals(self.count + other.count, sorted([*self.ids, *other.ids])[:IDS_SHOWN])


def key_of(text: str, fold: str) -> str:
    """What equal texts have in common: all of it, or by `words` these alone, if it has any."""
    return " ".join(words_of(text)) or text if fold == "words" else text


class Folding:
    """The first hit of each row, and unless `fold` is `row` of each text among these, from hits that come in order."""

    def __init__(self, fold: str) -> None:
        self.fold, self.found = fold, list[Hit]()
        self._ids, self._keys = set[int](), set[str]()

    def add(self, hits: Iterable[Hit]) -> list[Hit]:
        """Takes the next hits; the first of each row that had none, which are those to be left out from now on."""
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
    """The first hit of each row, or text."""
    folding = Folding(fold)
    folding.add(hits)
    return folding.found


def equals(segment: Segment, texts: Sequence[str], fold: str, allowed: Allowed | None) -> list[Equals]:
    """Of each text the sentences of a segment that are equal to it and may be found."""
    rows = [_rows(segment, text, fold, allowed) for text in texts]
    return [Equals(len(each), np.asarray(segment.ids[each[:IDS_SHOWN]]).tolist()) for each in rows]


def without(segment: Segment, hits: Sequence[Hit], fold: str, allowed: Allowed | None) -> Allowed:
    """What may be found but for the rows of hits, and, where each row is one sentence, those equal to it."""
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
