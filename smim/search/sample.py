"""Sentences spread evenly over an index, and the contents of its label columns.

Shapes: N sentences of the sample, D latent dimensions.
"""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.search.labels import plain
from smim.search.query import Column, Sentence, Value
from smim.search.segment import TEXT, Segment
from smim.search.snapshot import Snapshot

# The most values shown, and the most distinct values that are counted.
_VALUES_SHOWN, _VALUES_COUNTED = 20, 1_000


def spread(snapshot: Snapshot, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments and positions, int64 [N] each, of at most `size` sentences, evenly spread, in the order of the index."""
    live = [segment.live_positions() for segment in snapshot.segments]
    counts = [len(each) for each in live]
    wanted = np.linspace(0, sum(counts) - 1, min(size, sum(counts))).astype(np.int64)
    numbers = np.searchsorted(np.cumsum(counts), wanted, side="right")
    starts = np.cumsum([0, *counts])
    positions = [live[number][each - starts[number]] for number, each in zip(numbers, wanted, strict=True)]
    return numbers, np.array(positions, np.int64)


def sentences(snapshot: Snapshot, numbers: np.ndarray, positions: np.ndarray) -> list[Sentence]:
    """The sentences at the given segments and positions, both in the order of the index."""
    found = []
    for number in np.unique(numbers):
        segment, here = snapshot.segments[number], positions[numbers == number]
        rows = segment.table(here).to_pylist()
        labels = [{name: plain(value) for name, value in row.items() if name != TEXT} for row in rows]
        ids = segment.ids[here].tolist()
        found += [Sentence(id, row[TEXT], of) for id, row, of in zip(ids, rows, labels, strict=True)]
    return found


def columns(snapshot: Snapshot) -> list[Column]:
    """Describe the label columns. Values are counted by texts, as by `Index.count`, without deleted ones."""
    return [_column(snapshot, name) for name in snapshot.manifest.columns]


def _column(snapshot: Snapshot, name: str) -> Column:
    counts: Counter[Any] = Counter()
    # If every sentence was deleted, the manifest has the type.
    kind = _kind(pa.type_for_alias(snapshot.manifest.column_types.get(name, "string")))
    complete, bounds = True, []
    for segment in snapshot.segments:
        counted, start = _counted(segment), 0
        for batch in segment.batches():
            array = batch.column(name)
            if counted is not None:
                array = array.filter(pa.array(counted[start : start + len(array)]))
            start += len(batch)
            kind = _kind(array.type)
            if kind == "number" and (known := pc.min_max(array).as_py())["min"] is not None:
                bounds += known.values()
            if complete and kind != "other":
                for each in pc.value_counts(array).to_pylist():
                    if (value := plain(each["values"])) is not None:
                        counts[value] += each["counts"]
                complete = len(counts) <= _VALUES_COUNTED
    # The most frequent first, ties in order.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))) if complete else []
    values = [Value(value, count) for value, count in ordered[:_VALUES_SHOWN]]
    least, greatest = (float(min(bounds)), float(max(bounds))) if bounds else (None, None)
    return Column(name, kind, values, complete and len(counts) <= _VALUES_SHOWN, least, greatest)


def _counted(segment: Segment) -> np.ndarray | None:
    """The rows to count, bool [R]: the first of each text that is not deleted. None means all."""
    if segment.texts is None:
        return segment.live
    first = np.diff(segment.texts.of_R, prepend=-1) == 1
    return first if segment.live is None else first & segment.live


def _kind(of: pa.DataType) -> str:
    if pa.types.is_integer(of) or pa.types.is_floating(of):
        return "number"
    return "boolean" if pa.types.is_boolean(of) else "text" if pa.types.is_string(of) else "other"
