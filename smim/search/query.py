"""What is searched for, how, and what is found: for Python, the command line, HTTP, its client and a cluster alike.

Imports neither torch nor FAISS: a client and `--help` do not wait for them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from typing import Any

from smim.errors import UserError, check_size, nearest, refuse_if

MODES = ("dense", "sparse", "hybrid")
FOLDS = ("none", "row", "text", "words")
# Of each query the text whose words are compared, if it has one; None where none are.
Texts = Sequence[str | None] | None
# Search settings and the least value of each.
SETTINGS = {"nprobe": 1, "ef_search": 1, "refine": 0}


@dataclass(frozen=True)
class Line:
    """A point of the line between two sentences' codes: the first at 0, the second at 1."""

    first: str
    second: str
    at: float = 0.5


@dataclass(frozen=True)
class Sum:
    """The sum of the codes of `plus` less those of `minus`."""

    plus: Sequence[str]
    minus: Sequence[str] = ()


@dataclass(frozen=True)
class Query:
    """What is searched for: one of text, id (more like that sentence, which is left out), code [D], line, sum.

    Raises `UserError` for none of them or several.
    """

    text: str | None = None
    id: int | None = None
    code: Sequence[float] | None = None
    line: Line | None = None
    sum: Sum | None = None

    def __post_init__(self) -> None:
        if [value is None for value in vars(self).values()].count(False) != 1:
            raise UserError(f"a query has exactly one of {', '.join(vars(self))}")

    @property
    def weights(self) -> list[tuple[str, float]]:
        """The sentences of whose codes this query's is the weighted sum; none of an id or a code."""
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
    """How it is searched, and what is reported of the hits. Raises `UserError` for what no search can be asked.

    `where`: a filter (`smim.search.filters`). `settings`, such as `{"nprobe": 64}`, take the place of the index's own.
    """

    k: int = _option(5, "How many sentences to find, or all where they are fewer.", ge=1)
    offset: int = _option(0, "How many of the nearest to pass over.", ge=0)
    where: Mapping[str, Any] | None = _option(None, "A filter on labels.")
    max_distance: float | None = _option(None, "Find none that are farther.")
    least_similarity: float | None = _option(None, "Find none that are less similar, from 0 to 1.", ge=0, le=1)
    fold: str | None = _option(None, "One hit of each row, of equal texts too, or equal words; none: of each sentence.")
    mode: str | None = _option(None, "What is compared: dense, codes; sparse, words; hybrid, both.")
    settings: Mapping[str, int] | None = _option(None, "Of this search, in the place of the index's own.")
    rerank: int = _option(0, "Order so many of the first hits anew, by log q(z|query) or a cross-encoder.", ge=0)
    reconstruct: bool = _option(False, "Give each hit as its code decodes.")
    score: bool = _option(False, "Give log q(z|query) of each hit's code, in nats; queries are texts or ids.")
    decode: bool = _option(False, "Give the query as its code decodes.")
    literal: float | None = _option(None, "How literally these decode: 1 word for word to 0; the model's own.", le=1)

    def __post_init__(self) -> None:
        check_whole({"k": self.k, "offset": self.offset, "rerank": self.rerank})
        check_settings(self.settings or {})
        farthest = 0 if self.max_distance is None else self.max_distance
        refuse_if({
            f"k is {self.k} and offset {self.offset}; k must be at least 1, offset not negative":
                self.k < 1 or self.offset < 0,
            f"rerank is {self.rerank}; it must not be negative": self.rerank < 0,
            f"max_distance is {farthest!r}, a number is needed":
                not isinstance(farthest, Real) or farthest != farthest,
            f"mode is {self.mode!r}; {nearest(str(self.mode), list(MODES))}": self.mode not in (None, *MODES),
            f"fold is {self.fold!r}; {nearest(str(self.fold), list(FOLDS))}": self.fold not in (None, *FOLDS),
        })  # fmt: skip
        for name in ("literal", "least_similarity"):
            check_size(name, 0 if getattr(self, name) is None else getattr(self, name), most=1)

    def chosen(self, *, is_split: bool, has_words: bool = True) -> "Options":
        """With what is not said as the index has it.

        One whose texts have several sentences is searched by codes and words, and a text is one hit; any other by
        codes, and each sentence is one.
        """
        mode = self.mode or ("hybrid" if is_split and has_words else "dense")
        fold = self.fold or ("row" if is_split else "none")
        return replace(self, mode=mode, fold="none" if fold == "row" and not is_split else fold)

    def wide(self, own: Mapping[str, int] | None = None, *, extra: int = 0) -> "Options":
        """Those of the search for all of which `page` takes its part, with the index's `own` settings below these."""
        settings = {name: int(value) for name, value in {**(own or {}), **(self.settings or {})}.items()}
        return replace(self, k=self.depth + extra, offset=0, settings=settings)

    @property
    def depth(self) -> int:
        """How many of the nearest the search has to find."""
        return max(int(self.k) + int(self.offset), int(self.rerank))

    def near(self, hits: "Iterable[Hit]", query: Query) -> "list[Hit]":
        """Of what a wide search found, what is near enough, and not the query itself."""
        farthest = float("inf") if self.max_distance is None else self.max_distance
        least = 0.0 if self.least_similarity is None else self.least_similarity
        return [hit for hit in hits if hit.distance <= farthest and hit.similarity >= least and hit.id != query.id]

    def page(self, hits: "Sequence[Hit]") -> "list[Hit]":
        """Of what is near, in its order, what was asked for."""
        return list(hits[self.offset : self.offset + self.k])


def check_settings(settings: Mapping[str, int]) -> None:
    """Raises `UserError` for what are no search settings."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise UserError(f"there is no search setting {name!r}; {nearest(str(name), list(SETTINGS))}")
        check_whole({name: value})
        if value < SETTINGS[name]:
            raise UserError(f"the search setting {name} is {value}, it is too low")


def check_whole(numbers: Mapping[str, int]) -> None:
    """Raises `UserError` for what is no whole number."""
    for name, value in numbers.items():
        if not isinstance(value, Integral):
            raise UserError(f"{name} is {value!r}, a whole number is needed")


@dataclass(frozen=True)
class Sentence:
    """A sentence of the index."""

    id: int
    text: str
    labels: dict[str, Any]


@dataclass(frozen=True)
class Hit(Sentence):
    """A sentence that was found. The smaller `distance`, the nearer, whatever the index's metric:

    `l2`: the Euclidean distance (not squared); `cosine`: 1 - cosine; `inner_product`: its negative; 0 where it was
    asked for by its id. `similarity` is the same from 0 to 1, the more, the nearer: the cosine, 1 / (1 + d) of `l2`,
    1 / (1 + e^-v) of an inner product v. `words`: those of the query's text that it holds; None of a query without one.
    Where equal texts are folded, `count` is how many there are, and `ids` the first hundred of theirs.

    Where words were compared, the similarity is `word_similarity`, or the weighted mean of that and `code_similarity`
    (`smim.search.hybrid`), and the distance is 1 less that.

    `reconstruction`, the sentence as its code decodes, and `score`, log q(z|query) in nats at the sentence's code z,
    are None unless the search was asked for them; `relevance` is what a cross-encoder gave, where hits were reranked.
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
        """What is known of it; without what the search was not asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class SearchResult:
    """The hits of one query, nearest first.

    `decoded`: the query as its code decodes, if it was asked for. `missing`: parts of the index that did not answer.
    """

    hits: list[Hit]
    decoded: str | None = None
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Description:
    """What is searched. `columns`: the labels' names; `version` counts the changes.

    `part`: `meaning` where the index holds the meaning part of codes alone, which has `dimension` numbers.
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
    """A value of a label column, and how many sentences have it."""

    value: str | bool | int | float
    count: int


@dataclass(frozen=True)
class Column:
    """A label column. `kind`: text, number, boolean or other. `values`: the most frequent, at most 20 of them.

    `complete`: whether these are all. `least` and `greatest`: of numbers.
    """

    name: str
    kind: str
    values: list[Value]
    complete: bool
    least: float | None = None
    greatest: float | None = None
