"""The bodies of requests and responses, as the API documents them.

A request's are made of `smim.search.query` and of the service's operations, whose arguments have the same names.
"""

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, create_model
from pydantic.config import JsonDict

from smim.search.filters import DEEPEST
from smim.search.ids import LARGEST_ID
from smim.search.query import SETTINGS, Line, Options, Query, SearchResult, Sentence, Sum
from smim.serve.limits import LARGEST_NUMBER, LARGEST_SEED, LARGEST_SETTING, Limits

_LARGEST_INTEGER = 2**63 - 1
_KINDS = list(Query.__dataclass_fields__)


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


class _OneOf(Body):
    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in _KINDS]})


class Bodies:
    """The bodies of requests to a service: what each name may hold is said once, in `types`.

    OpenAPI shows the service's limits, which refuses more with messages of its own.
    """

    def __init__(self, limits: Limits) -> None:
        items: JsonDict = {"maxItems": limits.max_batch}
        most: JsonDict = {"maximum": limits.max_num}
        text: Any = Annotated[str, Field(min_length=1, json_schema_extra={"maxLength": limits.max_text})]
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
            **dict.fromkeys(("texts", "plus"), texts),
            "minus": Annotated[list[text], Field(json_schema_extra=items)],
            "id": id,
            "ids": Annotated[list[id], Field(min_length=1, json_schema_extra=items)],
            "code": code,
            "codes": Annotated[list[code], Field(min_length=1, json_schema_extra=items)],
            "at": number,
            **dict.fromkeys(("num", "num_words"), num),
            "steps": Annotated[int, Field(ge=2, json_schema_extra=most)],
            "scale": size,
            "standard_deviation": size | None,
            "seed": Annotated[int, Field(ge=0, le=LARGEST_SEED)],
            "labels": dict[str, list[str | bool | int | float | None]],
            # Before pydantic, whose own limit of depth says little.
            "where": Annotated[dict[str, JsonValue], BeforeValidator(_checked)],
            **dict.fromkeys(("k", "offset"), hits),
            "max_distance": Annotated[float, Field(allow_inf_nan=False)],
            "settings": create_model("Settings", __base__=Body, **setting),
            **dict.fromkeys(("sample", "reconstruct", "score", "decode"), bool),
        }
        self.types |= {"line": self.make("Line", Line), "sum": self.make("Sum", Sum)}
        query: Any = self.make("QueryBody", Query, base=_OneOf)
        self.types["queries"] = Annotated[list[query], Field(min_length=1, json_schema_extra=items)]
        self.search = self.make("SearchBody", Query, Options, base=_OneOf)
        self.search_batch = self.make("SearchBatchBody", lambda queries: None, Options)

    def make(self, name: str, *described: Callable[..., Any], base: type[Body] = Body) -> type[Body]:
        """The body that holds the fields of dataclasses, or the arguments of an operation."""
        fields: dict[str, Any] = {}
        for each in described:
            notes = {known: field.metadata for known, field in getattr(each, "__dataclass_fields__", {}).items()}
            for parameter in inspect.signature(each).parameters.values():
                kind, default = self.types[parameter.name], parameter.default
                if default is None and each is not Query:  # a query's may be left out, but are not null
                    kind = kind | None
                default = ... if default is parameter.empty else default
                fields[parameter.name] = kind, Field(default, **notes.get(parameter.name, {}))
        return create_model(name, __base__=base, __doc__=inspect.getdoc(described[0]), **fields)


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
