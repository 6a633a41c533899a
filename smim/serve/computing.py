"""The model's and the index's work, in batches of the requests of many clients.

Shapes: N sentences or codes of a request, D latent dimensions.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from smim.errors import SmimError, UserError
from smim.generation import DECODED_LENGTH, SentenceModel
from smim.lock import BeingChanged
from smim.model import noise
from smim.model.decoding import decode_ids
from smim.model.distributions import DiagonalGaussian
from smim.search.errors import NoSuchSentence, Unreadable
from smim.search.filters import Where
from smim.serve.backend import Answer, Backend, Description
from smim.serve.batching import Batcher, Unavailable
from smim.serve.limits import Limits, as_codes

logger = logging.getLogger("smim.serve")
_SMALL = 8  # of the items of the largest request, a small one has at most so small a part


class NotFound(UserError):
    """There is no sentence of that id."""


class Conflict(UserError):
    """The index is being changed by another process."""


@dataclass(frozen=True)
class Encoding:
    texts: Sequence[str]
    allow_unknown: bool


@dataclass(frozen=True)
class Decoding:
    """Codes fp32 [N, D], checked."""

    codes: np.ndarray
    sample: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Answering:
    question: str
    num_words: int


@dataclass(frozen=True)
class Searching:
    """Codes fp32 [N, D]. `extra` hits more are searched for, where the queries' own sentences will be left out."""

    codes: np.ndarray
    k: int
    offset: int
    where: Where | None
    settings: Mapping[str, int]
    extra: int = 0


Reading = Callable[[], Awaitable[Any]]


def encode(model: SentenceModel, requests: list[Encoding]) -> list[DiagonalGaussian | Exception]:
    """The posterior of each request's texts, fp32 [N, D], from one call for all of them."""
    ids: list[list[list[int]] | UserError] = []
    for request in requests:
        try:
            ids.append(model.token_ids(request.texts, allow_unknown=request.allow_unknown))
        except UserError as error:
            ids.append(error)
    together = [sentence for each in ids if not isinstance(each, UserError) for sentence in each]
    if not together:
        return [each for each in ids if isinstance(each, UserError)]
    posterior = model.posterior_of_ids(together)
    results: list[DiagonalGaussian | Exception] = []
    start = 0
    for each in ids:
        if isinstance(each, UserError):
            results.append(each)
            continue
        part = slice(start, start + len(each))
        results.append(DiagonalGaussian(posterior.mean[part], posterior.log_variance[part]))
        start += len(each)
    return results


def decode(model: SentenceModel, requests: list[Decoding | Answering]) -> list[list[str] | Exception]:
    """Each request's sentences: greedy ones together, and draws together, with each request's own random numbers."""
    results: list[list[str] | Exception] = [[] for _ in requests]
    for sample in (False, True):
        places = [i for i, each in enumerate(requests) if isinstance(each, Decoding) and each.sample == sample]
        chosen = [each for each in requests if isinstance(each, Decoding) and each.sample == sample]
        if not chosen:
            continue
        codes = torch.from_numpy(np.concatenate([each.codes for each in chosen]))
        draws = [noise.uniform(each.seed, range(len(each.codes)), 0, DECODED_LENGTH) for each in chosen if sample]
        ids = decode_ids(model.autoencoder, codes, DECODED_LENGTH, uniform=torch.cat(draws) if sample else None)
        sentences = iter([model.tokenizer.decode(each) for each in ids])
        for place, each in zip(places, chosen, strict=True):
            results[place] = [next(sentences) for _ in each.codes]
    for i, request in enumerate(requests):
        if isinstance(request, Answering):
            try:
                results[i] = [model.answer(request.question, num_words=request.num_words)]
            except UserError as error:
                results[i] = error
    return results


async def search(backend: Backend, requests: list[Searching | Reading], *, max_hits: int) -> list[Any]:
    """Each request's `Answer`, those of equal options from one search; or what a reading function gives."""
    results: list[Any] = [None] * len(requests)
    groups: dict[str, list[int]] = {}
    for i, request in enumerate(requests):
        if not isinstance(request, Searching):
            results[i] = await _result(request())
        else:
            options = [_wanted(request), request.where, dict(request.settings)]
            groups.setdefault(json.dumps(options, sort_keys=True), []).append(i)
    for places in groups.values():
        wanted = _wanted(requests[places[0]])  # type: ignore[arg-type]
        for part in _parts(requests, places, max_hits // wanted):
            found = await _result(_search_together(backend, [requests[i] for i in part], wanted))  # type: ignore[misc]
            if isinstance(found, UserError) and len(part) > 1:
                found = [await _result(_search_together(backend, [requests[i]], wanted)) for i in part]  # type: ignore[list-item]
                found = [each if isinstance(each, Exception) else each[0] for each in found]
            for place, each in zip(part, [found] * len(part) if isinstance(found, Exception) else found, strict=True):
                results[place] = each
    return results


async def _result(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:
        return error


async def _search_together(backend: Backend, requests: list[Searching], wanted: int) -> list[Answer]:
    first = requests[0]
    codes = np.concatenate([each.codes for each in requests])
    answer = await backend.search(codes, wanted, first.where, first.settings)
    hits = iter(answer.hits)
    return [Answer([next(hits) for _ in each.codes], answer.missing) for each in requests]


def _wanted(request: Searching) -> int:
    return request.k + request.offset + request.extra


def _parts(requests: list[Any], places: list[int], most: int) -> list[list[int]]:
    """The places in parts of `most` codes, or of one request of more: hits of one search are held in memory."""
    parts: list[list[int]] = []
    size = most
    for i in places:
        size += len(requests[i].codes)
        if size > most:
            parts.append([])
            size = len(requests[i].codes)
        parts[-1].append(i)
    return parts


class _Thread:
    """Calls of one function, each in the same thread."""

    def __init__(self, name: str, function: Callable[[list[Any]], Any]) -> None:
        self._executor = ThreadPoolExecutor(1, name)
        self._function = function

    async def __call__(self, requests: list[Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._function, requests)

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown)


class Computing:
    """A model and an index behind four queues: encoding, decoding, searching (and reading), changing."""

    def __init__(self, model: SentenceModel, backend: Backend, limits: Limits) -> None:
        self.model, self.backend, self.limits = model, backend, limits
        self._threads = [_Thread("encode", partial(encode, model)), _Thread("decode", partial(decode, model))]
        search_all = partial(search, backend, max_hits=limits.max_hits)
        small = limits.max_batch // _SMALL
        sizes = {"small": small, "max_items": limits.max_batch, "queue_size": limits.queue_size}
        self._encoding: Batcher[Encoding, DiagonalGaussian] = Batcher("encode", self._threads[0], **sizes)
        self._decoding: Batcher[Decoding | Answering, list[str]] = Batcher("decode", self._threads[1], **sizes)
        self._searching: Batcher[Searching | Reading, Any] = Batcher("search", search_all, **sizes)
        # One at a time: nobody waits for another's change after their own is done.
        self._changing: Batcher[Reading, Any] = Batcher("change", search_all, **sizes | {"max_items": 1})

    @property
    def batchers(self) -> list[Batcher[Any, Any]]:
        return [self._encoding, self._decoding, self._searching, self._changing]

    async def posterior(
        self, texts: Sequence[str], *, allow_unknown: bool = False, stored: bool = False
    ) -> DiagonalGaussian:
        """q(z|x) of texts that a client gave, or that the index holds (`stored`), which have no limits."""
        if not stored:
            self.limits.check_texts(texts)
        return await self._encoding.submit(Encoding(texts, allow_unknown or stored), len(texts))

    async def decode(self, codes: np.ndarray, *, sample: bool = False, seed: int = 0) -> list[str]:
        codes = as_codes(codes, self.model.latent_dim)
        return await self._decoding.submit(Decoding(codes, sample, seed), len(codes))

    async def answer(self, question: str, num_words: int) -> str:
        self.limits.check_texts([question])
        return (await self._decoding.submit(Answering(question, num_words)))[0]

    async def search(self, request: Searching) -> Answer:
        return await self._told(self._searching.submit(request, len(request.codes)))

    async def read(self, request: Reading, size: int = 1) -> Any:
        return await self._told(self._searching.submit(request, size))

    async def change(self, request: Reading, size: int = 1) -> Any:
        return await self._told(self._changing.submit(request, size))

    async def describe(self) -> Description:
        """What is searched; waits for nobody's work."""
        return await self._told(self.backend.describe())

    async def close(self) -> None:
        """Returns when what was accepted is done."""
        parts: list[Any] = [*self.batchers, *self._threads, self.backend]
        for part in parts:
            await part.close()

    async def _told(self, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except UserError as error:
            raise _for_clients(error) from None


def _for_clients(error: UserError) -> SmimError:
    """The error of the kind that it is, without the place of the index on this machine."""
    message = str(error)
    if isinstance(error, Unreadable):
        logger.error("index", extra={"known": {"message": message}})
        return Unavailable("the index cannot be read; the log of the service says why")
    if isinstance(error, BeingChanged):
        return Conflict("the index is being changed by another process; wait until it is done")
    told = re.search(r" ((?:holds (?:no|a) sentence of id|has no column).*)", message)
    if told is None:
        return error
    kind = NotFound if isinstance(error, NoSuchSentence) else UserError
    return kind(f"the index {told[1]}")
