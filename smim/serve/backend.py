"""Where a service's answers come from: an index in this process, or one whose segments are spread over a cluster.

Shapes: N queries or sentences, D latent dimensions.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, open_index
from smim.search.filters import Where
from smim.search.index import check_model, stamp_of
from smim.search.manifest import Manifest

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A sentence of the index; `distance` as of `smim.search.Hit`, 0 where it was asked for by its id."""

    id: int
    text: str
    labels: dict[str, Any]
    distance: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The hits of each query, nearest first; `missing` names the parts of the index that did not answer."""

    hits: list[list[Found]]
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Description:
    """What is searched. `columns`: the labels' names; `version` counts the changes."""

    count: int
    dimension: int
    metric: str
    columns: list[str]
    version: int
    model_hash: str
    search: dict[str, int]

    @classmethod
    def of(cls, manifest: Manifest) -> "Description":
        return cls(**{each.name: getattr(manifest, each.name) for each in fields(cls)})


class Backend(Protocol):
    """All raise `UserError` for what is the caller's mistake, as `smim.search.Index` and `IndexWriter` do."""

    async def describe(self) -> Description: ...

    async def search(
        self, codes_ND: np.ndarray, k: int, where: Where | None, settings: Mapping[str, int]
    ) -> Answer: ...

    async def get(self, ids: Sequence[int]) -> list[Found]: ...

    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        """fp32 [N, D], of length one where the metric is cosine."""
        ...

    async def count(self, where: Where | None) -> int: ...

    async def add(
        self, texts: Sequence[str], ids: Sequence[int] | None, labels: Mapping[str, Sequence[Any]], *, replace: bool
    ) -> list[int]: ...

    async def delete(self, ids: Sequence[int] | None, where: Where | None) -> int: ...

    async def close(self) -> None:
        """Returns when what was begun is done."""
        ...


class Newest:
    """The newest manifest of an index of a model, read again where it has changed; waits for no search."""

    def __init__(self, directory: Path, model: SentenceModel) -> None:
        self.directory, self.model = directory, model
        self._current: tuple[tuple[int, int], Manifest] | None = None

    async def read(self) -> Manifest:
        """Raises `UserError` where the index cannot be read or is of another model."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Manifest:
        stamp = stamp_of(self.directory)
        if self._current is None or self._current[0] != stamp:
            manifest = Manifest.read(self.directory)
            check_model(self.directory, manifest, self.model)
            self._current = stamp, manifest
        return self._current[1]


class LocalBackend:
    """An index in this process: one thread searches, another one changes."""

    def __init__(self, directory: Path | str, *, model: SentenceModel | None = None) -> None:
        self.index: Index = open_index(directory, model=model)
        self._newest = Newest(self.index.directory, self.index.model)
        self._searching = ThreadPoolExecutor(1, "search")
        self._changing = ThreadPoolExecutor(1, "change")

    @property
    def model(self) -> SentenceModel:
        return self.index.model

    async def describe(self) -> Description:
        return Description.of(await self._newest.read())

    async def search(self, codes_ND: np.ndarray, k: int, where: Where | None, settings: Mapping[str, int]) -> Answer:
        options: dict[str, Any] = dict(settings)

        def searched() -> Answer:
            found = self.index.search(codes_ND, k, where=where, **options)
            return Answer([[Found(hit.id, hit.text, hit.labels, hit.distance) for hit in hits] for hits in found])

        return await self._search(searched)

    async def get(self, ids: Sequence[int]) -> list[Found]:
        rows = await self._search(lambda: self.index.get(ids))
        return [Found(**row) for row in rows]

    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        return await self._search(lambda: self.index.codes(ids))

    async def count(self, where: Where | None) -> int:
        return await self._search(lambda: self.index.count(where))

    async def add(
        self, texts: Sequence[str], ids: Sequence[int] | None, labels: Mapping[str, Sequence[Any]], *, replace: bool
    ) -> list[int]:
        def added() -> list[int]:
            with IndexWriter(self.index.directory, model=self.model) as writer:
                put = writer.upsert if replace else writer.add
                return put(texts, ids=ids, labels=labels)

        return await self._change(added)

    async def delete(self, ids: Sequence[int] | None, where: Where | None) -> int:
        def deleted() -> int:
            with IndexWriter(self.index.directory, model=self.model) as writer:
                return writer.delete(ids, where=where)

        return await self._change(deleted)

    async def close(self) -> None:
        for executor in (self._searching, self._changing):
            await asyncio.to_thread(executor.shutdown)

    async def _search(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._searching, function)

    async def _change(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._changing, function)
