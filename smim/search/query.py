"""Queries, search options and results, shared by Python, the command line, HTTP, its client and a cluster.

Imports neither torch nor FAISS, so that a client and `--help` start fast.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from typing import Any

from smim.errors import UserError, check_size, nearest, refuse_if

MODES = ("dense", "sparse", "hybrid")
FOLDS = ("none", "row", "text", "words")
# For each query, the text whose words are compared, or None; None as a whole if no words are compared.
Texts = Sequence[str | None] | None
# Search settings and their lowest values.
SETTINGS = {"nprobe": 1, "ef_search": 1, "refine": 0}


@dataclass(frozen=True)
class Line:
    """A point on the line between two sentences' codes: the first at 0, the second at 1."""

    first: str
    second: str
    at: float = 0.5


@dataclass(frozen=True)
class Sum:
    """The sum of the codes of `plus` minus those of `minus`."""

    plus: Sequence[str]
    minus: Sequence[str] = ()


@dataclass(frozen=True)
class Query:
    """A query: exactly one of a text, an id (similar sentences, without itself), a code [D], a line, and a sum.

    Raises `UserError` for none of them or several.
    """

    text: str | None = None
    id: int | None = None
    code: Sequence[float] | None = None
    line: Line | None = None
    sum: Sum | None = None

    def __post_init__(self) -> None:
        if [value is None for value in vars(self).values()].count(False) != 1:
            raise UserError(f"a query must have exactly one of {', '.join(vars(self))}")

    @property
    def weights(self) -> list[tuple[str, float]]:
        """The sentences whose weighted codes make up this query's code; empty for an id or a code."""
        if self.text is not None:
            return [(self.text, 1.0)]
        if self.line is not None:
            return [(self.line.first, 1 - self.line.at), (self.line.second, self.line.at)]
        if self.sum is not None and not len(self.sum.plus):
            raise UserError("a sum needs at least one sentence to add")
        return [(text, 1.0) for text in self.sum.plus] + [(text, -1.0) for text in self.sum.minus] if self.sum else []


def _option(default: Any, description: str, **least: float) -> Any:
    return field(default=default, metadata={"description": description, **least})


@dataclass(frozen=True)
class Options:
    """How to search, and what to report of the hits. Raises `UserError` for invalid values.

    `where`: a filter (`smim.search.filters`). `settings`, such as `{"nprobe": 64}`, override the index's own.
    """

    k: int = _option(5, "The number of sentences to find.", ge=1)
    offset: int = _option(0, "The number of nearest sentences to skip.", ge=0)
    where: Mapping[str, Any] | None = _option(None, "A filter on labels.")
    max_distance: float | None = _option(None, "Find only sentences within this distance.")
    least_similarity: float | None = _option(None, "Find only sentences at least this similar, 0 to 1.", ge=0, le=1)
    fold: str | None = _option(None, "Merge hits of a row (row), also of equal texts (text) or words (words); or none.")
    mode: str | None = _option(None, "What to compare: codes (dense), words (sparse) or both (hybrid).")
    settings: Mapping[str, int] | None = _option(None, "Search settings that override the index's own.")
    rerank: int = _option(0, "Rerank this many first hits, by log q(z|query) or a cross-encoder.", ge=0)
    reconstruct: bool = _option(False, "Decode each hit's code, too.")
    score: bool = _option(False, "Give log q(z|query) of each hit's code, in nats, for queries by text or id.")
    decode: bool = _option(False, "Decode the query's code, too.")
    literal: float | None = _option(None, "How literally to decode, 0 to 1 (word for word); the model's own.", le=1)

    def __post_init__(self) -> None:
        check_whole({"k": self.k, "offset": self.offset, "rerank": self.rerank})
        check_settings(self.settings or {})
        farthest = 0 if self.max_distance is None else self.max_distance
        refuse_if({
            f"k is {self.k} and offset {self.offset}; k must be at least 1, and offset must not be negative":
                self.k < 1 or self.offset < 0,
            f"rerank is {self.rerank}; it must not be negative": self.rerank < 0,
            f"max_distance is {farthest!r}, but it must be a number":
                not isinstance(farthest, Real) or farthest != farthest,
            **{f"{name} is {value!r}; {nearest(str(value), list(known))}": True
                for name, value, known in (("mode", self.mode, MODES), ("fold", self.fold, FOLDS))
                if value not in (None, *known)},
        })  # fmt: skip
        for name in ("literal", "least_similarity"):
            check_size(name, 0 if getattr(self, name) is None else getattr(self, name), most=1)

    def chosen(self, *, is_split: bool, has_words: bool = True) -> "Options":
        """The same options with the index's defaults for `mode` and `fold`.

        If texts were split into sentences, the search is by codes and words, and each text gives one hit. Otherwise it
        is by codes, and each sentence gives one hit.
        """
        mode = self.mode or ("hybrid" if is_split and has_words else "dense")
        fold = self.fold or ("row" if is_split else "none")
        return replace(self, mode=mode, fold="none" if fold == "row" and not is_split else fold)

    def wide(self, own: Mapping[str, int] | None = None, *, extra: int = 0) -> "Options":
        """Options of a search that finds all that `page` selects from; the index's `own` settings are the defaults."""
        settings = {name: int(value) for name, value in {**(own or {}), **(self.settings or {})}.items()}
        return replace(self, k=self.depth + extra, offset=0, settings=settings)

    @property
    def depth(self) -> int:
        """The number of nearest sentences that the search has to find."""
        return max(int(self.k) + int(self.offset), int(self.rerank))

    def near(self, hits: "Iterable[Hit]", query: Query) -> "list[Hit]":
        """The hits of a wide search that are near enough, without the query itself."""
        farthest = float("inf") if self.max_distance is None else self.max_distance
        least = 0.0 if self.least_similarity is None else self.least_similarity
        return [hit for hit in hits if hit.distance <= farthest and hit.similarity >= least and hit.id != query.id]

    def page(self, hits: "Sequence[Hit]") -> "list[Hit]":
        """The requested slice of the hits, in their order."""
        return list(hits[self.offset : self.offset + self.k])


def check_settings(settings: Mapping[str, int]) -> None:
    """Raise `UserError` for anything but search settings."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise UserError(f"there is no search setting {name!r}; {nearest(str(name), list(SETTINGS))}")
        check_whole({name: value})
        if value < SETTINGS[name]:
            raise UserError(f"the search setting {name} is {value}, but it must be at least {SETTINGS[name]}")


def check_whole(numbers: Mapping[str, int]) -> None:
    """Raise `UserError` for numbers that are not whole."""
    for name, value in numbers.items():
        if not isinstance(value, int) and not isinstance(value, Integral):  # `int` first: faster
            raise UserError(f"{name} is {value!r}, but it must be a whole number")


@dataclass(frozen=True)
class Sentence:
    """A sentence of the index."""

    id: int
    text: str
    labels: dict[str, Any]


@dataclass(frozen=True)
class Hit(Sentence):
    """A sentence that was found. A smaller `distance` is nearer, for each metric of an index:

    `l2`: the Euclidean distance (not squared); `cosine`: 1 - cosine; `inner_product`: its negative. It is 0 for a
    sentence requested by its id. `similarity` is the same from 0 to 1, larger is nearer: the cosine, 1 / (1 + d) for an
    `l2` distance d, 1 / (1 + e^-v) for an inner product v. `words`: the words of the query's text that the sentence
    has; None if the query has no text. If equal texts are folded, `count` is their number; `ids` are the first hundred
    ids.

    If words were compared, `similarity` is `word_similarity`, or its weighted mean with `code_similarity`
    (`smim.search.hybrid`), and the distance is 1 minus that.

    `reconstruction` is what the sentence's code z decodes to; `score` is log q(z|query) in nats. Both are None unless
    the search asked for them. `relevance` is the score of a cross-encoder, if hits were reranked.
    """

    distance: float = 0.0
    similarity: float = 1.0
    words: list[str] | None = None
    count: int | None = None
    ids: list[int] | None = None
    code_similarity: float | None = None
    word_similarity: float | None = None
    reconstruction: str | None = None
    score: float | None = None
    relevance: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that are known; without those that the search did not ask for."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class SearchResult:
    """The hits of one query, nearest first.

    `decoded`: the sentence that the query's code decodes to, if requested. `missing`: parts of the index without
    answer.
    """

    hits: list[Hit]
    decoded: str | None = None
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Description:
    """A description of an index. `columns`: the labels' names; `version` counts the changes.

    `part`: `meaning` if the index holds only the meaning part of codes, which has `dimension` numbers.
    """

    count: int
    dimension: int
    metric: str
    columns: list[str]
    version: int
    model_hash: str
    search: dict[str, int]
    part: str | None = None


@dataclass(frozen=True)
class Value:
    """A value of a label column, and the number of sentences that have it."""

    value: str | bool | int | float
    count: int


@dataclass(frozen=True)
class Column:
    """A label column. `kind`: text, number, boolean or other. `values`: the most frequent values, at most 20.

    `complete`: whether these are all values. `least` and `greatest`: the range of numbers.
    """

    name: str
    kind: str
    values: list[Value]
    complete: bool
    least: float | None = None
    greatest: float | None = None
