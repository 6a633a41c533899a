"""The bodies of requests and responses, as the API documents them and the client returns them.

`Limited("max_text")` marks what a service's `Limits` bound: the service refuses more, OpenAPI shows the number.
"""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from smim.search.filters import DEEPEST
from smim.search.ids import LARGEST_ID
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


Text = Annotated[str, Limited("max_text", min_length=1)]
Texts = Annotated[list[Text], Limited("max_batch", min_length=1)]
Id = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Ids = Annotated[list[Id], Limited("max_batch", min_length=1)]
Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
Code = Annotated[list[Number], Field(min_length=1)]
Num = Annotated[int, Limited("max_num", ge=1)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
# Before pydantic, whose own limit of depth says little.
Filter = Annotated[dict[str, JsonValue], BeforeValidator(_checked)]
Labels = dict[str, list[str | bool | int | float | None]]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Line(Body):
    """A point of the line between two sentences' codes: the first at 0, the second at 1."""

    first: Text
    second: Text
    at: Number = 0.5


class Sum(Body):
    """The sum of the codes of `plus` less those of `minus`."""

    plus: Texts
    minus: Annotated[list[Text], Limited("max_batch")] = []


# The default of what may be left out but not be null.
_NOT_GIVEN: Any = None
KINDS = ("text", "id", "code", "line", "sum")


class QueryBody(Body):
    """What is searched for: one of text, id (more like that sentence), code, line and sum."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in KINDS]})

    text: Text = _NOT_GIVEN
    id: Id = _NOT_GIVEN
    code: Code = _NOT_GIVEN
    line: Line = _NOT_GIVEN
    sum: Sum = _NOT_GIVEN

    @model_validator(mode="after")
    def _one_kind(self) -> "QueryBody":
        if len(self.model_fields_set & set(KINDS)) != 1:
            raise ValueError(f"a query has exactly one of {', '.join(KINDS)}")
        return self


class Settings(Body):
    """Of this search, in the place of the index's own."""

    nprobe: int = Field(_NOT_GIVEN, ge=1, le=LARGEST_SETTING["nprobe"])
    ef_search: int = Field(_NOT_GIVEN, ge=1, le=LARGEST_SETTING["ef_search"])
    refine: int = Field(_NOT_GIVEN, ge=0, le=LARGEST_SETTING["refine"])


class SearchOptions(Body):
    k: Annotated[int, Limited("max_k", ge=1)] = 5
    offset: Annotated[int, Limited("max_k", ge=0)] = 0
    where: Filter | None = None
    max_distance: Annotated[float, Field(allow_inf_nan=False)] | None = None
    settings: Settings | None = None
    reconstruct: bool = Field(default=False, description="Give each hit as its code decodes.")
    score: bool = Field(default=False, description="Give log q(z|query) of each hit, in nats.")
    decode: bool = Field(default=False, description="Give the query as its code decodes.")


class SearchBody(QueryBody, SearchOptions):
    """A query and its options."""


class SearchBatchBody(SearchOptions):
    """Queries and the options of all of them."""

    queries: Annotated[list[QueryBody], Limited("max_batch", min_length=1)]


class TextsBody(Body):
    texts: Texts


class DecodeBody(Body):
    codes: Annotated[list[Code], Limited("max_batch", min_length=1)]
    sample: bool = False
    seed: Seed = 0


class ReconstructBody(TextsBody):
    sample: bool = False
    seed: Seed = 0


class InterpolateBody(Body):
    first: Text
    second: Text
    steps: Annotated[int, Limited("max_num", ge=2)] = 5


class PerturbBody(Body):
    text: Text
    num: Num = 5
    scale: Size = 10.0
    seed: Seed = 0


class SampleBody(Body):
    num: Num = 5
    standard_deviation: Size | None = Field(0.1, description="Of the codes around zero; null: the model's own prior.")
    seed: Seed = 0


class AnswerBody(Body):
    question: Text
    num_words: Num = 10


class IdsBody(Body):
    ids: Ids


class CountBody(Body):
    where: Filter | None = None


class AddBody(TextsBody):
    """Sentences to add; ids continue those that there are unless given; labels: a value a sentence, by column."""

    ids: Ids | None = None
    labels: Labels = {}


class UpsertBody(AddBody):
    """Sentences to add, in the place of those that have their ids."""

    ids: Ids


class DeleteBody(Body):
    """Either ids or a filter."""

    ids: Ids | None = None
    where: Filter | None = None


class SentenceInfo(BaseModel):
    id: int
    text: str
    labels: dict[str, Any]


class Hit(SentenceInfo):
    distance: float = Field(description="The smaller, the nearer.")
    reconstruction: str | None = None
    score: float | None = None


class SearchResponse(BaseModel):
    hits: list[Hit]
    decoded: str | None = None
    missing: list[str] = Field(default=[], description="Parts of the index that did not answer.")


class SearchBatchResponse(BaseModel):
    results: list[SearchResponse]


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
    sentences: list[SentenceInfo]


class IdsResponse(BaseModel):
    ids: list[int]


class CountResponse(BaseModel):
    count: int


class IndexInfo(BaseModel):
    count: int
    dimension: int
    metric: str
    columns: list[str]
    version: int
    model_hash: str
    search: dict[str, int]


class Health(BaseModel):
    status: str


class ErrorInfo(BaseModel):
    type: str
    message: str


class ErrorResponse(BaseModel):
    error: ErrorInfo
