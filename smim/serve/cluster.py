"""The service on several machines: the segments of an index spread over shards, on Ray Serve.

    frontend (HTTP, model, ClusterBackend) ── part of the manifest, codes, k ──▶ shard-0, ... ──▶ frontend merges

A segment's number modulo the number of shards gives its shard. The frontend reads the manifest and tells each shard
which segments to use. So an answer comes from one version, and equals that of a single process.

Shapes: N queries or sentences, D latent dimensions.
"""

import asyncio
import contextlib
import fcntl
import heapq
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import add, attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search.errors import NoSuchSentence
from smim.search.filters import Where
from smim.search.folding import Equals, folded
from smim.search.ids import as_ids, listed
from smim.search.index import model_of, query_codes
from smim.search.manifest import Manifest
from smim.search.query import Hit, Options, Texts
from smim.search.searching import Answer
from smim.search.words import Statistics
from smim.serve.backend import Backend
from smim.serve.batching import Unavailable
from smim.serve.shard import SegmentsGone

# Calls a method of a shard, on any of its replicas.
Ask = Callable[..., Awaitable[Any]]

_LOCK = "service.lock"
_ATTEMPTS = 10
_PROBE_SECONDS = 0.2
_log = logging.getLogger(__name__)


class ClusterBackend(Backend):
    """An index whose segments are searched by shards, with one `ask` for each; changes are written by this process.

    A search takes at most `timeout` seconds. If a shard fails, or takes half of them, it is asked once more, on another
    replica if there is one. If that fails too, the answer lists the shard as missing, and searches skip it until it
    answers again.
    """

    def __init__(
        self,
        directory: Path | str,
        shards: Sequence[Ask],
        *,
        model: SentenceModel | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.shards, self.timeout = shards, timeout
        manifest = Manifest.read(Path(directory))
        super().__init__(Path(directory), model_of(Path(directory), manifest, model))
        self._silent: dict[int, asyncio.Task[None]] = {}

    async def search(self, codes_ND: np.ndarray, options: Options, texts: Texts = None) -> Answer:
        counted: Statistics | None = None
        version = -1

        def of_words(manifest: Manifest) -> tuple[Any, ...]:
            nonlocal version
            version = manifest.version
            return (texts,)

        def arguments(manifest: Manifest) -> tuple[Any, ...]:
            nonlocal version
            version, found = manifest.version, version
            changed.append(counted is not None and version != found)
            return query_codes(codes_ND, manifest, self.model), options.wide(manifest.search), texts, counted

        for _ in range(_ATTEMPTS):
            changed: list[bool] = []
            if texts is not None:
                parts, _ = await self._ask_all("statistics", of_words)
                counted = reduce(add, parts) if parts else None
            answers, missing = await self._ask_all("search", arguments)
            # Word statistics and hits must come from one version.
            if not any(changed):
                break
        if not answers:
            _no_part(missing)
            return Answer([[] for _ in codes_ND], missing)
        return Answer([merged(parts, options) for parts in zip(*answers, strict=True)], missing)

    async def equals(self, texts: Sequence[str], options: Options) -> list[Equals]:
        answers, missing = await self._ask_all("equals", lambda _: (list(texts), options))
        if not answers:
            _no_part(missing)
        return [reduce(add, each) for each in zip(*answers, strict=True)]

    async def get(self, ids: Sequence[int]) -> list[Hit]:
        found = await self._of_ids("get", as_ids(ids))
        return [found[int(id)] for id in ids]

    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        codes = await self._of_ids("codes", as_ids(ids))
        return np.array([codes[int(id)] for id in ids], np.float32).reshape(len(ids), (await self.manifest()).dimension)

    async def count(self, where: Where | None) -> int:
        if where is None or where == {}:
            return (await self.manifest()).count
        counts, missing = await self._ask_all("count", lambda _: (where,))
        _no_part(missing)
        return sum(counts)

    async def close(self) -> None:
        for probe in self._silent.values():
            probe.cancel()
        await super().close()

    async def _of_ids(self, method: str, ids: np.ndarray) -> dict[int, Any]:
        answers, missing = await self._ask_all(method, lambda _: (ids,))
        found = {id: value for answer in answers for id, value in answer.items()}
        lacking = ids[[int(id) not in found for id in ids]]
        if len(lacking):
            _no_part(missing)
            raise NoSuchSentence(self.directory, f"holds no sentence with id {listed(lacking)}")
        return found

    async def _ask_all(
        self, method: str, arguments: Callable[[Manifest], tuple[Any, ...]]
    ) -> tuple[list[Any], list[str]]:
        """The shards' answers about the newest version, and the names of shards without an answer."""
        deadline = time.monotonic() + self.timeout
        while True:
            manifest = await self.manifest()
            asked = arguments(manifest)
            parts = self._parts(manifest)
            answers = await asyncio.gather(
                *(self._ask(shard, deadline, method, part, *asked) for shard, part in parts.items())
            )
            missing = [f"shard-{shard}" for shard, answer in zip(parts, answers, strict=True) if answer is None]
            # A shard may fail to open segments that a newer version has replaced meanwhile.
            if missing and time.monotonic() < deadline and await self.manifest() != manifest:
                continue
            return [answer for answer in answers if answer is not None], missing

    async def _ask(self, shard: int, deadline: float, method: str, *arguments: Any) -> Any | None:
        if shard in self._silent:
            return None
        for share in (0.5, 1.0):
            try:
                async with asyncio.timeout(share * (deadline - time.monotonic())):
                    return await self.shards[shard](method, *arguments)
            except UserError:
                raise
            except Exception as error:  # any kind: the other shards still answer
                _log.warning("shard-%d: %s: %s", shard, type(error).__name__, str(error).partition("\n")[0])
                alive = isinstance(error, SegmentsGone)
        if not alive and shard not in self._silent:
            self._silent[shard] = asyncio.create_task(self._wait_for(shard))
        return None

    async def _wait_for(self, shard: int) -> None:
        """Poll a silent shard until it answers, so that searches need not wait for it again."""
        while True:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self.timeout):
                    await self.shards[shard]("ping")
                    del self._silent[shard]
                    return
            await asyncio.sleep(_PROBE_SECONDS)

    def _parts(self, manifest: Manifest) -> dict[int, Manifest]:
        """For each shard with segments, a manifest of only these segments."""
        segments: dict[int, list[Any]] = {}
        for info in manifest.segments:
            segments.setdefault(int(info.name) % len(self.shards), []).append(info)
        return {shard: replace(manifest, segments=infos) for shard, infos in sorted(segments.items())}

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        # Frontends of one service wait for each other. Another writer outside of the service is an error.
        with open(self.directory / _LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def merged(parts: Iterable[list[Hit]], options: Options) -> list[Hit]:
    """The first `k` of several lists of hits, nearest first, ties in order of id; folded as each list is."""
    hits: Iterable[Hit] = heapq.merge(*parts, key=attrgetter("distance", "id"))
    whole = options.fold in (None, "none")
    return list(itertools.islice(hits if whole else folded(hits, str(options.fold)), options.k))


def _no_part(missing: Iterable[str]) -> None:
    if names := ", ".join(missing):
        raise Unavailable(f"a part of the index does not answer now ({names}); ask again in a moment")
