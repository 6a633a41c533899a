"""The bodies of requests and responses, as the API documents them.

Request bodies are built from `smim.search.query` and the service's operations, whose arguments have the same names.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic.config import JsonDict

from smim.model.use import MOST_CANDIDATES
from smim.search.ids import LARGEST_ID
from smim.search.labels import jsonable
from smim.search.query import (
    FOLDS,
    MODES,
    SETTINGS,
    Column,
    Description,
    Line,
    Options,
    Query,
    SearchResult,
    Sentence,
    Sum,
)
from smim.serve.limits import LARGEST_NUMBER, LARGEST_SEED, LARGEST_SETTING, Limits
from smim.text.fitting import EMPTY, TOO_LONG

_JSON = str | int | float | None
_KINDS = list(Query.__dataclass_fields__)


def _without_nan(where: dict[str, Any]) -> dict[str, Any]:
    """Refuse NaN and infinity, which Python's parser accepts and JSON does not have; the search checks the rest."""
    json.dumps(where, allow_nan=False)
    return where


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _OneOf(Body):
    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in _KINDS]})


class Bodies:
    """The bodies of requests to a service; `types` defines once what each name may hold.

    OpenAPI shows the service's limits, which the service checks itself, with its own messages.
    """

    def __init__(self, limits: Limits) -> None:
        items: JsonDict = {"maxItems": limits.max_batch}
        most: JsonDict = {"maximum": limits.max_num}
        text: Any = Annotated[str, Field(min_length=1, json_schema_extra={"maxLength": limits.max_text})]
        some: Any = Annotated[str, Field(json_schema_extra={"maxLength": limits.max_text})]
        texts: Any = Annotated[list[text], Field(min_length=1, json_schema_extra=items)]
        id: Any = Annotated[int, Field(ge=0, le=LARGEST_ID)]
        size = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
        number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False)]
        code: Any = Annotated[list[number], Field(min_length=1)]
        num = Annotated[int, Field(ge=1, json_schema_extra=most)]
        hits = Annotated[int, Field(json_schema_extra={"maximum": limits.max_k})]
        setting: dict[str, Any] = {
            name: (int, Field(None, ge=least, le=LARGEST_SETTING[name])) for name, least in SETTINGS.items()
        }
        self.types: dict[str, Any] = {
            **dict.fromkeys(("text", "first", "second", "question"), text),
            "texts": Annotated[list[some | None], Field(min_length=1, json_schema_extra=items)],
            "plus": texts,
            "too_long": Literal[TOO_LONG],
            "empty": Literal[EMPTY],
            "minus": Annotated[list[text], Field(json_schema_extra=items)],
            "id": id,
            "ids": Annotated[list[id], Field(min_length=1, json_schema_extra=items)],
            "code": code,
            "codes": Annotated[list[code], Field(min_length=1, json_schema_extra=items)],
            "at": number,
            **dict.fromkeys(("num", "num_words"), num),
            "steps": Annotated[int, Field(ge=2, json_schema_extra=most)],
            "scale": size,
            "standard_deviation": size,
            "literal": Annotated[float, Field(ge=0, le=1)],
            **dict.fromkeys(("candidates", "beam"), Annotated[int, Field(ge=1, le=MOST_CANDIDATES)]),
            "seed": Annotated[int, Field(ge=0, le=LARGEST_SEED)],
            "labels": dict[str, list[str | bool | int | float | None]],
            "where": Annotated[dict[str, Any], AfterValidator(_without_nan)],
            **dict.fromkeys(("k", "offset", "rerank"), hits),
            "fold": Literal[FOLDS],
            "mode": Literal[MODES],
            "max_distance": Annotated[float, Field(allow_inf_nan=False)],
            "least_similarity": Annotated[float, Field(ge=0, le=1)],
            "settings": create_model("Settings", __base__=Body, **setting),
            **dict.fromkeys(("sample", "prior", "allow_unknown", "reconstruct", "score", "decode"), bool),
        }
        self.types |= {"line": self.make("Line", Line), "sum": self.make("Sum", Sum)}
        query: Any = self.make("QueryBody", Query, base=_OneOf)
        self.types["queries"] = Annotated[list[query], Field(min_length=1, json_schema_extra=items)]
        self.search = self.make("SearchBody", Query, Options, base=_OneOf)
        self.search_batch = self.make("SearchBatchBody", lambda queries: None, Options)
        self.place = self.make("PlaceBody", lambda queries: None)

    def make(self, name: str, *described: Callable[..., Any], base: type[Body] = Body) -> type[Body]:
        """The body with the fields of dataclasses, or the arguments of an operation."""
        fields: dict[str, Any] = {}
        for each in described:
            notes = {known: field.metadata for known, field in getattr(each, "__dataclass_fields__", {}).items()}
            for parameter in inspect.signature(each).parameters.values():
                kind, default = self.types[parameter.name], parameter.default
                if default is None and each is not Query:  # a query's fields may be missing, but not null
                    kind = kind | None
                default = ... if default is parameter.empty else default
                fields[parameter.name] = kind, Field(default, **notes.get(parameter.name, {}))
        return create_model(name, __base__=base, __doc__=inspect.getdoc(described[0]), **fields)


def query_of(given: Body) -> Query:
    """The query in a body; raises `UserError` unless it holds exactly one kind of query."""
    kinds: dict[str, Any] = {"line": Line, "sum": Sum}
    values = {name: getattr(given, name) for name in _KINDS if name in given.model_fields_set}
    return Query(**{name: kinds[name](**vars(each)) if name in kinds else each for name, each in values.items()})


def options_of(given: Any) -> Options:
    settings = given.settings.model_dump(exclude_unset=True) if given.settings else None
    return Options(**{name: getattr(given, name) for name in Options.__dataclass_fields__} | {"settings": settings})


def with_text_labels(results: list[SearchResult]) -> list[SearchResult]:
    """Results in whose labels dates and the like are text, as `jsonable` writes them; Pydantic has another form."""
    labels = (value for result in results for hit in result.hits for value in hit.labels.values())
    return results if all(isinstance(value, _JSON) for value in labels) else jsonable(results)


class SearchBatchResponse(BaseModel):
    results: list[SearchResult]


class EncodeResponse(BaseModel):
    """Null stands for a text that was left out. `truncated`: the positions of texts that were cut, from 0."""

    mean: list[list[float] | None]
    log_variance: list[list[float] | None]
    truncated: list[int]


class SentencesResponse(BaseModel):
    sentences: list[str]


class ArithmeticResponse(BaseModel):
    code: list[float]
    sentence: str


class AnswerResponse(BaseModel):
    answer: str


class PlacesResponse(BaseModel):
    places: list[list[float]]


class StoredResponse(BaseModel):
    sentences: list[Sentence]


class IdsResponse(BaseModel):
    """`truncated` and `skipped`: the positions of texts that were cut and of those left out, from 0."""

    ids: list[int]
    truncated: list[int]
    skipped: list[int]


class CountResponse(BaseModel):
    count: int


class Health(BaseModel):
    status: str


class ErrorInfo(BaseModel):
    type: str
    code: str
    message: str


class ErrorResponse(BaseModel):
    error: ErrorInfo


@dataclass(frozen=True)
class Abilities:
    """`latent_dim`: the numbers of a code. `corpus`: the model's training corpus, if known.

    `has_meaning_part`: whether the model can decode other than word for word. `answers`: whether it answers questions.
    `deterministic`: whether its codes have no variance, so that hits have no score. `use`: the model's defaults.
    """

    latent_dim: int
    corpus: str | None
    has_meaning_part: bool
    answers: bool
    deterministic: bool
    use: dict[str, Any]


@dataclass(frozen=True)
class Tries:
    """Sentences of the index to try: searches, ends of a walk, first - second + third, and questions."""

    searches: list[str] = field(default_factory=list)
    walks: list[list[str]] = field(default_factory=list)
    sum: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Overview:
    """`name`: the index's directory. `has_words`: whether it supports search by words and finds equal sentences.

    `is_split`: whether its rows are texts that were split into sentences. `index.count` is the number of rows.
    """

    name: str
    index: Description
    has_words: bool
    is_split: bool
    model: Abilities
    columns: list[Column]
    tries: Tries


@dataclass(frozen=True)
class Coloured:
    """A label column on the map: its most frequent values, and for each sentence the number of its value, or -1."""

    column: str
    values: list[str]
    of: list[int]


@dataclass(frozen=True)
class MapView:
    """`ids` of N sentences, ascending, and their places `x`, `y`, 0 to 1; `method` and the index's `version` of the
    layout.

    `state`: `making` while a better layout is computed, which takes minutes; `ready` when it is final. `count`: the
    sentences of the index.
    """

    state: Literal["making", "ready"]
    method: str
    version: int
    count: int
    ids: list[int]
    x: list[float]
    y: list[float]
    labels: list[Coloured]
