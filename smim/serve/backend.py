"""The index behind a service: in this process, or with its segments spread over a cluster.

Shapes: N queries or sentences, D latent dimensions.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, open_index
from smim.search.filters import Where
from smim.search.folding import Equals
from smim.search.index import check_model
from smim.search.manifest import Manifest
from smim.search.query import Description, Hit, Options, Texts
from smim.search.searching import Answer
from smim.search.snapshot import stamp_of
from smim.search.writer import Put

T = TypeVar("T")


class Backend(ABC):
    """An index on disk and its model, with reads and with changes, one change at a time.

    Results and `UserError`s are those of `smim.search.Index` and `IndexWriter`.
    """

    def __init__(self, directory: Path, model: SentenceModel) -> None:
        self.directory, self.model = directory, model
        self._newest: tuple[tuple[int, int], Manifest] | None = None
        self._changing = ThreadPoolExecutor(1, "change")

    @abstractmethod
    async def search(self, codes_ND: np.ndarray, options: Options, texts: Texts = None) -> Answer:
        """The hits of codes, and of the words of texts, by the options' `k`, `where`, `settings` and `mode`."""

    @abstractmethod
    async def equals(self, texts: Sequence[str], options: Options) -> list[Equals]:
        """For each text, the sentences that equal it by the options' `fold` and pass the filter."""

    @abstractmethod
    async def get(self, ids: Sequence[int]) -> list[Hit]: ...

    @abstractmethod
    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        """The stored codes, fp32, of length one if the metric is cosine."""

    @abstractmethod
    async def count(self, where: Where | None) -> int: ...

    async def describe(self) -> Description:
        manifest = await self.manifest()
        return Description(**{each.name: getattr(manifest, each.name) for each in fields(Description)})

    async def manifest(self) -> Manifest:
        """The newest, without waiting for searches. Raises `Unreadable` if it is damaged or has another model."""
        # Each search asks for it. A file's status is read much faster than a thread starts.
        if self._newest is None or self._newest[0] != stamp_of(self.directory):
            return await asyncio.to_thread(self._manifest)
        return self._newest[1]

    async def add(
        self,
        texts: Sequence[str | None],
        ids: Sequence[int] | None,
        labels: Mapping[str, Sequence[Any]],
        *,
        replace: bool,
        too_long: str = "truncate",
        empty: str = "error",
    ) -> Put:
        policies: dict[str, Any] = {"too_long": too_long, "empty": empty, "tell": False}
        return await self._change(lambda writer: writer.put(texts, ids, labels, replace=replace, **policies))

    async def delete(self, ids: Sequence[int] | None, where: Where | None) -> int:
        return await self._change(lambda writer: writer.delete(ids, where=where))

    async def close(self) -> None:
        """Wait until all running work is done, and close."""
        await asyncio.to_thread(self._changing.shutdown)

    def _waiting(self) -> AbstractContextManager[Any]:
        """A context that waits for changes by other processes of the service."""
        return nullcontext()

    def _manifest(self) -> Manifest:
        stamp = stamp_of(self.directory)
        if self._newest is None or self._newest[0] != stamp:
            manifest = Manifest.read(self.directory)
            check_model(self.directory, manifest, self.model)
            self._newest = stamp, manifest
        return self._newest[1]

    async def _change(self, change: Callable[[IndexWriter], T]) -> T:
        def changed() -> T:
            with self._waiting(), IndexWriter(self.directory, model=self.model) as writer:
                return change(writer)

        return await asyncio.get_running_loop().run_in_executor(self._changing, changed)


class LocalBackend(Backend):
    """An index in this process: one thread searches, another one changes."""

    def __init__(self, directory: Path | str, *, model: SentenceModel | None = None, gpu: bool = False) -> None:
        self.index: Index = open_index(directory, model=model, gpu=gpu)
        super().__init__(self.index.directory, self.index.model)
        self._searching = ThreadPoolExecutor(1, "search")

    async def search(self, codes_ND: np.ndarray, options: Options, texts: Texts = None) -> Answer:
        return Answer(await self._search(self.index.nearest, codes_ND, options, texts))

    async def equals(self, texts: Sequence[str], options: Options) -> list[Equals]:
        return await self._search(lambda: self.index.snapshot.equals(texts, options))

    async def get(self, ids: Sequence[int]) -> list[Hit]:
        return [Hit(**vars(row)) for row in await self._search(self.index.get, ids)]

    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        return await self._search(self.index.codes, ids)

    async def count(self, where: Where | None) -> int:
        return await self._search(self.index.count, where)

    async def close(self) -> None:
        await asyncio.to_thread(self._searching.shutdown)
        await super().close()

    async def _search(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._searching, function, *arguments)
