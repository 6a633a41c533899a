"""Common code for building corpora of vectors. They have no text, so they do not use the pipeline."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smim import storage
from smim.errors import refuse
from smim.preparation.args import bad_name
from smim.preparation.reading import new_stream
from smim.schema import bounded, out_of_bounds
from smim.text.corpus import CARD, FORMAT
from smim.vectors.corpus import KIND
from smim.work import WorkDirectory

# Arrow counts the numbers of a column with 32 bits.
MOST_NUMBERS = 2**31 - 1
_SHARD = "00000.arrow"


@dataclass(kw_only=True)
class VectorArgs:
    """The settings that all corpora of vectors share (`corpus.` on the command line). `seed`: the random seed.

    Raises `UserError` with all `problems` of the settings.
    """

    builder: str
    name: str
    dir: str
    seed: int = bounded(MISSING, least=0, most=2**32 - 1)  # the limit of scikit-learn

    def __post_init__(self) -> None:
        refuse(self.problems())

    def problems(self) -> list[str]:
        """Return a message for each setting that is not valid."""
        return bad_name(self.name) + out_of_bounds(self, "corpus")


@dataclass(frozen=True)
class LabelledVectors:
    """One split: `vectors` fp32 [N, X], and `labels`, a string or None for each.

    `others`: further columns by name: N labels, or numbers fp32 [N, X].
    """

    vectors: np.ndarray
    labels: Sequence[str | None]
    others: Mapping[str, Any] = field(default_factory=dict)


def write_corpus(
    output: Path,
    splits: Mapping[str, LabelledVectors],
    *,
    name: str,
    label: str,
    source: dict[str, Any],
    **described: Any,
) -> dict[str, Any]:
    """Write a corpus at `output`, one shard per split, and return its card. Raises the errors of `pipeline.build`.

    `label`: the name of the label column. `source`: everything that determines the vectors; its hash identifies the
    meaning of their dimensions. `described`: further entries of the card.
    """
    work = WorkDirectory(output.absolute(), {"source": source}, card=CARD, kind="a prepared corpus")
    with work.owned():
        card = {
            "format": FORMAT,
            "kind": KIND,
            "name": name,
            "dimension": next(iter(splits.values())).vectors.shape[1],
            "source": source,
            "input_hash": hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest(),
            **described,
            "splits": {split: _write_split(work.result / split, rows, label) for split, rows in splits.items()},
        }
        storage.write_json(work.result / CARD, card)
    return card


def _column(values: Any) -> pa.Array:
    """Convert vectors [N, X], numbers [N] or labels to a column."""
    if not isinstance(values, np.ndarray):
        return pa.array(values, pa.string())
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32, copy=False).ravel()), values.shape[1])


def _write_split(folder: Path, rows: LabelledVectors, label: str) -> dict[str, Any]:
    """Write the only shard of a split, and return its entry in the card. A vector counts as a sentence of one token."""
    folder.mkdir(exist_ok=True)
    path, num = folder / _SHARD, len(rows.vectors)
    columns = {"vector": rows.vectors, "length": np.ones(num, np.int32), label: rows.labels, **rows.others}
    table = pa.table({name: _column(values) for name, values in columns.items()})
    with new_stream(path, table.schema) as writer:
        writer.write_table(table)
    return {
        "sentences": num,
        "tokens": num,
        **{"length_mean": 1.0, "length_std": 0.0, "length_min": 1, "length_max": 1},
        "shards": [
            {"file": _SHARD, "sentences": num, "bytes": path.stat().st_size, "sha256": storage.sha256(path)},
        ],
    }
