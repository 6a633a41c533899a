"""The work of the model and the index, in batches of requests from many clients.

Shapes: N sentences or codes of a request, D latent dimensions.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from smim.arrays import as_matrix
from smim.errors import UserError
from smim.generation import DECODED_LENGTH, SentenceModel
from smim.model import noise
from smim.model.autoencoder import WordTable
from smim.model.distributions import DiagonalGaussian
from smim.model.use import Writing
from smim.search.folding import Equals
from smim.search.manifest import Manifest
from smim.search.query import Options, Texts
from smim.search.rerank import Reranker, scores_of
from smim.search.searching import Answer
from smim.serve.backend import Backend
from smim.serve.batching import Batcher
from smim.serve.limits import LARGEST_NUMBER, Limits
from smim.text.fitting import Fitted
from smim.text.tokenizer import UNK_ID

T = TypeVar("T")
_TABLE_BYTES = 2**26  # a lookup table of all words; that of `english-small` has 51 MB
_SMALL = 8  # a small request has at most 1/8 of the items of the largest one


@dataclass(frozen=True)
class Decoding:
    """A request to decode checked codes, fp32 [N, D]."""

    codes: np.ndarray
    how: Writing
    seed: int


@dataclass(frozen=True)
class Searching:
    """A search: codes fp32 [N, D], the options `k`, `where`, `settings` and `mode`, and texts for their words."""

    codes: np.ndarray
    options: Options
    texts: Texts = None


# Requests other than searches and decoding, which wait in the same queues.
Reading = Callable[[], Awaitable[Any]]
Answering = Callable[[], list[Any]]
# Gives the token ids of texts.
Encoding = Callable[[], list[list[int]]]


def as_codes(codes: Any, dimension: int, *, short: int | None = None) -> np.ndarray:
    """Codes as fp32 [N, dimension], or [N, short].

    Raises `UserError` for another shape, NaN and numbers beyond `LARGEST_NUMBER`.
    """
    return as_matrix(codes, dimension, "codes", short=short, largest=LARGEST_NUMBER)


def table_of_all_words(model: SentenceModel) -> WordTable | None:
    """The encoder's lookup table for the whole vocabulary if it has one and it is small, else None."""
    autoencoder, num_words = model.autoencoder, model.autoencoder.input_size
    one = autoencoder.word_table(torch.tensor([UNK_ID]), longest=1)  # columns of three words, or of one position
    if one is None:
        return None
    rows = {1: autoencoder.args.max_length, 3: num_words}
    if sum(column.nbytes // len(column) * rows[len(column)] for column in one.columns) > _TABLE_BYTES:
        return None
    return autoencoder.word_table(torch.arange(num_words))


def encode(
    word_table: WordTable | None, model: SentenceModel, requests: list[Encoding]
) -> list[DiagonalGaussian | Exception]:
    """The posterior of each request's texts, fp32 [N, D], from one call for all of them."""
    ids = [_or_error(each) for each in requests]
    known = [each for each in ids if not isinstance(each, UserError)]
    posterior = model.posterior_of_ids([sentence for each in known for sentence in each], word_table=word_table)
    sizes = [len(each) for each in known]
    parts = map(DiagonalGaussian, posterior.mean.split(sizes), posterior.log_variance.split(sizes))
    return [each if isinstance(each, UserError) else next(parts) for each in ids]


def decode(model: SentenceModel, requests: list[Decoding | Answering]) -> list[list[str] | UserError]:
    """Each request's sentences. Requests with equal settings are decoded together, each with its own random numbers."""
    alike: dict[Writing, list[Decoding]] = {}
    for each in requests:
        if isinstance(each, Decoding):
            alike.setdefault(each.how, []).append(each)
    sentences = {how: map(model.tokenizer.decode, _written(model, how, group)) for how, group in alike.items()}
    return [
        [next(sentences[each.how]) for _ in each.codes] if isinstance(each, Decoding) else _or_error(each)
        for each in requests
    ]


def _written(model: SentenceModel, how: Writing, group: list[Decoding]) -> list[list[int]]:
    """The token ids of the sentences of all codes."""

    def uniform(draw: int) -> Tensor:
        return torch.cat([noise.uniform(each.seed, range(len(each.codes)), draw, DECODED_LENGTH) for each in group])

    codes = torch.from_numpy(np.concatenate([each.codes for each in group]))
    return model.ids_of_codes(codes, how, uniform, calls=[len(each.codes) for each in group])


def _or_error(work: Callable[[], T]) -> T | UserError:
    try:
        return work()
    except UserError as error:
        return error


async def search(backend: Backend, requests: list[Searching | Reading], *, max_hits: int) -> list[Any]:
    """Each request's `Answer`; one search serves requests with equal options. Other requests give their own."""
    results: list[Any] = [None] * len(requests)
    groups: dict[str, list[tuple[int, Searching]]] = {}
    for i, request in enumerate(requests):
        if isinstance(request, Searching):
            groups.setdefault(json.dumps(vars(request.options), sort_keys=True), []).append((i, request))
        else:
            results[i] = await _result(request())
    for group in groups.values():
        found = await _together(backend, [request for _, request in group], max_hits)
        for (i, _), result in zip(group, found, strict=True):
            results[i] = result
    return results


async def _together(backend: Backend, requests: list[Searching], max_hits: int) -> list[Answer | Exception]:
    """The answers to requests with equal options, from one search of at most `max_hits` hits, to limit memory.

    If the search raises an error, each request is searched alone, so that each has its own answer.
    """
    options, half = requests[0].options, len(requests) // 2
    codes = np.concatenate([each.codes for each in requests])
    texts = None if options.mode == "dense" else [text for each in requests for text in each.texts or ()]
    split = half and len(codes) * options.k > max_hits
    found: Any = None if split else await _result(backend.search(codes, options, texts))
    if split or (half and isinstance(found, UserError)):
        parts = [await _together(backend, part, max_hits) for part in (requests[:half], requests[half:])]
        return parts[0] + parts[1]
    if isinstance(found, Exception):
        return [found] * len(requests)
    hits = iter(found.hits)
    return [Answer([next(hits) for _ in each.codes], found.missing) for each in requests]


async def _result(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:
        return error


class Computing:
    """A model and an index behind four queues: encode, decode, search (and read), change.

    It does the computations for `smim.search.searching`, for the searches of many clients.
    """

    def __init__(
        self, model: SentenceModel, backend: Backend, limits: Limits, reranker: Reranker | None = None
    ) -> None:
        self.model, self.backend, self.limits, self.reranker = model, backend, limits, reranker
        self._threads: list[ThreadPoolExecutor] = []
        search_all = partial(search, backend, max_hits=limits.max_hits)
        small = limits.max_batch // _SMALL
        sizes = {"small": small, "max_items": limits.max_batch, "queue_size": limits.queue_size}
        self._encoding: Batcher[Encoding, DiagonalGaussian] = Batcher(
            "encode", self._in_thread("encode", partial(encode, table_of_all_words(model))), **sizes
        )
        self._decoding: Batcher[Decoding | Answering, list[Any]] = Batcher(
            "decode", self._in_thread("decode", decode), **sizes
        )
        self._searching: Batcher[Searching | Reading, Any] = Batcher("search", search_all, **sizes)
        # One change per batch, so that no client waits for a later change.
        self._changing: Batcher[Reading, Any] = Batcher("change", search_all, **sizes | {"max_items": 1})
        self.batchers: list[Batcher[Any, Any]] = [self._encoding, self._decoding, self._searching, self._changing]

    async def posterior(
        self, texts: Sequence[str], *, allow_unknown: bool = False, stored: bool = False
    ) -> DiagonalGaussian:
        """q(z|x) of a client's texts, or of texts from the index (`stored`), which have no limits."""
        if not stored:
            self.limits.check_texts(texts)
            return await self._encoding.submit(
                partial(self.model.token_ids, texts, allow_unknown=allow_unknown), len(texts)
            )

        def ids() -> list[list[int]]:
            return self.model.fitted(texts, tell=False).ids

        return await self._encoding.submit(ids, len(texts))

    async def posterior_as_far_as_they_fit(
        self, texts: Sequence[str | None], *, too_long: str, empty: str
    ) -> tuple[Fitted, DiagonalGaussian]:
        """q(z|x) of a client's texts that remain after the policies of `smim.text.fitting`."""
        self.limits.check_texts(texts)
        found: list[Fitted] = []

        def ids() -> list[list[int]]:
            found.append(self.model.fitted(texts, too_long=too_long, empty=empty, tell=False))
            return found[-1].ids

        posterior = await self._encoding.submit(ids, len(texts))
        return found[-1], posterior

    async def decode(
        self,
        codes: np.ndarray,
        *,
        literal: float = 1.0,
        candidates: int | None = None,
        sample: bool = False,
        seed: int = 0,
        allow_unknown: bool = False,
        distinct: bool = False,
        beam: int = 1,
    ) -> list[str]:
        options: dict[str, Any] = {"sample": sample, "allow_unknown": allow_unknown, "distinct": distinct, "beam": beam}
        how = self.model.writing(literal, candidates, **options)
        codes = self.checked(codes)
        self.limits.check_drawn(len(codes), how.sentences)
        return await self._decoding.submit(Decoding(codes, how, seed), len(codes) * how.sentences)

    async def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float] | None:
        if self.reranker is None:
            return None
        return await self._decoding.submit(partial(scores_of, self.reranker, pairs), len(pairs) or 1)

    async def write(self, work: Answering, size: int = 1) -> list[str]:
        """Run other decoding work of the model in the decoding queue."""
        return await self._decoding.submit(work, size)

    async def nearest(self, codes: np.ndarray, options: Options, texts: Texts = None) -> Answer:
        return await self._searching.submit(Searching(codes, options, texts), len(codes))

    async def equals(self, texts: Sequence[str], options: Options) -> list[Equals]:
        # A search may find more sentences than the queue holds.
        return await self.read(lambda: self.backend.equals(texts, options), min(len(texts), self.limits.max_batch))

    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        self.limits.check_ids(ids)
        return await self.read(lambda: self.backend.codes(ids), len(ids))

    async def texts(self, ids: Sequence[int]) -> list[str]:
        return [hit.text for hit in await self.read(lambda: self.backend.get(ids), len(ids))]

    async def manifest(self) -> Manifest:
        return await self.backend.manifest()

    def checked(self, codes: Any, *, short: int | None = None) -> np.ndarray:
        return as_codes(codes, self.model.latent_dim, short=short)

    async def read(self, request: Reading, size: int = 1) -> Any:
        return await self._searching.submit(request, size)

    async def change(self, request: Reading, size: int = 1) -> Any:
        return await self._changing.submit(request, size)

    async def close(self) -> None:
        """Wait until all accepted work is done, and close."""
        for batcher in self.batchers:
            await batcher.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.shutdown)
        await self.backend.close()

    def _in_thread(
        self, name: str, function: Callable[[SentenceModel, list[Any]], Any]
    ) -> Callable[[list[Any]], Awaitable[Any]]:
        """Run a function with the model, always in the same thread."""
        self._threads.append(thread := ThreadPoolExecutor(1, name))

        async def called(requests: list[Any]) -> Any:
            return await asyncio.get_running_loop().run_in_executor(thread, function, self.model, requests)

        return called
