"""A search from queries to results: compute codes, find the nearest, decode hits and queries.

It awaits each computation, so that the same code serves one caller and the many clients of a service.

Shapes: N queries, D latent dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model.distributions import DiagonalGaussian
from smim.search.folding import Equals
from smim.search.manifest import Manifest
from smim.search.query import Hit, Options, Query, SearchResult, Texts
from smim.search.words import words_of

Codes = Iterator[np.ndarray]


@dataclass(frozen=True)
class Answer:
    """The hits of each query, nearest first; `missing` names the parts of the index that did not answer."""

    hits: list[list[Hit]]
    missing: list[str] = field(default_factory=list)


class Asked(Protocol):
    """The computations that a search needs; all raise `UserError` for mistakes of the caller."""

    @property
    def model(self) -> SentenceModel: ...

    async def posterior(
        self, texts: Sequence[str], *, allow_unknown: bool = False, stored: bool = False
    ) -> DiagonalGaussian:
        """q(z|x) of texts that the caller gave, or that the index holds (`stored`)."""

    async def decode(self, codes: np.ndarray, *, literal: float = 1.0) -> list[str]: ...

    async def nearest(self, codes: np.ndarray, options: Options, texts: Texts = None) -> Answer:
        """The hits of codes [N, D] by the options' `k`, `where`, `settings` and `mode`; `texts` holds the words."""

    async def equals(self, texts: Sequence[str], options: Options) -> list[Equals]:
        """For each text, the sentences that equal it by the options' `fold` and pass the filter."""

    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        """The stored codes, fp32 [N, `dimension`], of length one if the metric is cosine."""

    async def manifest(self) -> Manifest:
        """The index's newest manifest."""

    async def texts(self, ids: Sequence[int]) -> list[str]: ...

    async def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float] | None:
        """The cross-encoder's scores of pairs of a query and a sentence; None if there is no cross-encoder."""

    def checked(self, codes: Any, *, short: int | None = None) -> np.ndarray:
        """Query codes as fp32 [N, D], or [N, `short`]; raises `UserError` for codes that do not fit the model."""


async def search(asked: Asked, queries: Sequence[Query], options: Options) -> list[SearchResult]:
    """A result for each query, of which there must be at least one."""
    manifest = await asked.manifest()
    options = options.chosen(is_split=manifest.is_split)
    _check(asked.model, queries, options)
    codes, codes_ND, given = await codes_of(asked, queries, allow_unknown=options.mode == "sparse")
    by_id = [i for i, query in enumerate(queries) if query.id is not None]
    ids = [query.id for query in queries if query.id is not None]
    of_ids, decoded_ND, worded = None, codes_ND.copy(), [query.text for query in queries]
    if ids and (options.score or options.decode or options.rerank or options.mode != "dense"):
        for i, text in zip(by_id, await asked.texts(ids), strict=True):
            worded[i] = text
    if ids and (options.score or options.decode or options.rerank):
        # The index may hold codes scaled to length one, which decode to something else.
        of_ids = await asked.posterior([worded[i] or "" for i in by_id], stored=True)
        decoded_ND[by_id] = of_ids.mean.numpy()
    posterior = None
    if options.score or options.rerank:  # each query is one text: one that was given, or that of an id
        order = np.argsort([i for i, query in enumerate(queries) if query.id is None] + by_id)
        posterior = _rows([each for each in (given, of_ids) if each], order)
    # A sentence of the index finds itself: search for one more, and leave that one out.
    wide = options.wide(extra=1 if ids else 0)
    answer = await asked.nearest(codes_ND, wide, None if options.mode == "dense" else worded)
    near = [options.near(hits, query) for hits, query in zip(answer.hits, queries, strict=True)]
    if options.rerank and posterior is not None:
        near = await _reranked(asked, near, worded, posterior, options.rerank)
    marked = [query.text for query in queries] if options.mode == "dense" else worded
    found = [_marked(options.page(hits), text) for hits, text in zip(near, marked, strict=True)]
    if options.fold in ("text", "words"):
        counted = iter(await asked.equals([hit.text for hits in found for hit in hits], options))
        found = [[replace(hit, **vars(next(counted))) for hit in hits] for hits in found]
    if (options.reconstruct or options.score) and any(found):
        found = await _explained(asked, found, posterior if options.score else None, options)
    sentences: Sequence[str | None] = [None] * len(queries)
    if options.decode:
        literals = [_literal(asked.model, query, code, options) for query, code in zip(queries, codes, strict=True)]
        sentences = await decoded(asked, decoded_ND, literals)
    return [SearchResult(hits, text, answer.missing) for hits, text in zip(found, sentences, strict=True)]


def _check(model: SentenceModel, queries: Sequence[Query], options: Options) -> None:
    """Raise `UserError` if the options need other queries, or another model."""
    of_sentences = all(query.text is not None or query.id is not None for query in queries)
    for asked, what in (
        (options.score, "score is log q(z|query)"),
        (options.rerank, "rerank compares sentences"),
        (options.mode == "sparse", "mode sparse compares words"),
    ):
        if asked and not of_sentences:
            raise UserError(f"{what}, so queries must be sentences or ids, not codes, lines or sums")
    if options.score and model.deterministic:
        raise UserError("score is log q(z|query), but this model's variance was never trained; leave it out")


async def _reranked(
    asked: Asked, near: list[list[Hit]], texts: Sequence[str | None], posterior: DiagonalGaussian, num: int
) -> list[list[Hit]]:
    """Rerank the first hits of each query: by a cross-encoder, or by log q(z|query) of their codes."""
    first = [hits[:num] for hits in near]
    flat = [hit for hits in first for hit in hits]
    relevance = await asked.relevance(
        [(text or "", hit.text) for text, hits in zip(texts, first, strict=True) for hit in hits]
    )
    if relevance is not None:
        flat = [replace(hit, relevance=each) for hit, each in zip(flat, relevance, strict=True)]
    elif asked.model.deterministic:
        raise UserError("rerank uses log q(z|query), but this model's variance was never trained; give a reranker")
    elif flat:
        codes = (await asked.posterior([hit.text for hit in flat], stored=True)).mean
        flat = _scored(flat, codes, _repeated(posterior, first))
    rest = iter(flat)
    ordered = [sorted((next(rest) for _ in hits), key=lambda hit: -_worth(hit)) for hits in first]
    return [[*hits, *all_of[num:]] for hits, all_of in zip(ordered, near, strict=True)]


def _worth(hit: Hit) -> float:
    worth = hit.score if hit.relevance is None else hit.relevance
    assert worth is not None
    return worth


def _scored(hits: list[Hit], codes: torch.Tensor, posterior: DiagonalGaussian) -> list[Hit]:
    """The hits with log q(z|query) at their codes."""
    return [replace(hit, score=each) for hit, each in zip(hits, posterior.log_prob(codes).tolist(), strict=True)]


def _repeated(posterior: DiagonalGaussian, found: list[list[Hit]]) -> DiagonalGaussian:
    """The posterior of each hit's query."""
    return _rows([posterior], np.repeat(np.arange(len(found)), [len(hits) for hits in found]))


async def codes_of(
    asked: Asked, queries: Sequence[Query], *, allow_unknown: bool = False
) -> tuple[list[np.ndarray], np.ndarray, DiagonalGaussian | None]:
    """Each query's code as given and as searched, fp32 [N, D], and q(z|x) of all texts in the queries."""
    parts = [query.weights for query in queries]
    texts = [text for weights in parts for text, _ in weights]
    given = await asked.posterior(texts, allow_unknown=allow_unknown) if texts else None
    ids = [query.id for query in queries if query.id is not None]
    stored = iter(await asked.codes(ids) if ids else [])
    means = iter(given.mean.numpy() if given else [])
    as_given = [query.code for query in queries if query.code is not None]
    checked = iter(asked.checked(as_given, short=(await asked.manifest()).dimension) if as_given else [])
    codes = [
        _code(asked.model, query, weights, means, stored, checked)
        for query, weights in zip(queries, parts, strict=True)
    ]
    # If only the meaning part is given, the rest stays zero: the index does not compare it.
    codes_ND = np.zeros((len(codes), asked.model.latent_dim), np.float32)
    for row, code in zip(codes_ND, codes, strict=True):
        row[: len(code)] = code
    return codes, asked.checked(codes_ND), given


async def decoded(asked: Asked, codes_ND: np.ndarray, literals: Sequence[float], **options: Any) -> list[str]:
    """Decode each code at its `literal`, in one call per value; `options` are those of `decode`."""
    sentences = np.empty(len(codes_ND), object)
    for literal in dict.fromkeys(literals):
        rows = np.equal(literals, literal)
        sentences[rows] = await asked.decode(codes_ND[rows], literal=literal, **options)
    return sentences.tolist()


def _marked(hits: list[Hit], text: str | None) -> list[Hit]:
    """The hits with the words that each shares with the query."""
    if text is None:
        return hits
    words = list(dict.fromkeys(words_of(text)))
    held = [set(words_of(hit.text)) for hit in hits]
    # `replace` would take three times as long, and each search does this.
    return [Hit(**vars(hit) | {"words": [w for w in words if w in own]}) for hit, own in zip(hits, held, strict=True)]


def _code(
    model: SentenceModel, query: Query, weights: list[tuple[str, float]], means: Codes, stored: Codes, checked: Codes
) -> np.ndarray:
    """The code to search with: the combined means of the query's texts, a stored code, or the given code."""
    if weights:
        return model.combined([weight for _, weight in weights], [next(means) for _ in weights])
    return next(checked if query.id is None else stored)


def _literal(model: SentenceModel, query: Query, code: np.ndarray, options: Options) -> float:
    """How literally to decode a query's code. By default, a sentence's own code is decoded word for word."""
    if query.code is not None and len(code) < model.latent_dim:
        return 0.0
    if options.literal is not None:
        return options.literal
    if query.line is not None and query.line.at not in (0, 1):
        return model.use.literal.interpolate
    return 1.0 if query.sum is None else model.use.literal.arithmetic


async def _explained(
    asked: Asked, found: list[list[Hit]], posterior: DiagonalGaussian | None, options: Options
) -> list[list[Hit]]:
    """Add reconstructions and scores to hits. Codes come from the texts: the index may hold codes of length one."""
    hits = [hit for each in found for hit in each]
    codes = (await asked.posterior([hit.text for hit in hits], stored=True)).mean
    if options.reconstruct:
        literal = 1.0 if options.literal is None else options.literal
        sentences = await asked.decode(codes.numpy(), literal=literal)
        hits = [replace(hit, reconstruction=each) for hit, each in zip(hits, sentences, strict=True)]
    if posterior is not None:
        hits = _scored(hits, codes, _repeated(posterior, found))
    rest = iter(hits)
    return [[next(rest) for _ in each] for each in found]


def _rows(parts: Sequence[DiagonalGaussian], rows: np.ndarray) -> DiagonalGaussian:
    """Selected rows of several posteriors together."""
    mean, log_variance = (torch.cat([getattr(each, name) for each in parts]) for name in ("mean", "log_variance"))
    return DiagonalGaussian(mean[rows], log_variance[rows])
