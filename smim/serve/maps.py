"""The map of a service's index: read from the index, or laid out by another process while a simple map is shown.

Shapes: N sentences of the map, M others, D latent dimensions.
"""

import asyncio
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import TypeAdapter

from smim.errors import UserError, refuse_if
from smim.search import map as maps
from smim.search.map import Map, Placing
from smim.search.query import Column
from smim.search.sample import columns
from smim.search.snapshot import Snapshot
from smim.serve.schemas import Coloured, MapView
from smim.serve.tagged import tag_of

logger = logging.getLogger("smim.serve")


@dataclass(frozen=True)
class Viewed:
    """A map as it is shown, and its JSON, which is made once: 440 KB for 20,000 sentences. `tag` identifies it."""

    view: MapView
    json: bytes
    tag: str

    @classmethod
    def of(cls, view: MapView) -> Self:
        json = TypeAdapter(MapView).dump_json(view)
        return cls(view, json, tag_of(json))


class Maps:
    """One map at a time, made at the first request, and again when a tenth of the index has changed."""

    def __init__(self, directory: Path, points: int = maps.POINTS) -> None:
        self._directory, self._points = directory, points
        self._lock = asyncio.Lock()
        self._shown: Map | None = None
        self._for: tuple[int, bool] | None = None  # the version that it is shown for, and whether it is final
        self._view: Viewed | None = None
        self._placing: Placing | None = None
        self._making: asyncio.Task[None] | None = None
        self._failed = False
        self._own = tempfile.TemporaryDirectory(prefix="smim-map-")

    async def view(self, snapshot: Snapshot) -> Viewed:
        async with self._lock:
            shown = await self._current(snapshot)
            state: Literal["making", "ready"] = "making" if self._making else "ready"
            if self._view is None or self._view.view.state != state:
                self._view = await asyncio.to_thread(lambda: Viewed.of(_view(shown, snapshot, state)))
            return self._view

    async def place(self, snapshot: Snapshot, codes_MD: np.ndarray) -> np.ndarray:
        """The places of codes as the index holds them, fp32 [M, 2]."""
        async with self._lock:
            shown = await self._current(snapshot)
            refuse_if({"the index is empty, so it has no map": not len(shown.ids_N)})
            if self._placing is None:
                codes_ND = await asyncio.to_thread(lambda: snapshot.codes(*snapshot.places_of(shown.ids_N)))
                self._placing = Placing(shown, codes_ND)
            return await asyncio.to_thread(self._placing.place, codes_MD)

    async def close(self) -> None:
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait([self._making])
        self._own.cleanup()

    async def _current(self, snapshot: Snapshot) -> Map:
        """The map to show, without deleted sentences. If that is a simple map, start making a better one."""
        if self._making is not None and self._making.done():
            self._making, self._for = None, None
        version = snapshot.manifest.version
        if self._shown is None or self._for != (version, True):
            found = await asyncio.to_thread(self._stored, snapshot)
            if found is None and self._shown is not None and self._for == (version, False):
                return self._shown
            self._for, self._view, self._placing = (version, found is not None), None, None
            if found is None:
                found = await asyncio.to_thread(maps.lay_out, snapshot, points=self._points, method="PCA")
                if self._making is None and not self._failed and len(found.ids_N) >= maps.FEWEST:
                    self._making = asyncio.create_task(self._make())
            self._shown = found
        return self._shown

    def _files(self) -> list[Path]:
        """The possible files: in the index, or if that is read-only, in a folder of this process."""
        return [self._directory / maps.FILE, Path(self._own.name) / maps.FILE]

    def _stored(self, snapshot: Snapshot) -> Map | None:
        """The map on disk, if it still fits the index."""
        for file in self._files():
            try:
                found = maps.read(file)
            except UserError as error:
                logger.warning("map", extra={"known": {"message": str(error)}})
                continue
            if found is not None and (found := found.of(snapshot)).is_fit(snapshot.manifest):
                return found
        return None

    async def _make(self) -> None:
        """Make a map in another process, at low priority."""
        beside, own = self._files()
        file = beside if os.access(self._directory, os.W_OK) else own
        command = [sys.executable, "-m", maps.__name__, str(self._directory), str(file), str(self._points)]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            self._failed = True
            last = (errors.decode(errors="replace").strip().splitlines() or [""])[-1]
            logger.warning("map", extra={"known": {"message": f"the map was not made: {last[:300]}"}})


def _view(shown: Map, snapshot: Snapshot, state: Literal["making", "ready"]) -> MapView:
    numbers, positions = snapshot.places_of(shown.ids_N)
    x, y = shown.places_N2.astype(np.float64).round(4).T.tolist()
    known = [each for each in columns(snapshot) if each.complete and each.values]
    labels = [_coloured(each, snapshot, numbers, positions) for each in known]
    return MapView(state, shown.method, shown.version, snapshot.manifest.count, shown.ids_N.tolist(), x, y, labels)


def _coloured(column: Column, snapshot: Snapshot, numbers: np.ndarray, positions: np.ndarray) -> Coloured:
    number_of = {each.value: number for number, each in enumerate(column.values)}
    of = np.full(len(numbers), -1)
    for number in np.unique(numbers):
        here = np.flatnonzero(numbers == number)
        here = here[np.argsort(positions[here])]
        values = snapshot.segments[number].table(positions[here]).column(column.name).to_pylist()
        of[here] = [number_of.get(value, -1) for value in values]
    return Coloured(column.name, [str(each.value) for each in column.values], of.tolist())
