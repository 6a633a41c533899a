"""The bodies of requests and responses, as the API documents them.

A request's are made of `smim.search.query` and of the service's operations, whose arguments have the same names: what
each name may hold is said once, in `TYPES`. `Limited("max_text")` marks what a service's `Limits` bound: the service
refuses more, OpenAPI shows the number.
"""

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, create_model

from smim.search.filters import DEEPEST
from smim.search.ids import LARGEST_ID
from smim.search.query import SETTINGS, Line, Options, Query, SearchResult, Sentence, Sum
from smim.serve.limits import LARGEST_NUMBER, LARGEST_SEED, LARGEST_SETTING

LIMIT = "x-limit"
_LARGEST_INTEGER = 2**63 - 1


def Limited(limit: str, **constraints: Any) -> Any:
    return Field(json_schema_extra={LIMIT: limit}, **constraints)


def _checked(value: Any) -> Any:
    """Raises `ValueError` for what JSON does not have or the index cannot compare, and for deep nesting."""
    waiting = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        if isinstance(each, float) and not math.isfinite(each):
            raise ValueError("it holds NaN or an infinite number")
        if isinstance(each, int) and abs(each) > _LARGEST_INTEGER:
            raise ValueError("it holds a whole number of more than 64 bits")
        if isinstance(each, str) and not each.isascii() and any("\ud800" <= c <= "\udfff" for c in each):
            raise ValueError("it holds a half of a surrogate pair, which is no text")
        if isinstance(each, dict):
            waiting += [(part, depth + 1) for pair in each.items() for part in pair]
        elif isinstance(each, list):
            waiting += [(part, depth + 1) for part in each]
    return value


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def body(name: str, *described: Callable[..., Any], base: type[Body] = Body) -> type[Body]:
    """The body that holds the fields of dataclasses, or the arguments of an operation."""
    fields: dict[str, Any] = {}
    for each in described:
        notes = {known: field.metadata for known, field in getattr(each, "__dataclass_fields__", {}).items()}
        for parameter in inspect.signature(each).parameters.values():
            known, default = TYPES[parameter.name], parameter.default
            if default is None and each is not Query:  # a query's may be left out, but are not null
                known = known | None
            required = default is parameter.empty
            fields[parameter.name] = known, Field(... if required else default, **notes.get(parameter.name, {}))
    return create_model(name, __base__=base, __doc__=inspect.getdoc(described[0]), **fields)


Text = Annotated[str, Limited("max_text", min_length=1)]
Texts = Annotated[list[Text], Limited("max_batch", min_length=1)]
Id = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Ids = Annotated[list[Id], Limited("max_batch", min_length=1)]
Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
Code = Annotated[list[Number], Field(min_length=1)]
Num = Annotated[int, Limited("max_num", ge=1)]
TYPES: dict[str, Any] = {
    "text": Text,
    "first": Text,
    "second": Text,
    "question": Text,
    "texts": Texts,
    "plus": Texts,
    "minus": Annotated[list[Text], Limited("max_batch")],
    "id": Id,
    "ids": Ids,
    "code": Code,
    "codes": Annotated[list[Code], Limited("max_batch", min_length=1)],
    "at": Number,
    "num": Num,
    "num_words": Num,
    "steps": Annotated[int, Limited("max_num", ge=2)],
    "scale": Size,
    "standard_deviation": Size | None,
    "sample": bool,
    "seed": Annotated[int, Field(ge=0, le=LARGEST_SEED)],
    "labels": dict[str, list[str | bool | int | float | None]],
    # Before pydantic, whose own limit of depth says little.
    "where": Annotated[dict[str, JsonValue], BeforeValidator(_checked)],
    "k": Annotated[int, Limited("max_k")],
    "offset": Annotated[int, Limited("max_k")],
    "max_distance": Annotated[float, Field(allow_inf_nan=False)],
    **dict.fromkeys(("reconstruct", "score", "decode"), bool),
}
_SETTINGS: dict[str, Any] = {
    name: (int, Field(None, ge=least, le=LARGEST_SETTING[name])) for name, least in SETTINGS.items()
}
TYPES |= {"line": body("Line", Line), "sum": body("Sum", Sum)}
TYPES["settings"] = create_model("Settings", __base__=Body, **_SETTINGS)
_KINDS = list(Query.__dataclass_fields__)


class _OneOf(Body):
    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in _KINDS]})


QueryBody = body("QueryBody", Query, base=_OneOf)
SearchBody = body("SearchBody", Query, Options, base=_OneOf)
_QUERIES: Any = (Annotated[list[QueryBody], Limited("max_batch", min_length=1)], ...)  # type: ignore[valid-type]
SearchBatchBody = create_model("SearchBatchBody", __base__=body("SearchOptions", Options), queries=_QUERIES)


def query_of(given: Body) -> Query:
    """Raises `UserError` unless a body holds one kind of query."""
    kinds: dict[str, Any] = {"line": Line, "sum": Sum}
    values = {name: getattr(given, name) for name in _KINDS if name in given.model_fields_set}
    return Query(**{name: kinds[name](**vars(each)) if name in kinds else each for name, each in values.items()})


def options_of(given: Any) -> Options:
    settings = given.settings.model_dump(exclude_unset=True) if given.settings else None
    return Options(**{name: getattr(given, name) for name in Options.__dataclass_fields__} | {"settings": settings})


class SearchBatchResponse(BaseModel):
    results: list[SearchResult]


class EncodeResponse(BaseModel):
    mean: list[list[float]]
    log_variance: list[list[float]]


class SentencesResponse(BaseModel):
    sentences: list[str]


class ArithmeticResponse(BaseModel):
    code: list[float]
    sentence: str


class AnswerResponse(BaseModel):
    answer: str


class StoredResponse(BaseModel):
    sentences: list[Sentence]


class IdsResponse(BaseModel):
    ids: list[int]


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
