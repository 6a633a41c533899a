"""A search from its queries to its results: codes, the index's answers, and what hits and queries decode to.

Shapes: N queries, D latent dimensions.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian
from smim.search.filters import Where
from smim.search.index import check_distance, log_posterior
from smim.serve.backend import Answer
from smim.serve.computing import Computing, Searching
from smim.serve.limits import LARGEST_NUMBER, as_codes, check_filter, check_size
from smim.serve.queries import CodeQuery, HitResult, IdQuery, LineQuery, Query, SearchResult, SumQuery, TextQuery


@dataclass(frozen=True)
class Options:
    """As of `Index.search`; `decode`: each query as its code decodes."""

    k: int
    offset: int = 0
    where: Where | None = None
    max_distance: float | None = None
    settings: Mapping[str, int] = field(default_factory=dict)
    reconstruct: bool = False
    score: bool = False
    decode: bool = False


@dataclass(frozen=True)
class _Codes:
    """Of N queries: the codes [N, D] to search with, those to decode, and, for a score, the posteriors."""

    searched: np.ndarray
    decoded: np.ndarray
    posterior: DiagonalGaussian | None


async def search(computing: Computing, queries: Sequence[Query], options: Options) -> list[SearchResult]:
    """A result for each query."""
    explain = options.reconstruct or options.score
    computing.limits.check_search(queries, options.k, options.offset, options.settings, explain=explain)
    check_distance(options.max_distance)
    check_filter(options.where)
    if options.score and computing.model.deterministic:
        raise UserError("a score is log q(z|query), but this model's variance was never trained: no score")
    if options.score and not all(isinstance(query, TextQuery | IdQuery) for query in queries):
        raise UserError("a score is log q(z|query): it needs sentences as queries, not codes")
    codes = await _codes(computing, queries, options)
    found = await _nearest(computing, queries, codes.searched, options)
    rows = [[HitResult(hit.id, hit.text, hit.labels, hit.distance) for hit in answer.hits[0]] for answer in found]
    if explain and any(rows):
        rows = await _explained(computing, rows, codes.posterior, options)
    decoded: Sequence[str | None] = [None] * len(queries)
    if options.decode:
        decoded = await computing.decode(codes.decoded)
    return [
        SearchResult(hits, sentence, answer.missing)
        for hits, sentence, answer in zip(rows, decoded, found, strict=True)
    ]


async def _codes(computing: Computing, queries: Sequence[Query], options: Options) -> _Codes:
    texts: list[str] = []
    places = []
    for query in queries:
        of_query = _texts(query)
        places.append(slice(len(texts), len(texts) + len(of_query)))
        texts += of_query
    given = await computing.posterior(texts) if texts else None
    means = given.mean.numpy() if given else np.empty((0, computing.model.latent_dim), np.float32)
    by_id = [i for i, query in enumerate(queries) if isinstance(query, IdQuery)]
    stored = await _of_ids(computing, [query.id for query in queries if isinstance(query, IdQuery)], options)
    searched = np.empty((len(queries), computing.model.latent_dim), np.float32)
    searched[by_id] = stored.searched
    for i, query in enumerate(queries):
        if not isinstance(query, IdQuery):
            searched[i] = _code(query, means[places[i]])
    decoded = searched.copy()
    decoded[by_id] = stored.decoded
    if not options.score:
        return _Codes(searched, decoded, None)
    # Each query is one text: one that was given, or that of an id.
    both = [posterior for posterior in (given, stored.posterior) if posterior]
    order = np.argsort([i for i in range(len(queries)) if i not in by_id] + by_id)
    mean, log_variance = (torch.cat([getattr(each, name) for each in both]) for name in ("mean", "log_variance"))
    return _Codes(searched, decoded, DiagonalGaussian(mean[order], log_variance[order]))


async def _of_ids(computing: Computing, ids: list[int], options: Options) -> _Codes:
    if not ids:
        nothing = np.empty((0, computing.model.latent_dim), np.float32)
        return _Codes(nothing, nothing, None)
    computing.limits.check_ids(ids)
    backend = computing.backend
    codes = await computing.read(lambda: backend.codes(ids), len(ids))
    # Where the metric is cosine, the index holds codes of length one, which decode to something else.
    unit = options.decode and (await computing.describe()).metric == "cosine"
    if not (options.score or unit):
        return _Codes(codes, codes, None)
    rows = await computing.read(lambda: backend.get(ids), len(ids))
    posterior = await computing.posterior([row.text for row in rows], stored=True)
    return _Codes(codes, posterior.mean.numpy() if unit else codes, posterior)


def _code(query: Query, means: np.ndarray) -> np.ndarray:
    """The code [D] to search with, from the means of the query's texts."""
    match query:
        case TextQuery():
            return means[0]
        case LineQuery(at=at):
            check_size("at", at, least=-LARGEST_NUMBER)
            start, end = means
            code = start + at * (end - start)
        case SumQuery(plus=plus):
            code = means[: len(plus)].sum(0) - means[len(plus) :].sum(0)
        case CodeQuery(code=given):
            code = given
    return as_codes([code], means.shape[1])[0]


async def _nearest(computing: Computing, queries: Sequence[Query], codes: np.ndarray, options: Options) -> list[Answer]:
    """For each query an answer of one list of hits."""
    # A sentence of the index finds itself: one more is searched for, and that one left out.
    groups = [[i for i, q in enumerate(queries) if isinstance(q, IdQuery) == by_id] for by_id in (False, True)]
    asked = [(extra, group) for extra, group in enumerate(groups) if group]
    requests = [
        Searching(codes[group], options.k, options.offset, options.where, options.settings, extra)
        for extra, group in asked
    ]
    answers = await asyncio.gather(*map(computing.search, requests))
    farthest = np.inf if options.max_distance is None else options.max_distance
    results: list[Any] = [None] * len(queries)
    for answer, (_, group) in zip(answers, asked, strict=True):
        for i, hits in zip(group, answer.hits, strict=True):
            query = queries[i]
            own = query.id if isinstance(query, IdQuery) else None
            near = [hit for hit in hits if hit.distance <= farthest and hit.id != own]
            results[i] = Answer([near[options.offset : options.offset + options.k]], answer.missing)
    return results


async def _explained(
    computing: Computing, rows: list[list[HitResult]], posterior: DiagonalGaussian | None, options: Options
) -> list[list[HitResult]]:
    """The hits with reconstructions and scores, from their texts: the index may hold codes of length one."""
    hits = [hit for row in rows for hit in row]
    codes = (await computing.posterior([hit.text for hit in hits], stored=True)).mean.numpy()
    if options.reconstruct:
        sentences = await computing.decode(codes)
        hits = [replace(hit, reconstruction=each) for hit, each in zip(hits, sentences, strict=True)]
    if options.score:
        assert posterior is not None
        query_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        scores = log_posterior(posterior, query_of, codes)
        hits = [replace(hit, score=each) for hit, each in zip(hits, scores, strict=True)]
    rest = iter(hits)
    return [[next(rest) for _ in row] for row in rows]


def _texts(query: Query) -> list[str]:
    match query:
        case TextQuery(text=text):
            return [text]
        case LineQuery(first=first, second=second):
            return [first, second]
        case SumQuery(plus=plus, minus=minus):
            if not plus:
                raise UserError("a sum needs at least one sentence to add")
            return [*plus, *minus]
    return []
