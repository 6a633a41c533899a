"""Equal sentences as one hit, with how many there are and their ids.

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


def folded(hits: Iterable[Hit], fold: str) -> list[Hit]:
    """The first hit of each text."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(key_of(hit.text, fold), hit)
    return list(first.values())


def equals(segment: Segment, texts: Sequence[str], fold: str, allowed: Allowed | None) -> list[Equals]:
    """Of each text the sentences of a segment that are equal to it and may be found."""
    rows = [_rows(segment, text, fold, allowed) for text in texts]
    return [Equals(len(each), np.asarray(segment.ids[each[:IDS_SHOWN]]).tolist()) for each in rows]


def without(segment: Segment, texts: Sequence[str], fold: str, allowed: Allowed | None) -> Allowed:
    """What may be found but for the sentences that are equal to one of the texts."""
    left_R = np.ones(segment.info.count, bool) if allowed is None else allowed.rows.copy()
    for text in texts:
        left_R[_rows(segment, text, fold, allowed)] = False
    return segment.allowed_of(left_R)


def _rows(segment: Segment, text: str, fold: str, allowed: Allowed | None) -> list[int]:
    rows, wanted = segment.words.holding_all(words_of(text)), key_of(text, fold)
    if allowed is not None:
        rows = rows[allowed.rows[rows]]
    if not len(rows):
        return []
    texts = segment.table(rows)[TEXT].to_pylist()
    return [row for row, each in zip(rows.tolist(), texts, strict=True) if key_of(each, fold) == wanted]
