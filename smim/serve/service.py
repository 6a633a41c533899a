"""The operations of a search service, independent of HTTP: search, decode and change, for many callers at a time.

    service = Service(backend.model, backend, Limits())
    [result] = await service.search([Query(text="the company said profit rose")], Options(k=3))

Results equal those of `smim.search.Index` and `smim.SentenceModel` up to rounding, whatever other requests run.
Shapes: N sentences or codes, D latent dimensions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model import noise
from smim.search import searching
from smim.search.filters import Where, parse
from smim.search.index import comparable
from smim.search.query import Description, Hit, Options, Query, SearchResult, Sum
from smim.search.rerank import Reranker
from smim.search.writer import Put
from smim.serve.backend import Backend
from smim.serve.batching import Unavailable
from smim.serve.computing import Computing
from smim.serve.limits import LARGEST_NUMBER, LARGEST_SEED, Limits, check_within
from smim.serve.maps import Maps, Viewed
from smim.serve.overview import Overviews
from smim.serve.schemas import Overview

_DEFAULTS = Options()
P = ParamSpec("P")
R = TypeVar("R")


def _operation(
    method: Callable[Concatenate["Service", P], Awaitable[R]],
) -> Callable[Concatenate["Service", P], Coroutine[Any, Any, R]]:
    """Mark an operation: `close` waits for it, and it fails afterwards."""

    @wraps(method)
    async def counted(self: "Service", *args: P.args, **kwargs: P.kwargs) -> R:
        if self._closing:
            raise Unavailable("the service is shutting down")
        self._running += 1
        try:
            return await method(self, *args, **kwargs)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    return counted


class Service:
    """The operations of a service, for many concurrent callers in one event loop.

    All raise `UserError` for the caller's mistakes, `BeingChanged` if another writer is active, `Busy` if too much
    waits, and `Unavailable` after `close`. Clients see these as `smim.serve.errors.for_clients` shows them.
    """

    def __init__(
        self,
        model: SentenceModel,
        backend: Backend,
        limits: Limits | None = None,
        *,
        reranker: Reranker | None = None,
    ) -> None:
        self.model, self.backend, self.limits = model, backend, limits or Limits()
        self._computing = Computing(model, backend, self.limits, reranker)
        self.batchers = self._computing.batchers  # for metrics: the queues of the model and the index
        self._overviews, self._maps = Overviews(backend), Maps(backend.directory)
        self._running, self._closing, self._idle = 0, False, asyncio.Event()
        model.decode(model.encode(["a"]))  # the first use imports for seconds: no request should wait for that

    @_operation
    async def search(self, queries: Sequence[Query], options: Options = _DEFAULTS) -> list[SearchResult]:
        """Find the nearest sentences of each query, as `Index.search` does."""
        self.limits.check_search(queries, options)
        return await searching.search(self._computing, queries, options)

    @_operation
    async def encode(
        self, texts: Sequence[str | None], too_long: str = "truncate", empty: str = "error"
    ) -> tuple[list[np.ndarray | None], list[np.ndarray | None], list[int]]:
        """Encode texts: mean and log variance of q(z|x), fp32 [D] each, and the positions of cut texts, from 0.

        `too_long`: `truncate` cuts a text at the model's limit, `skip` returns null for it, `error` refuses it.
        `empty`: `skip` returns null for a text without a word, `error` refuses it.
        """
        fitted, posterior = await self._computing.posterior_as_far_as_they_fit(texts, too_long=too_long, empty=empty)
        means: list[np.ndarray | None] = [None] * len(texts)
        log_variances = means.copy()
        for row, mean, log_variance in zip(fitted.rows, posterior.mean, posterior.log_variance, strict=True):
            means[row], log_variances[row] = mean.numpy(), log_variance.numpy()
        return means, log_variances, fitted.truncated

    @_operation
    async def decode(
        self,
        codes: Sequence[Sequence[float]],
        sample: bool = False,
        seed: int = 0,
        literal: float = 1.0,
        candidates: int | None = None,
        allow_unknown: bool = False,
        beam: int = 1,
    ) -> list[str]:
        """Decode each code [N, D] to a sentence, as `SentenceModel.decode` does."""
        check_within("seed", seed, 0, LARGEST_SEED)
        self.limits.check_count("codes", codes)
        how: dict[str, Any] = {"literal": literal, "candidates": candidates, "beam": beam, "sample": sample}
        return await self._computing.decode(
            self._computing.checked(codes), **how, seed=seed, allow_unknown=allow_unknown
        )

    @_operation
    async def reconstruct(
        self,
        texts: Sequence[str],
        sample: bool = False,
        seed: int = 0,
        literal: float = 1.0,
        candidates: int | None = None,
        allow_unknown: bool = False,
        beam: int = 1,
    ) -> list[str]:
        """Encode and decode each text, as `SentenceModel.reconstruct` does."""
        check_within("seed", seed, 0, LARGEST_SEED)
        posterior = await self._computing.posterior(texts)
        z = posterior.mean
        if sample:
            z = self.model.draw(posterior, noise.normal(seed, range(len(texts)), 0, self.model.latent_dim))
        how: dict[str, Any] = {"literal": literal, "candidates": candidates, "beam": beam, "sample": sample}
        return await self._computing.decode(z.numpy(), **how, seed=seed, allow_unknown=allow_unknown)

    @_operation
    async def interpolate(
        self,
        first: str,
        second: str,
        steps: int = 5,
        seed: int = 0,
        literal: float | None = None,
        allow_unknown: bool = False,
    ) -> list[str]:
        """Decode `steps` codes from one sentence to another, as `SentenceModel.interpolate` does."""
        check_within("steps", steps, 2, self.limits.max_num)
        check_within("seed", seed, 0, LARGEST_SEED)
        literal = self.model.use.literal.interpolate if literal is None else literal
        ends = (await self._computing.posterior([first, second])).mean.numpy()
        codes = self.model.line(*ends, steps=steps)
        literals = [1.0, *[literal] * (steps - 2), 1.0]
        return await searching.decoded(self._computing, codes, literals, seed=seed, allow_unknown=allow_unknown)

    @_operation
    async def perturb(
        self,
        text: str,
        num: int = 5,
        scale: float | None = None,
        seed: int = 0,
        literal: float | None = None,
        allow_unknown: bool = False,
    ) -> list[str]:
        """Decode codes near a text's code, as `SentenceModel.perturb` does."""
        scale = self.model.use.perturb_scale if scale is None else scale
        literal = self.model.use.literal.perturb if literal is None else literal
        check_within("num", num, 1, self.limits.max_num)
        check_within("seed", seed, 0, LARGEST_SEED)
        check_within("scale", scale, 0, LARGEST_NUMBER)
        posterior = await self._computing.posterior([text])
        draws = noise.normal(seed, range(num), 0, self.model.latent_dim)
        codes = (posterior.mean + scale * posterior.standard_deviation * draws).numpy()
        how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
        return await self._computing.decode(codes, distinct=True, **how)

    @_operation
    async def arithmetic(
        self,
        plus: Sequence[str],
        minus: Sequence[str] = (),
        seed: int = 0,
        literal: float | None = None,
        allow_unknown: bool = False,
    ) -> tuple[np.ndarray, str]:
        """Add the codes of `plus`, subtract those of `minus`: the result, fp32 [D], and its decoded sentence."""
        check_within("seed", seed, 0, LARGEST_SEED)
        literal = self.model.use.literal.arithmetic if literal is None else literal
        weights = Query(sum=Sum(plus, minus)).weights
        means = (await self._computing.posterior([text for text, _ in weights])).mean.numpy()
        code = self.model.combined([weight for _, weight in weights], means)
        how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
        return code, (await self._computing.decode(code[None], **how))[0]

    @_operation
    async def sample(
        self,
        num: int = 5,
        standard_deviation: float | None = None,
        seed: int = 0,
        prior: bool = False,
        literal: float | None = None,
        allow_unknown: bool = False,
    ) -> list[str]:
        """Draw sentences from N(0, standard_deviation^2 I) or the `prior`, as in `SentenceModel.sample`."""
        use = self.model.use
        check_within("num", num, 1, self.limits.max_num)
        check_within("seed", seed, 0, LARGEST_SEED)
        spread = use.sample.spread(standard_deviation, prior=prior)
        check_within("standard_deviation", spread or 0, 0, LARGEST_NUMBER)
        literal = use.literal.sample if literal is None else literal
        how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
        if use.sample.chain_steps:
            codes: dict[str, Any] = {"standard_deviation": standard_deviation, "prior": prior}
            return await self._computing.write(lambda: self.model.sample(num, **codes, **how), num)
        z = self.model.draw_codes(num, spread, seed=seed)
        return await self._computing.decode(z.numpy(), sample=True, distinct=True, **how)

    @_operation
    async def answer(self, question: str, num_words: int = 10) -> str:
        """Answer a question, as `SentenceModel.answer` does."""
        check_within("num_words", num_words, 1, self.limits.max_num)
        self.limits.check_texts([question])
        return (await self._computing.write(lambda: [self.model.answer(question, num_words=num_words)]))[0]

    @_operation
    async def get(self, ids: Sequence[int]) -> list[Hit]:
        """Return the sentences of the given ids; raises `NoSuchSentence` that names missing ids."""
        self.limits.check_ids(ids)
        return await self._computing.read(lambda: self.backend.get(ids), len(ids))

    @_operation
    async def count(self, where: Where | None = None) -> int:
        """Return the number of texts, or of those that pass a filter."""
        parse(where or {})
        return await self._computing.read(lambda: self.backend.count(where))

    @_operation
    async def add(
        self,
        texts: Sequence[str | None],
        ids: Sequence[int] | None = None,
        labels: Mapping[str, Sequence[Any]] | None = None,
        too_long: str = "truncate",
        empty: str = "error",
    ) -> Put:
        """Add texts as `IndexWriter.add` does; returns ids, and the positions of texts cut and left out, from 0.

        `too_long`: `truncate` cuts a text at the model's limit, `skip` leaves it out, `error` refuses all. `empty`:
        `skip` leaves out texts without a word, `error` refuses all.
        """
        return await self._put(texts, ids, labels or {}, replace=False, too_long=too_long, empty=empty)

    @_operation
    async def upsert(
        self,
        texts: Sequence[str | None],
        ids: Sequence[int],
        labels: Mapping[str, Sequence[Any]] | None = None,
        too_long: str = "truncate",
        empty: str = "error",
    ) -> Put:
        """Add texts and replace those with the same ids, as `IndexWriter.upsert` does; otherwise as `add`."""
        return await self._put(texts, ids, labels or {}, replace=True, too_long=too_long, empty=empty)

    @_operation
    async def delete(self, ids: Sequence[int] | None = None, where: Where | None = None) -> int:
        """Delete the texts of the given ids, or those that pass a filter, and return their number."""
        if (ids is None) == (not where):
            raise UserError("give either the ids of the sentences to delete, or a filter")
        parse(where or {})
        if ids is not None:
            self.limits.check_ids(ids)
        return await self._computing.change(lambda: self.backend.delete(ids, where))

    @_operation
    async def describe(self) -> Description:
        """Describe the index as it is now."""
        return await self.backend.describe()

    @_operation
    async def overview(self) -> Overview:
        """Return the index, the model's abilities, the labels, and sentences to try."""
        return await self._overviews.overview()

    @_operation
    async def map(self) -> Viewed:
        """Return at most 20,000 sentences, spread over the index, as points in the plane, similar ones close together.

        If there is no good layout yet, this returns a simple one at once; a better one takes some minutes.
        """
        return await self._maps.view(await asyncio.to_thread(self._overviews.snapshot))

    @_operation
    async def place(self, queries: Sequence[Query]) -> np.ndarray:
        """Return the place of each query's code on the map, [N, 2], near the sentences that are nearest to it."""
        self.limits.check_search(queries, _DEFAULTS)
        _, codes_ND, _ = await searching.codes_of(self._computing, queries, allow_unknown=True)
        about = await self.backend.manifest()
        codes_ND = comparable(codes_ND, about.metric, about.dimension)
        return await self._maps.place(await asyncio.to_thread(self._overviews.snapshot), codes_ND)

    async def close(self) -> None:
        """Refuse new operations and wait until the accepted ones are done."""
        self._closing = True
        while self._running:
            self._idle.clear()
            await self._idle.wait()
        await self._maps.close()
        await self._computing.close()

    async def _put(
        self,
        texts: Sequence[str | None],
        ids: Sequence[int] | None,
        labels: Mapping[str, Sequence[Any]],
        *,
        replace: bool,
        **policies: str,
    ) -> Put:
        self.limits.check_texts(texts)
        if ids is not None:
            self.limits.check_ids(ids)
        return await self._computing.change(
            lambda: self.backend.add(texts, ids, labels, replace=replace, **policies), len(texts)
        )
