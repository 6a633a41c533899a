"""Batching of requests from many clients: everything that waits when the worker is free forms the next batch."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from smim.errors import SmimError

Request = TypeVar("Request")
Result = TypeVar("Result")
_LONGEST_RETRY = 60


class Busy(SmimError):
    """The queue is full; it should have room again after `retry_after` seconds."""

    code = "busy"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class Unavailable(SmimError):
    """The service accepts no more work: it is shutting down."""


@dataclass(eq=False)
class _Waiting(Generic[Request, Result]):
    request: Request
    size: int
    result: asyncio.Future[Result]


class Batcher(Generic[Request, Result]):
    """Two bounded queues for one worker: small requests, of up to `small` items, and large ones.

    Each queue holds `queue_size` items, and they take turns. However many large requests wait, a small one finds room
    and waits for only one of their batches, and vice versa.

    `compute` receives the requests of a batch and returns a result or an exception for each. An exception that it
    raises fails the whole batch. A batch has up to `max_items` items (texts, codes), or is one larger request. There is
    no delay: under low load a batch is one request. `observe` receives the size of each batch.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[list[Request]], Awaitable[Sequence[Result | Exception]]],
        *,
        small: int,
        max_items: int,
        queue_size: int,
    ) -> None:
        self.name, self.small, self.max_items, self.queue_size = name, small, max_items, queue_size
        self.observe: Callable[[int], None] = lambda size: None
        self._compute = compute
        self._small: deque[_Waiting[Request, Result]] = deque()
        self._large: deque[_Waiting[Request, Result]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._seconds_per_item = 0.0

    @property
    def waiting(self) -> int:
        """The number of waiting items, without those in computation."""
        return _items(self._small) + _items(self._large)

    async def submit(self, request: Request, size: int = 1) -> Result:
        """Submit a request of `size` items, and wait for its result. Cancelling the caller removes the request.

        Raises `Busy` if the queue has no room, `Unavailable` after `close`, and the request's own exception.
        """
        if self._closed:
            raise Unavailable("the service is shutting down")
        queue = self._small if size <= self.small else self._large
        if _items(queue) + size > self.queue_size:
            seconds = math.ceil(self.waiting * self._seconds_per_item)
            raise Busy(min(max(1, seconds), _LONGEST_RETRY))
        entry: _Waiting[Request, Result] = _Waiting(request, size, asyncio.get_running_loop().create_future())
        queue.append(entry)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name=f"batches of {self.name}")
        try:
            return await entry.result
        except asyncio.CancelledError:
            if entry in queue:
                queue.remove(entry)
            raise

    async def close(self) -> None:
        """Refuse new work, and wait until the accepted work is done."""
        self._closed = True
        if self._worker is not None:
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        """Compute batches until nothing waits; the next request starts this again."""
        now, then = self._small, self._large
        while now or then:
            if not now:
                now, then = then, now
            batch = [now.popleft()]
            size = batch[0].size
            while now and size + now[0].size <= self.max_items:
                batch.append(now.popleft())
                size += batch[-1].size
            now, then = then, now
            started = time.monotonic()
            results: Sequence[Result | Exception]
            try:
                results = await self._compute([each.request for each in batch])
            except Exception as error:
                results = [error] * len(batch)
            latest = (time.monotonic() - started) / max(1, size)
            self._seconds_per_item += 0.2 * (latest - self._seconds_per_item)
            self.observe(size)
            for each, result in zip(batch, results, strict=True):
                if each.result.done():  # cancelled meanwhile
                    continue
                if isinstance(result, Exception):
                    each.result.set_exception(result)
                else:
                    each.result.set_result(result)


def _items(queue: Iterable[_Waiting[Any, Any]]) -> int:
    return sum(each.size for each in queue)
