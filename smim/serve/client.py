"""A client of the service.

from smim.serve import Client

with Client("http://127.0.0.1:8000") as client:
    for hit in client.search(text="the company said profit rose", k=3).hits:
        print(hit.id, hit.distance, hit.text)
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypedDict, TypeVar, Unpack

import httpx2
from pydantic import TypeAdapter, ValidationError

from smim.errors import SmimError, Unsupported, UserError
from smim.lock import BeingChanged
from smim.search.errors import BadFilter, NoSuchSentence, Unreadable
from smim.search.labels import plain
from smim.search.query import Description, SearchResult, Sentence
from smim.serve import schemas
from smim.serve.batching import Busy, Unavailable
from smim.text.fitting import TextsChanged

_LONGEST_WAIT = 30.0
Answer = TypeVar("Answer")


class ServiceError(SmimError):
    """An error that the service returned. `status` is the HTTP status, or 0 if there was no answer.

    It is also an error of the class with the same `code`, such as `smim.search.errors.NoSuchSentence`.
    """

    def __init__(self, status: int, message: str, code: str = SmimError.code) -> None:
        Exception.__init__(self, status, message, code)
        self.status, self.message, self.code = status, message, code

    def __str__(self) -> str:
        return f"{self.status}: {self.message}" if self.status else self.message


_KINDS: tuple[type[SmimError], ...] = (
    UserError,
    Unsupported,
    NoSuchSentence,
    BadFilter,
    BeingChanged,
    Unreadable,
    Busy,
    Unavailable,
)
_RAISED: dict[str, type[ServiceError]] = {kind.code: type(kind.__name__, (ServiceError, kind), {}) for kind in _KINDS}


class Saying(TypedDict, total=False):
    """Options of decoding, as `SentenceModel` takes them; missing keys take the default."""

    literal: float | None
    seed: int
    allow_unknown: bool


class Decoding(Saying, total=False):
    """More options for decoding given codes and texts."""

    sample: bool
    candidates: int | None
    beam: int


class Fitting(TypedDict, total=False):
    """Policies for texts that do not fit, as `SentenceModel.encode` takes them."""

    too_long: str
    empty: str


class Client:
    """A client of the service at `address`; `key` is an API key, if the service needs one.

    If the service is busy, the client waits as long as the answer says and tries again, `retries` times. `timeout`:
    seconds per try. All methods raise `ServiceError`.
    """

    def __init__(self, address: str, *, key: str | None = None, timeout: float = 60, retries: int = 5) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(base_url=address, headers=headers, timeout=timeout)
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(self, **query_and_options: Any) -> SearchResult:
        """Search as in `search(text="...", k=3)`: fields of `smim.search.query.Query` (dictionaries) and `Options`."""
        return self._post("search", SearchResult, **query_and_options)

    def search_batch(self, queries: Sequence[Mapping[str, Any]], **options: Any) -> list[SearchResult]:
        """Search as in `search_batch([{"text": "..."}, {"id": 3}], k=3)`: a result for each query."""
        return self._post("search/batch", schemas.SearchBatchResponse, queries=list(queries), **options).results

    def encode(self, texts: Sequence[str | None], **policies: Unpack[Fitting]) -> schemas.EncodeResponse:
        """Encode texts; return means and log variances of their posteriors, and which texts were cut."""
        answer = self._post("encode", schemas.EncodeResponse, texts=list(texts), **policies)
        _tell("cut", answer.truncated, len(texts))
        return answer

    def decode(self, codes: Sequence[Sequence[float]], **how: Unpack[Decoding]) -> list[str]:
        """Decode codes [N, D] into N sentences."""
        return self._sentences("decode", codes=[list(code) for code in codes], **how)

    def reconstruct(self, texts: Sequence[str], **how: Unpack[Decoding]) -> list[str]:
        """Encode texts, and decode their codes."""
        return self._sentences("reconstruct", texts=list(texts), **how)

    def interpolate(self, first: str, second: str, *, steps: int = 5, **how: Unpack[Saying]) -> list[str]:
        """Decode `steps` codes from the first sentence's to the second's."""
        return self._sentences("interpolate", first=first, second=second, steps=steps, **how)

    def perturb(self, text: str, *, num: int = 5, scale: float | None = None, **how: Unpack[Saying]) -> list[str]:
        """Decode `num` codes near a sentence's code, `scale` posterior standard deviations away."""
        return self._sentences("perturb", text=text, num=num, scale=scale, **how)

    def sample(
        self, num: int = 5, *, standard_deviation: float | None = None, prior: bool = False, **how: Unpack[Saying]
    ) -> list[str]:
        """Decode `num` codes drawn around zero, or from the prior."""
        return self._sentences("sample", num=num, standard_deviation=standard_deviation, prior=prior, **how)

    def arithmetic(
        self, plus: Sequence[str], minus: Sequence[str] = (), **how: Unpack[Saying]
    ) -> schemas.ArithmeticResponse:
        """Decode the sum of the codes of `plus` less those of `minus`, and return that code too."""
        return self._post("arithmetic", schemas.ArithmeticResponse, plus=list(plus), minus=list(minus), **how)

    def answer(self, question: str, *, num_words: int = 10) -> str:
        """Decode an answer from the code of a question and `num_words` unknown words."""
        return self._post("answer", schemas.AnswerResponse, question=question, num_words=num_words).answer

    def get(self, ids: Sequence[int]) -> list[Sentence]:
        """Return the sentences of the given ids, whole rows with their labels."""
        return self._post("sentences/get", schemas.StoredResponse, ids=list(ids)).sentences

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        """Count the rows of the index, or those that pass a filter."""
        return self._post("count", schemas.CountResponse, where=where).count

    def index(self) -> Description:
        """Describe the index: its size, metric, label columns and model."""
        return self._ask("GET", "index", Description)

    def overview(self) -> schemas.Overview:
        """Describe the index and the model, with examples, as the page shows them."""
        return self._ask("GET", "overview", schemas.Overview)

    def map(self) -> schemas.MapView:
        """Return the map of the index: ids, places and labels of its points, and whether a better one is being made."""
        return self._ask("GET", "map", schemas.MapView)

    def place(self, queries: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """The places x and y on the map of queries, as in `place([{"text": "..."}, {"id": 3}])`."""
        return self._post("map/place", schemas.PlacesResponse, queries=list(queries)).places

    def add(
        self,
        texts: Sequence[str],
        *,
        ids: Sequence[int] | None = None,
        labels: Mapping[str, Sequence[Any]] | None = None,
        **policies: Unpack[Fitting],
    ) -> list[int]:
        """Add texts, with labels by column; return their ids."""
        return self._put("POST", texts, ids if ids is None else list(ids), labels, policies)

    def upsert(
        self,
        texts: Sequence[str],
        ids: Sequence[int],
        *,
        labels: Mapping[str, Sequence[Any]] | None = None,
        **policies: Unpack[Fitting],
    ) -> list[int]:
        """Add texts in the place of those with the same ids; return the ids."""
        return self._put("PUT", texts, list(ids), labels, policies)

    def delete(self, ids: Sequence[int] | None = None, *, where: Mapping[str, Any] | None = None) -> int:
        """Delete the rows of the given ids, or those that pass a filter; return how many."""
        given = ids if ids is None else list(ids)
        return self._post("sentences/delete", schemas.CountResponse, ids=given, where=where).count

    def ready(self) -> bool:
        """Whether the service accepts requests."""
        try:
            return self._http.get("/health/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def _sentences(self, path: str, **body: Any) -> list[str]:
        return self._post(path, schemas.SentencesResponse, **body).sentences

    def _put(
        self,
        method: str,
        texts: Sequence[str],
        ids: list[int] | None,
        labels: Mapping[str, Sequence[Any]] | None,
        policies: Fitting,
    ) -> list[int]:
        lists = {name: [plain(value) for value in values] for name, values in (labels or {}).items()}
        body = {"texts": list(texts), "ids": ids, "labels": lists, **policies}
        answer = self._ask(method, "sentences", schemas.IdsResponse, body)
        _tell("cut", answer.truncated, len(texts))
        _tell("left out", answer.skipped, len(texts))
        return answer.ids

    def _post(self, path: str, answer: type[Answer], **body: Any) -> Answer:
        return self._ask("POST", path, answer, body)

    def _ask(self, method: str, path: str, answer: type[Answer], body: Mapping[str, Any] | None = None) -> Answer:
        for left in range(self._retries, -1, -1):
            try:
                response = self._http.request(method, f"/v1/{path}", json=body)
            except httpx2.TransportError as error:
                raise ServiceError(
                    0, f"{self._http.base_url} does not answer: {error or type(error).__name__}"
                ) from None
            if response.status_code != 429 or not left:
                break
            seconds = response.headers.get("retry-after", "")
            time.sleep(min(float(seconds), _LONGEST_WAIT) if seconds.isdecimal() else 1.0)
        try:
            if response.is_success:
                return TypeAdapter(answer).validate_json(response.content)
            failure = schemas.ErrorResponse.model_validate_json(response.content).error
        except ValidationError:
            message = f"{self._http.base_url} answers as another version of smim does; use this client's version there"
            raise ServiceError(response.status_code, message) from None
        raise _RAISED.get(failure.code, ServiceError)(response.status_code, failure.message, failure.code)


def _tell(what: str, rows: list[int], count: int) -> None:
    if rows:
        warnings.warn(TextsChanged(f"{len(rows):,} of {count:,} texts were {what}", rows), stacklevel=4)
