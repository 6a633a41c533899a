"""Word level: the drawn sentences of a part are split into words, once, before there is a vocabulary.

words/00012-000.arrow    `words`: each sentence as numbers of words, in the order of the part
words/00012-000.counts   the words by these numbers, and how often each occurs in train
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.reading import Part, new_stream
from data_prep.selection import UNUSED
from smim.text.words import split_words

_WORDS = pa.schema([("words", pa.list_(pa.int32()))])
_COUNTS = pa.schema([("word", pa.string()), ("count", pa.int64())])


@dataclass(frozen=True)
class SplitTask:
    """A part, the split of each of its sentences (uint8 [n]), and the number of the split `train`."""

    part: Part
    splits: np.ndarray
    train: int
    splitter: str
    folder: Path


def split_part(task: SplitTask) -> Path:
    """Splits a part, unless it did before; returns the path of its words."""
    path = words_path(task.part, task.folder)
    counts_path = path.with_suffix(".counts")
    if counts_path.exists():
        return path
    numbers: dict[str, int] = {}
    counts = np.zeros(0, np.int64)
    start = 0
    with new_stream(path, _WORDS) as writer:
        for batch in task.part.batches():
            splits = task.splits[start : start + len(batch)]
            start += len(batch)
            drawn = splits != UNUSED
            words = _number_words(split_words(batch.column("text").filter(pa.array(drawn)), task.splitter), numbers)
            writer.write_batch(pa.RecordBatch.from_arrays([words], schema=_WORDS))
            in_train = words.filter(pa.array(splits[drawn] == task.train)).flatten().to_numpy()
            counts = np.bincount(in_train, minlength=len(numbers)) + np.pad(counts, (0, len(numbers) - len(counts)))
    # Written last: it says that the part is finished.
    with new_stream(counts_path, _COUNTS) as writer:
        columns = [pa.array(list(numbers), pa.string()), pa.array(counts, pa.int64())]
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_COUNTS))
    return path


def words_path(part: Part, folder: Path) -> Path:
    """Where the words of a part are."""
    return folder / part.path.name


def _number_words(split: pa.ListArray, numbers: dict[str, int]) -> pa.ListArray:
    """Words as numbers in the order of their first occurrence in the part."""
    encoded = pc.dictionary_encode(split.flatten())
    own = np.array([numbers.setdefault(word, len(numbers)) for word in encoded.dictionary.to_pylist()], np.int32)
    return list_array(pc.list_value_length(split).to_numpy(), own[encoded.indices.to_numpy()])


def list_array(lengths: np.ndarray, values: np.ndarray) -> pa.ListArray:
    """Lists of the given lengths over int32 values."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32()))
