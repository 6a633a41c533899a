"""The paths of the API, each an operation of the service."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from smim.search.ids import LARGEST_ID
from smim.search.labels import jsonable
from smim.serve import schemas
from smim.serve.backend import Found
from smim.serve.errors import responses
from smim.serve.service import CodeQuery, IdQuery, LineQuery, Query, SearchResult, Service, SumQuery, TextQuery


def routers(service: Service, may_read: Callable[..., Any], may_write: Callable[..., Any]) -> list[APIRouter]:
    """The routers of `/v1`; the two dependencies refuse requests without the right."""
    usual = responses(400, 401, 403, 408, 413, 421, 422, 429, 500, 503)
    read = APIRouter(dependencies=[Depends(may_read)], tags=["read"], responses=usual)
    write = APIRouter(dependencies=[Depends(may_write)], tags=["write"], responses=usual | responses(409))
    missing = responses(404)

    @read.post("/v1/search", responses=missing)
    async def search(body: schemas.SearchBody) -> schemas.SearchResponse:
        """The sentences nearest to a query."""
        [result] = await service.search([_query(body)], **_options(body))
        return _searched(result)

    @read.post("/v1/search/batch", responses=missing)
    async def search_batch(body: schemas.SearchBatchBody) -> schemas.SearchBatchResponse:
        """The sentences nearest to each of several queries."""
        results = await service.search([_query(query) for query in body.queries], **_options(body))
        return schemas.SearchBatchResponse(results=[_searched(result) for result in results])

    @read.post("/v1/encode")
    async def encode(body: schemas.TextsBody) -> schemas.EncodeResponse:
        """Mean and log variance of each text's code."""
        mean, log_variance = await service.encode(body.texts)
        return schemas.EncodeResponse(mean=mean.tolist(), log_variance=log_variance.tolist())

    @read.post("/v1/decode")
    async def decode(body: schemas.DecodeBody) -> schemas.SentencesResponse:
        """The sentence of each code: the likeliest words, or a draw."""
        return schemas.SentencesResponse(sentences=await service.decode(body.codes, body.sample, body.seed))

    @read.post("/v1/reconstruct")
    async def reconstruct(body: schemas.ReconstructBody) -> schemas.SentencesResponse:
        """Each text encoded and decoded."""
        return schemas.SentencesResponse(sentences=await service.reconstruct(body.texts, body.sample, body.seed))

    @read.post("/v1/interpolate")
    async def interpolate(body: schemas.InterpolateBody) -> schemas.SentencesResponse:
        """Sentences on the line between two sentences' codes, both ends included."""
        return schemas.SentencesResponse(sentences=await service.interpolate(body.first, body.second, body.steps))

    @read.post("/v1/perturb")
    async def perturb(body: schemas.PerturbBody) -> schemas.SentencesResponse:
        """Sentences near a sentence's code, `scale` standard deviations away."""
        sentences = await service.perturb(body.text, body.num, body.scale, body.seed)
        return schemas.SentencesResponse(sentences=sentences)

    @read.post("/v1/arithmetic")
    async def arithmetic(body: schemas.Sum) -> schemas.ArithmeticResponse:
        """A sum of sentences' codes, and the sentence that it decodes to."""
        code, sentence = await service.arithmetic(body.plus, body.minus)
        return schemas.ArithmeticResponse(code=code.tolist(), sentence=sentence)

    @read.post("/v1/sample")
    async def sample(body: schemas.SampleBody) -> schemas.SentencesResponse:
        """Sentences of codes drawn around zero, or from the model's prior."""
        sentences = await service.sample(body.num, body.standard_deviation, body.seed)
        return schemas.SentencesResponse(sentences=sentences)

    @read.post("/v1/answer")
    async def answer(body: schemas.AnswerBody) -> schemas.AnswerResponse:
        """An answer to a question, of a model that was trained on questions and answers."""
        return schemas.AnswerResponse(answer=await service.answer(body.question, body.num_words))

    @read.get("/v1/sentences/{id}", responses=missing)
    async def sentence(id: Annotated[int, Path(ge=0, le=LARGEST_ID)]) -> schemas.SentenceInfo:
        """A sentence of the index."""
        [row] = await service.get([id])
        return _stored(row)

    @read.post("/v1/sentences/get", responses=missing)
    async def get(body: schemas.IdsBody) -> schemas.StoredResponse:
        """Sentences of the index."""
        return schemas.StoredResponse(sentences=[_stored(row) for row in await service.get(body.ids)])

    @read.get("/v1/count")
    async def count_all() -> schemas.CountResponse:
        """How many sentences there are."""
        return schemas.CountResponse(count=await service.count())

    @read.post("/v1/count")
    async def count(body: schemas.CountBody) -> schemas.CountResponse:
        """How many sentences pass a filter."""
        return schemas.CountResponse(count=await service.count(body.where))

    @read.get("/v1/index")
    async def index() -> schemas.IndexInfo:
        """What is searched."""
        return schemas.IndexInfo(**asdict(await service.describe()))

    @write.post("/v1/sentences")
    async def add(body: schemas.AddBody) -> schemas.IdsResponse:
        """Add sentences; their ids."""
        return schemas.IdsResponse(ids=await service.add(body.texts, body.ids, body.labels))

    @write.put("/v1/sentences")
    async def upsert(body: schemas.UpsertBody) -> schemas.IdsResponse:
        """Add sentences in the place of those that have their ids."""
        return schemas.IdsResponse(ids=await service.upsert(body.texts, body.ids, body.labels))

    @write.post("/v1/sentences/delete")
    async def delete(body: schemas.DeleteBody) -> schemas.CountResponse:
        """Delete sentences by id or by a filter; how many there were."""
        return schemas.CountResponse(count=await service.delete(body.ids, body.where))

    return [read, write]


def _query(body: schemas.QueryBody) -> Query:
    match next(iter(body.model_fields_set & set(schemas.KINDS))):
        case "text":
            return TextQuery(body.text)
        case "id":
            return IdQuery(body.id)
        case "code":
            return CodeQuery(body.code)
        case "line":
            return LineQuery(body.line.first, body.line.second, body.line.at)
    return SumQuery(body.sum.plus, body.sum.minus)


def _options(body: schemas.SearchOptions) -> dict[str, Any]:
    names = ("k", "offset", "where", "max_distance", "reconstruct", "score", "decode")
    settings = body.settings.model_dump(exclude_unset=True) if body.settings else {}
    return {name: getattr(body, name) for name in names} | {"settings": settings}


def _searched(result: SearchResult) -> schemas.SearchResponse:
    hits = [
        schemas.Hit(
            id=hit.id,
            text=hit.text,
            labels=jsonable(hit.labels),
            distance=hit.distance,
            reconstruction=hit.reconstruction,
            score=hit.score if hit.score is not None and math.isfinite(hit.score) else None,
        )
        for hit in result.hits
    ]
    return schemas.SearchResponse(hits=hits, decoded=result.decoded, missing=result.missing)


def _stored(row: Found | Any) -> schemas.SentenceInfo:
    return schemas.SentenceInfo(id=row.id, text=row.text, labels=jsonable(row.labels))
