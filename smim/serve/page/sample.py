"""A few thousand sentences of the index, spread evenly over it: for the page's map, examples and filters.

Shapes: N sentences of the sample, D latent dimensions.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from smim.search import Index, open_index
from smim.search.query import Description, Sentence
from smim.serve.service import Service

SIZE = 1500
# A column of so few values is offered as choices; others are for the filter language.
_FEW = 20
_COMPARED = 300


@dataclass(frozen=True)
class Sample:
    """Sentences in the order of the index, and their codes, fp32 [N, D].

    `choices`: the values of each label column that has few, in order.
    """

    description: Description
    found: list[Sentence]
    codes_ND: np.ndarray
    choices: dict[str, list[Any]]

    def examples(self, num: int) -> list[str]:
        """Sentences to try: short ones, no two the same, of all parts of the index."""
        step = max(1, len(self.found) // num)
        groups = [self.found[start : start + step] for start in range(0, len(self.found), step)]
        texts = [min((found.text for found in group[:20]), key=lambda text: abs(len(text) - 45)) for group in groups]
        return list(dict.fromkeys(texts))[:num]

    def sum(self) -> tuple[str, str, str]:
        """Three sentences for a - b + c: a and b are the most alike of some, so that the sum is c a little changed."""
        codes = self.codes_ND[: -1 if len(self.found) > 1 else None][:_COMPARED]
        lengths = (codes**2).sum(1)
        squares = lengths[:, None] + lengths - 2 * codes @ codes.T
        squares[squares < 1e-3 * lengths.mean()] = np.inf  # the same sentence twice
        a, b = np.unravel_index(squares.argmin(), squares.shape)
        return self.found[a].text, self.found[b].text, self.found[-1].text

    def questions(self, num: int) -> list[str]:
        """Questions that some sentences of the sample begin with."""
        starts = [found.text.partition("?")[0] for found in self.found if "?" in found.text.rstrip(" ?")]
        return list(dict.fromkeys(f"{start.strip()} ?" for start in starts))[:num]


class Sampler:
    """Takes the sample of a service's index once for each of its versions."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = asyncio.Lock()
        self._index: Index | None = getattr(service.backend, "index", None)
        self._sample: Sample | None = None

    async def sample(self) -> Sample:
        """The sample of the version that the index has now."""
        description = await self._service.describe()
        async with self._lock:
            if self._sample is None or self._sample.description != description:
                self._sample = await asyncio.to_thread(self._take, description)
            return self._sample

    def _take(self, description: Description) -> Sample:
        if self._index is None:
            # The shards of a cluster are not asked: the index's files are here too, and so few rows are soon read.
            self._index = open_index(self._service.backend.directory, model=self._service.model)
        snapshot = self._index.snapshot
        num_live = snapshot.manifest.count
        found: list[Sentence] = []
        codes = [np.empty((0, description.dimension), np.float32)]
        for segment in snapshot.segments:
            live = segment.live_positions()
            share = min(len(live), -(-SIZE * len(live) // max(num_live, 1)))
            positions = live[np.linspace(0, len(live) - 1, share).astype(int)]
            if len(positions):
                ids = segment.ids[positions].tolist()
                rows = segment.table(positions).to_pylist()
                found += [Sentence(id, row.pop("text"), row) for id, row in zip(ids, rows, strict=True)]
                codes.append(segment.codes(positions))
        choices: dict[str, list[Any]] = {}
        for column in description.columns:
            values: set[Any] = set()
            for batch in (batch for segment in snapshot.segments for batch in segment.batches()):
                values.update(pc.unique(batch.column(column)).to_pylist())
                if len(values) > _FEW + 1:
                    break
            offered = [value for value in values if isinstance(value, str | int | float)]
            if 2 <= len(offered) <= _FEW:
                choices[column] = sorted(offered, key=lambda value: (str(type(value)), value))
        return Sample(description, found, np.concatenate(codes), choices)
