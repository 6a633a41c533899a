"""How good and how fast an index is: recall against exact search, latency, size, and which settings reach a recall.

Shapes: N queries, K results, D latent dimensions.
"""

import time
from dataclasses import dataclass
from statistics import median

import faiss
import numpy as np

from smim.errors import UserError
from smim.progress import track
from smim.search import factory as factories
from smim.search.index import Index, Snapshot

_ROWS_AT_ONCE = 65_536
_TIMED_QUERIES = 50
_EF_SEARCH = [16, 32, 64, 128, 256, 512, 1024]
_REFINE = [1, 4, 16, 64]


@dataclass(frozen=True)
class Measured:
    """Search settings, the mean share of the k exact nearest that they find, and the median seconds of one query."""

    settings: dict[str, int]
    recall: float
    seconds: float


@dataclass(frozen=True)
class Report:
    """`current` are the index's own settings; `suggested` the fastest that reach the recall wanted, None if none do.

    `bytes`: of the index's files, by name, over all segments.
    """

    count: int
    k: int
    queries: int
    bytes: dict[str, int]
    current: Measured
    tried: list[Measured]
    suggested: Measured | None


def measure(
    index: Index, *, k: int = 10, queries: int = 200, recall: float = 0.95, seed: int = 0, tune: bool = True
) -> Report:
    """Measures with `queries` sentences of the index, each of which is left out of its own results.

    `tune`: also try other settings, for the fastest with at least this `recall`. Raises `UserError` where the index
    holds too few sentences.
    """
    snapshot = index.snapshot
    if k < 1 or queries < 1 or not 0 < recall <= 1:
        raise UserError(f"k is {k}, queries {queries}, recall {recall}: k and queries are at least 1, recall in (0, 1]")
    if snapshot.manifest.count <= k:
        raise UserError(f"{index.directory} holds {snapshot.manifest.count:,} sentences, too few for recall@{k}")
    ids = np.concatenate([np.asarray(s.ids[s.live_positions()]) for s in snapshot.segments])
    chosen = np.random.default_rng(seed).choice(ids, min(queries, len(ids)), replace=False)
    codes = index.codes(chosen.tolist())
    nearest = _exact(snapshot, codes, k + 1).tolist()
    exact = [[i for i in row if i != own][:k] for row, own in zip(nearest, chosen.tolist(), strict=True)]

    def measured(settings: dict[str, int]) -> Measured:
        found = _search(snapshot, codes, k + 1, settings)
        hits = [
            len(set(wanted) & {i for i in row if i != own})
            for wanted, row, own in zip(exact, found.tolist(), chosen.tolist(), strict=True)
        ]
        seconds = []
        for code in codes[:_TIMED_QUERIES]:
            started = time.perf_counter()
            _search(snapshot, code[None], k, settings)
            seconds.append(time.perf_counter() - started)
        return Measured(settings, float(np.mean(hits)) / k, median(seconds))

    current = measured(snapshot.manifest.search)
    tried = [measured(settings) for settings in track(_grid(snapshot), "trying settings")] if tune else []
    good = [each for each in [current, *tried] if each.recall >= recall]
    sizes: dict[str, int] = {}
    for info in snapshot.manifest.segments:
        for name, file in info.files.items():
            kind = "deleted" if name == info.deleted else name
            sizes[kind] = sizes.get(kind, 0) + file.bytes
    return Report(
        count=snapshot.manifest.count,
        k=k,
        queries=len(chosen),
        bytes=sizes,
        current=current,
        tried=tried,
        suggested=min(good, key=lambda each: each.seconds, default=None),
    )


def _search(snapshot: Snapshot, codes_ND: np.ndarray, k: int, settings: dict[str, int]) -> np.ndarray:
    """The ids found, int64 [N, K]; -1 where there are fewer."""
    _, found, _, positions = snapshot.nearest(codes_ND, k, None, settings)
    return np.where(positions >= 0, found, -1)


def _exact(snapshot: Snapshot, codes_ND: np.ndarray, k: int) -> np.ndarray:
    """The ids of the exact nearest, int64 [N, K], a part of the index at a time."""
    metric = factories.METRICS[snapshot.manifest.metric]
    sign = 1 if metric == faiss.METRIC_L2 else -1
    scores, ids = np.empty((len(codes_ND), 0), np.float32), np.empty((len(codes_ND), 0), np.int64)
    for segment in snapshot.segments:
        positions = segment.live_positions()
        for start in track(range(0, len(positions), _ROWS_AT_ONCE), "exact search"):
            part = positions[start : start + _ROWS_AT_ONCE]
            new, places = faiss.knn(codes_ND, segment.codes(part), min(k, len(part)), metric=metric)
            scores = np.concatenate([scores, sign * new], axis=1)
            ids = np.concatenate([ids, np.asarray(segment.ids[part])[places]], axis=1)
            order = np.argsort(scores, axis=1, kind="stable")[:, :k]
            scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
    return ids


def _grid(snapshot: Snapshot) -> list[dict[str, int]]:
    """Settings to try for the largest segment's kind of index; an exact one has none."""
    if not snapshot.segments:
        return []
    largest = max(snapshot.segments, key=lambda segment: segment.info.count)
    inverted = factories.inverted_lists(largest.vectors)
    own = snapshot.manifest.search
    grid: list[dict[str, int]] = []
    if inverted:
        probes = [2**i for i in range(inverted.nlist.bit_length()) if 2**i <= inverted.nlist]
        refines = _REFINE if "refine" in own else [0]
        grid = [{"nprobe": probe, **({"refine": refine} if refine else {})} for probe in probes for refine in refines]
    elif "ef_search" in own:
        grid = [{**own, "ef_search": ef} for ef in _EF_SEARCH]
    elif "refine" in own:
        grid = [{"refine": refine} for refine in _REFINE]
    return grid
