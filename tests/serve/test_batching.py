"""Requests that wait are computed together, and none is another's trouble."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from smim.serve.batching import Batcher, Busy, Unavailable


class Doubling:
    """Doubles numbers once it is let, and remembers its batches; a negative one is its own mistake."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.let = asyncio.Event()

    async def __call__(self, requests: list[int]) -> list[int | Exception]:
        self.batches.append(requests)
        await self.let.wait()
        await asyncio.sleep(0)  # as a thread's work, it lets others run
        if 99 in requests:
            raise RuntimeError("all of it")
        return [2 * each if each >= 0 else ValueError(str(each)) for each in requests]


def with_batcher(test: Callable[[Batcher[int, int], Doubling], Coroutine[Any, Any, None]], **sizes: int) -> None:
    async def run() -> None:
        compute = Doubling()
        await test(Batcher("test", compute, **{"small": 0, "max_items": 4, "queue_size": 10} | sizes), compute)

    asyncio.run(asyncio.wait_for(run(), 20))  # what should have been refused waits for ever


async def started(batcher: Batcher[int, int], *requests: int, size: int = 1) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.submit(each, size)) for each in requests]
    await asyncio.sleep(0.01)
    return tasks


def test_what_waits_is_the_next_batch() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        tasks = await started(batcher, 0)
        tasks += await started(batcher, 1, 2, 3, 4, 5)
        assert batcher.waiting == 5
        compute.let.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
        assert compute.batches == [[0], [1, 2, 3, 4], [5]] and batcher.waiting == 0

    with_batcher(test)


def test_items_are_counted_not_requests() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        sizes: list[int] = []
        batcher.observe = sizes.append
        tasks = await started(batcher, 0, size=9)  # more than a batch has, alone
        tasks += await started(batcher, 1, 2, 3, size=2)
        compute.let.set()
        await asyncio.gather(*tasks)
        assert compute.batches == [[0], [1, 2], [3]] and sizes == [9, 4, 2]

    with_batcher(test)


def test_a_mistake_fails_its_own_request_only() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        compute.let.set()
        results = await asyncio.gather(*(batcher.submit(each) for each in (1, -1, 3)), return_exceptions=True)
        assert compute.batches == [[1, -1, 3]]
        assert results[0] == 2 and isinstance(results[1], ValueError) and results[2] == 6

    with_batcher(test)


def test_a_fault_fails_its_batch_and_the_next_is_computed() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        compute.let.set()
        results = await asyncio.gather(*(batcher.submit(each) for each in (1, 99, 3, 4, 5)), return_exceptions=True)
        assert [isinstance(each, RuntimeError) for each in results] == [True] * 4 + [False]
        assert await batcher.submit(7) == 14

    with_batcher(test)


def test_a_full_queue_refuses() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        tasks = await started(batcher, 0)
        tasks += await started(batcher, 1, 2, size=5)
        with pytest.raises(Busy) as refused:
            await batcher.submit(3)
        assert refused.value.retry_after >= 1
        compute.let.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4]
        assert await batcher.submit(3) == 6

    with_batcher(test)


def test_the_time_to_retry_follows_what_waits_and_how_long_it_takes() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        batcher._seconds_per_item = 1.5
        tasks = await started(batcher, 0)
        tasks += await started(batcher, 1, 2, size=5)
        with pytest.raises(Busy, match="in 15 s"):
            await batcher.submit(3)
        compute.let.set()
        await asyncio.gather(*tasks)

    with_batcher(test)


def test_the_time_to_retry_is_measured_and_a_minute_at_most() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        first = await started(batcher, 0)
        await asyncio.sleep(0.1)  # so long it takes
        compute.let.set()
        await asyncio.gather(*first)
        compute.let.clear()
        tasks = await started(batcher, 0) + await started(batcher, 1, size=1_000)
        with pytest.raises(Busy) as refused:
            await batcher.submit(3, 99_500)
        assert 10 < refused.value.retry_after <= 60
        tasks += await started(batcher, 1, size=98_999)
        with pytest.raises(Busy, match="in 60 s"):
            await batcher.submit(3, 2)
        compute.let.set()
        await asyncio.gather(*tasks)

    with_batcher(test, queue_size=100_000)


def test_a_cancelled_request_leaves_the_queue_and_makes_room() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        tasks = await started(batcher, 0, 1, 2)
        waiting = await started(batcher, 3, size=10)
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 0
        tasks[1].cancel()  # it is being computed
        tasks += await started(batcher, 4)
        compute.let.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == 0 and isinstance(results[1], asyncio.CancelledError) and results[2:] == [4, 8]
        assert compute.batches == [[0, 1, 2], [4]]

    with_batcher(test)


def test_close_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        tasks = await started(batcher, 0)
        tasks += await started(batcher, 1)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await batcher.submit(2)
        assert not closing.done()
        compute.let.set()
        await closing
        assert [task.result() for task in tasks] == [0, 2]

    with_batcher(test)


def test_large_requests_leave_room_for_small_ones_and_the_other_way_round() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        tasks = await started(batcher, 0, size=4)
        tasks += await started(batcher, 1, 2, size=4)
        with pytest.raises(Busy):
            await batcher.submit(3, 4)
        tasks += await started(batcher, *range(10, 20))
        assert batcher.waiting == 8 + 10
        with pytest.raises(Busy):
            await batcher.submit(3)
        compute.let.set()
        await asyncio.gather(*tasks)

    with_batcher(test, small=1)


def test_small_and_large_requests_take_turns() -> None:
    """However many of the one wait, one of the other waits for a single batch of theirs."""

    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        tasks = await started(batcher, 0, size=4)
        tasks += await started(batcher, 1, 2, 3, size=3)
        tasks += await started(batcher, *range(10, 16))
        compute.let.set()
        await asyncio.gather(*tasks)
        assert compute.batches == [[0], [10, 11, 12, 13], [1], [14, 15], [2], [3]]

    with_batcher(test, small=1)


def test_forty_clients_of_full_batches_do_not_make_a_light_one_come_again() -> None:
    async def test(batcher: Batcher[int, int], compute: Doubling) -> None:
        compute.let.set()
        refused, ended = 0, False

        async def heavy() -> None:
            nonlocal refused
            while not ended:
                try:
                    await batcher.submit(1, 256)
                except Busy:
                    refused += 1
                    await asyncio.sleep(0)

        heavies = [asyncio.create_task(heavy()) for _ in range(40)]
        await asyncio.sleep(0)
        waited = []
        for number in range(100, 150):
            before = len(compute.batches)
            assert await batcher.submit(number) == 2 * number  # and is never refused
            waited.append(len(compute.batches) - before)
        ended = True
        await asyncio.gather(*heavies)
        assert refused > 0 and max(waited) <= 3

    with_batcher(test, small=32, max_items=256, queue_size=1024)
