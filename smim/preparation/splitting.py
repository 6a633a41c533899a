"""A step for word-level tokenizers: split the drawn sentences of a part into words, before the vocabulary is known.

words/00012-000.arrow    `words`: the sentences of each batch, then the paired ones, as numbers of words
words/00012-000.counts   the words in the order of these numbers, and the count of each in train
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.preparation.reading import Part, new_stream, texts_of
from smim.preparation.selection import UNUSED
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
    """Split a part into words, unless it is finished already. Return the path of the words."""
    path = task.folder / task.part.path.name
    counts_path = path.with_suffix(".counts")
    if counts_path.exists():
        return path
    split, in_train, start = [], [], 0
    for batch in task.part.batches():
        splits = task.splits[start : start + len(batch)]
        start += len(batch)
        drawn = splits != UNUSED
        texts = texts_of(batch.filter(pa.array(drawn)))
        split.append(split_words(texts, task.splitter))
        in_train.append(pa.array(np.resize(splits[drawn] == task.train, len(texts))))
    words, numbers = _number_words([each.flatten() for each in split])
    counts = np.zeros(len(words), np.int64)
    with new_stream(path, _WORDS) as writer:
        for each, own, trained in zip(split, numbers, in_train, strict=True):
            lists = list_array(pc.list_value_length(each).to_numpy(), own)
            writer.write_batch(pa.RecordBatch.from_arrays([lists], schema=_WORDS))
            counts += np.bincount(lists.filter(trained).flatten().to_numpy(), minlength=len(words))
    # Write this file last, because it marks the part as finished.
    with new_stream(counts_path, _COUNTS) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([words, pa.array(counts)], schema=_COUNTS))
    return path


def _number_words(batches: list[pa.Array]) -> tuple[pa.Array, list[np.ndarray]]:
    """Number the distinct words by first occurrence. Return them, and the words of each batch as numbers."""
    # Number the words within each batch first: its few distinct words stay in the processor's cache.
    encoded = [batch.dictionary_encode() for batch in batches]
    again = pa.concat_arrays([batch.dictionary for batch in encoded]).dictionary_encode()
    numbers = np.split(again.indices.to_numpy(), np.cumsum([len(batch.dictionary) for batch in encoded])[:-1])
    return again.dictionary, [own[batch.indices.to_numpy()] for own, batch in zip(numbers, encoded, strict=True)]


def list_array(lengths: np.ndarray, values: np.ndarray) -> pa.ListArray:
    """Make an array of lists with the given lengths from int32 values."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32()))
