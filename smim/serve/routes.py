"""The paths of the API; each calls an operation of the service."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import is_dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel

from smim.search.ids import LARGEST_ID
from smim.search.labels import jsonable
from smim.search.query import Description, SearchResult, Sentence
from smim.serve import schemas
from smim.serve.errors import responses
from smim.serve.service import Service
from smim.serve.tagged import tagged

Operation = Callable[..., Awaitable[Any]]


def routers(service: Service, may_read: Callable[..., Any], may_write: Callable[..., Any]) -> list[APIRouter]:
    """The routers of `/v1`; the two dependencies refuse requests without the right."""
    usual = responses(400, 401, 403, 408, 413, 421, 422, 429, 500, 503)
    read = APIRouter(prefix="/v1", dependencies=[Depends(may_read)], tags=["read"], responses=usual)
    write = APIRouter(prefix="/v1", dependencies=[Depends(may_write)], tags=["write"], responses=usual | responses(409))
    missing, bodies = responses(404), schemas.Bodies(service.limits)

    @read.post("/search", responses=missing)
    async def search(body: bodies.search) -> SearchResult:  # type: ignore[name-defined]
        """Find the sentences nearest to a query."""
        return await searched(service, body)

    @read.post("/search/batch", responses=missing)
    async def search_batch(body: bodies.search_batch) -> schemas.SearchBatchResponse:  # type: ignore[name-defined]
        """Find the sentences nearest to each of several queries."""
        queries = body.queries
        results = await service.search([schemas.query_of(query) for query in queries], schemas.options_of(body))
        return schemas.SearchBatchResponse(results=schemas.with_text_labels(results))

    @read.get("/sentences/{id}", responses=missing)
    async def sentence(id: Annotated[int, Path(ge=0, le=LARGEST_ID)]) -> Sentence:
        """Return a sentence of the index."""
        return jsonable((await service.get([id]))[0])

    @read.get("/count")
    async def count_all() -> schemas.CountResponse:
        """Return the number of sentences."""
        return schemas.CountResponse(count=await service.count())

    @read.get("/overview")
    async def overview() -> schemas.Overview:
        """Return the index, the model's abilities, the labels, and sentences to try."""
        return jsonable(await service.overview())

    @read.get("/map", response_model=schemas.MapView, responses={304: {"description": "The one that `ETag` names."}})
    async def map(request: Request) -> Response:
        """Return sentences as points in the plane, similar ones close; `state` says whether a better map follows."""
        made = await service.map()
        return tagged(request, made.json, made.tag, "application/json")

    @read.post("/map/place", responses=missing)
    async def place(body: bodies.place) -> schemas.PlacesResponse:  # type: ignore[name-defined]
        """Return the place of each query's code on the map."""
        places = await service.place([schemas.query_of(query) for query in body.queries])
        return schemas.PlacesResponse(places=jsonable(places))

    @read.get("/index")
    async def index() -> Description:
        """Describe the index."""
        return await service.describe()

    operations: list[tuple[APIRouter, str, str, Operation, type[BaseModel]]] = [
        (read, "POST", "/encode", service.encode, schemas.EncodeResponse),
        (read, "POST", "/decode", service.decode, schemas.SentencesResponse),
        (read, "POST", "/reconstruct", service.reconstruct, schemas.SentencesResponse),
        (read, "POST", "/interpolate", service.interpolate, schemas.SentencesResponse),
        (read, "POST", "/perturb", service.perturb, schemas.SentencesResponse),
        (read, "POST", "/arithmetic", service.arithmetic, schemas.ArithmeticResponse),
        (read, "POST", "/sample", service.sample, schemas.SentencesResponse),
        (read, "POST", "/answer", service.answer, schemas.AnswerResponse),
        (read, "POST", "/sentences/get", service.get, schemas.StoredResponse),
        (read, "POST", "/count", service.count, schemas.CountResponse),
        (write, "POST", "/sentences", service.add, schemas.IdsResponse),
        (write, "PUT", "/sentences", service.upsert, schemas.IdsResponse),
        (write, "POST", "/sentences/delete", service.delete, schemas.CountResponse),
    ]
    for router, method, path, operation, answers in operations:
        router.add_api_route(
            path,
            _endpoint(operation, bodies.make(f"{operation.__name__.title()}Body", operation), answers),
            methods=[method],
            name=operation.__name__,
            description=inspect.getdoc(operation),
            responses=missing if path == "/sentences/get" else None,
        )
    return [read, write]


async def searched(service: Service, body: Any) -> SearchResult:
    """The answer to a valid body of a search."""
    return schemas.with_text_labels(await service.search([schemas.query_of(body)], schemas.options_of(body)))[0]


def _endpoint(operation: Operation, given: Any, answers: type[BaseModel]) -> Callable[..., Any]:
    """An endpoint with an operation's arguments as its body; the results become the response's fields."""

    async def endpoint(body: given) -> answers:  # type: ignore[valid-type]
        result = await operation(**vars(body))
        if is_dataclass(result):
            return answers(**jsonable(result))
        values = result if isinstance(result, tuple) else (result,)
        return answers(**{name: jsonable(value) for name, value in zip(answers.model_fields, values, strict=True)})

    return endpoint
