"""What is asked of a service and what it answers, independent of HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TextQuery:
    """Sentences nearest to a sentence."""

    text: str


@dataclass(frozen=True)
class IdQuery:
    """More like a sentence of the index, which is left out of its hits."""

    id: int


@dataclass(frozen=True)
class CodeQuery:
    """Sentences nearest to a code [D]."""

    code: Sequence[float]


@dataclass(frozen=True)
class LineQuery:
    """Sentences nearest to a point of the line between two sentences' codes: the first at 0, the second at 1."""

    first: str
    second: str
    at: float = 0.5


@dataclass(frozen=True)
class SumQuery:
    """Sentences nearest to the sum of the codes of `plus` less those of `minus`."""

    plus: Sequence[str]
    minus: Sequence[str] = ()


Query = TextQuery | IdQuery | CodeQuery | LineQuery | SumQuery


@dataclass(frozen=True)
class HitResult:
    """A sentence that was found; the fields are those of `smim.search.Hit`."""

    id: int
    text: str
    labels: dict[str, Any]
    distance: float
    reconstruction: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """The hits of one query, nearest first.

    `decoded`: the query as its code decodes, if it was asked for. `missing`: parts of the index that did not answer.
    """

    hits: list[HitResult]
    decoded: str | None = None
    missing: list[str] = field(default_factory=list)
