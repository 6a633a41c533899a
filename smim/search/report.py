"""Measure an index: recall against exact search, latency, size, and the settings that reach a recall.

Shapes: N queries, K results, D latent dimensions.
"""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from smim.errors import refuse_if
from smim.progress import track
from smim.search import factory as factories
from smim.search.index import Index
from smim.search.manifest import Manifest
from smim.search.query import Options
from smim.search.segment import Segment
from smim.search.snapshot import Snapshot

TARGET = 0.98  # recall@10 that a new index should reach
_AIM = 0.985  # required on one sample, so that other samples reach the target too
_K, _QUERIES = 10, 300
_TIMED_QUERIES = 50
_EF_SEARCH = [32, 64, 128, 256, 512, 1024]
_REFINE = [1, 4, 16, 64]
# Distances within this relative difference count as equal.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Measured:
    """Search settings, the mean share of the k exact nearest that they find, and the median seconds of one query.

    A sentence as near as the k-th exact one counts as one of them.
    """

    settings: dict[str, int]
    recall: float
    seconds: float


@dataclass(frozen=True)
class Report:
    """`current`: the index's own settings. `suggested`: the fastest that reach the wanted recall, None if none do.

    `bytes`: the sizes of the index's files by name, summed over segments.
    """

    count: int
    k: int
    queries: int
    bytes: dict[str, int]
    current: Measured
    tried: list[Measured]
    suggested: Measured | None

    @property
    def best(self) -> Measured:
        """The settings with the highest recall."""
        return max([self.current, *self.tried], key=lambda each: (each.recall, -each.seconds))


class _Sample:
    """Sentences of an index, drawn as queries, and the distances of their k nearest others."""

    def __init__(self, snapshot: Snapshot, *, k: int, queries: int, seed: int = 0) -> None:
        self.snapshot, self.k = snapshot, k
        positions = [segment.live_positions() for segment in snapshot.segments]
        numbers = np.repeat(np.arange(len(positions)), [len(each) for each in positions])
        chosen = np.random.default_rng(seed).choice(len(numbers), min(queries, len(numbers)), replace=False)
        self.numbers, self.positions = numbers[chosen], np.concatenate(positions)[chosen]
        self.codes_ND = snapshot.codes(self.numbers, self.positions)
        self.farthest_N = self._distances(None)[:, -1]

    def measured(self, settings: dict[str, int]) -> Measured:
        near = self._distances(settings) <= self.farthest_N[:, None] + _ROUNDING * abs(self.farthest_N[:, None])
        seconds = []
        for code in self.codes_ND[:_TIMED_QUERIES]:
            started = time.perf_counter()
            self.snapshot.nearest(code[None], Options(self.k, settings=settings))
            seconds.append(time.perf_counter() - started)
        return Measured(settings, float(near.mean()), median(seconds))

    def _distances(self, settings: dict[str, int] | None) -> np.ndarray:
        """The exact distances of the first k found, without the query itself, ascending, [N, k]."""
        options = Options(self.k + 1, settings=settings)
        _, _, numbers, positions = self.snapshot.nearest(self.codes_ND, options, exact=settings is None)
        distances = self.snapshot.distances(self.codes_ND, numbers, positions)
        distances[(numbers == self.numbers[:, None]) & (positions == self.positions[:, None])] = np.inf
        return np.sort(distances, axis=1)[:, : self.k]


def measure(
    index: Index, *, k: int = 10, queries: int = 200, recall: float = 0.95, seed: int = 0, tune: bool = True
) -> Report:
    """Measure with `queries` sentences of the index; each is left out of its own results.

    `tune`: also try other settings, to find the fastest with at least this `recall`. Raises `UserError` if the index
    holds too few sentences.
    """
    snapshot = index.snapshot
    refuse_if({
        f"k is {k}, queries {queries}, recall {recall}; k and queries must be at least 1, recall above 0 and at most 1":
            k < 1 or queries < 1 or not 0 < recall <= 1,
        f"{index.directory} holds {snapshot.manifest.num_sentences:,} sentences, which are too few for recall@{k}":
            snapshot.manifest.num_sentences <= k,
    })  # fmt: skip
    sample = _Sample(snapshot, k=k, queries=queries, seed=seed)
    current = sample.measured(snapshot.manifest.search)
    tried = _tried(sample, _grid(snapshot.segments, snapshot.manifest.search)) if tune else []
    good = [each for each in [current, *tried] if each.recall >= recall]
    sizes = Counter[str]()
    for info in snapshot.manifest.segments:
        for name, file in info.files.items():
            sizes["deleted" if name == info.deleted else name] += file.bytes
    return Report(
        count=snapshot.manifest.num_sentences,
        k=k,
        queries=len(sample.positions),
        bytes=dict(sizes),
        current=current,
        tried=tried,
        suggested=min(good, key=lambda each: each.seconds, default=None),
    )


def tuned(directory: Path, manifest: Manifest, *, least: Mapping[str, int]) -> Manifest:
    """The manifest with the cheapest search settings, none below `least`, that reach `TARGET` on its own sentences.

    `measured` holds their recall and seconds. If no settings reach it, they are those of the highest recall, and a
    warning on stderr says so. Exact segments need no measurement.
    """
    segments = [Segment(directory, info, manifest) for info in manifest.segments]
    grid = _grid(segments, least)
    if not grid or manifest.num_sentences <= _K:
        return replace(manifest, search=dict(least), measured={})
    if least:
        higher = ([each for each in row if all(each.get(name, 0) >= least[name] for name in least)] for row in grid)
        grid = [[dict(least)], *filter(None, higher)]
    sample = _Sample(Snapshot(manifest, segments), k=_K, queries=_QUERIES)
    best, good, rows_of_good = [], list[Measured](), 0
    for row in track(grid, "choosing search settings"):
        best.append(sample.measured(row[-1]))
        if best[-1].recall >= _AIM:
            good += [best[-1], *(each for each in map(sample.measured, row[:-1]) if each.recall >= _AIM)]
            rows_of_good += 1
        # The next row may be faster: reading more inverted lists can cost less than reranking more candidates.
        if rows_of_good == min(2, len(row)):
            break
    chosen = min(good, key=lambda each: each.seconds) if good else max(best, key=lambda each: each.recall)
    if chosen.recall < TARGET:
        print(
            f"warning: recall@{_K} is {chosen.recall:.3f}, below {TARGET}, with all search settings that were tried; "
            "use another factory, such as HNSW32,SQfp16, or Flat, which is exact",
            file=sys.stderr,
        )
    measured = {"recall": chosen.recall, "k": _K, "queries": len(sample.positions), "seconds": chosen.seconds}
    return replace(manifest, search=chosen.settings, measured=measured)


def _tried(sample: _Sample, grid: list[list[dict[str, int]]]) -> list[Measured]:
    """Measure the grid's settings, row by row, up to the second row that finds all sentences: later ones are slower."""
    tried, complete = list[Measured](), 0
    for row in track(grid, "trying settings"):
        tried += (measured := [sample.measured(settings) for settings in row])
        complete += any(each.recall == 1 for each in measured)
        if complete == 2:
            break
    return tried


def _grid(segments: Sequence[Segment], own: Mapping[str, int]) -> list[list[dict[str, int]]]:
    """Settings to try for the largest approximate segment, the cheapest first; within a row only `refine` differs."""
    approximate = [segment for segment in segments if not factories.is_exact(segment.vectors)]
    if not approximate:
        return []
    largest = max(approximate, key=lambda segment: segment.info.count)
    own = {**factories.default_search(largest.info.factory), **own}
    inverted = factories.inverted_lists(largest.vectors)
    efforts: list[dict[str, int]] = [{}]
    refines = [] if factories.measures_exactly(largest.vectors) else _REFINE
    if inverted:
        efforts = [{"nprobe": 2**i} for i in range(inverted.nlist.bit_length())]
    elif factories.graph(largest.vectors):
        efforts = [{"ef_search": ef} for ef in _EF_SEARCH]
        # In a graph, searching for more candidates is the same as a higher `ef_search`.
        refines = [own["refine"]] if "refine" in own else []
    return [[{**effort, "refine": refine} for refine in refines] or [effort] for effort in efforts]
