"""The last step of preparation: encode the sentences of a part into one shard for each split in it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim import storage
from smim.preparation.reading import PAIR_TEXT, Part, new_stream, read_batches, texts_of
from smim.preparation.selection import UNUSED
from smim.preparation.splitting import list_array
from smim.text.corpus import PAIR_COLUMNS
from smim.text.tokenizer import UNK_ID, Tokenizer
from smim.text.words import WordTokenizer


@dataclass(frozen=True)
class EncodeTask:
    """A part, the split of each of its sentences (uint8 [n]), and the shards to write.

    `shards[number]`: the path of the shard for the split with this number in `splits`. `words`: the folder with the
    sentences split into words, for word-level tokenizers.
    """

    part: Part
    splits: np.ndarray
    shards: Mapping[int, Path]
    label_columns: tuple[str, ...]
    has_pairs: bool
    tokenizer: Path
    tokenizer_hash: str
    words: Path
    folder: Path


@dataclass
class Statistics:
    """Counts that can be summed over shards.

    `lengths[n]`: sentences with n tokens. `unknown`: `<unk>` tokens. `no_tokens`: sentences that are left out because
    the tokenizer found no token in them.
    """

    unknown: int = 0
    no_tokens: int = 0
    lengths: Counter[int] = field(default_factory=Counter)

    def add(self, ids: pa.ListArray) -> None:
        lengths, counts = np.unique(pc.list_value_length(ids).to_numpy(), return_counts=True)
        self.lengths.update(dict(zip(lengths.tolist(), counts.tolist(), strict=True)))
        self.unknown += int((ids.flatten().to_numpy() == UNK_ID).sum())

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.unknown + other.unknown, self.no_tokens + other.no_tokens, self.lengths + other.lengths)

    @property
    def sentences(self) -> int:
        return sum(self.lengths.values())

    def describe(self) -> dict[str, Any]:
        tokens = sum(length * count for length, count in self.lengths.items())
        mean = tokens / self.sentences
        variance = sum(count * (length - mean) ** 2 for length, count in sorted(self.lengths.items())) / self.sentences
        return {
            "sentences": self.sentences,
            "tokens": tokens,
            "length_mean": round(mean, 4),
            "length_std": round(variance**0.5, 4),
            "length_min": min(self.lengths),
            "length_max": max(self.lengths),
            "unknown_tokens": self.unknown,
        }


def encode_part(task: EncodeTask) -> dict[str, Any]:
    """Write the shards of a part, unless they are finished. Return the content of the completion marker."""
    marker = task.folder / f"{task.part.path.stem}.json"
    if marker.exists():
        return storage.read_json(marker)
    statistics = _write_shards(task)
    described = {
        str(number): {
            "file": path.name,
            "sentences": statistics[number].sentences,
            "bytes": path.stat().st_size,
            "sha256": storage.sha256(path),
            "statistics": vars(statistics[number]),
        }
        for number, path in task.shards.items()
    }
    storage.write_json(marker, described)
    return described


def statistics_of(described: dict[str, Any]) -> Statistics:
    """Return the statistics in an entry of a completion marker, where the lengths are strings."""
    state = described["statistics"]
    lengths = Counter({int(length): count for length, count in state["lengths"].items()})
    return Statistics(state["unknown"], state["no_tokens"], lengths)


def _write_shards(task: EncodeTask) -> dict[int, Statistics]:
    pair_columns = zip(PAIR_COLUMNS, (pa.string(), pa.list_(pa.int32())), strict=True) if task.has_pairs else ()
    schema = pa.schema(
        [("text", pa.string()), ("ids", pa.list_(pa.int32())), ("length", pa.int32()), *pair_columns]
        + [(label, pa.string()) for label in task.label_columns]
    )
    statistics = {number: Statistics() for number in task.shards}
    with ExitStack() as stack:
        writers = {number: stack.enter_context(new_stream(path, schema)) for number, path in task.shards.items()}
        for rows, all_ids, splits in _encoded(task):
            ids, pair_ids = all_ids[: len(rows)], all_ids[len(rows) :]
            lengths = pc.list_value_length(ids)
            filled = lengths.to_numpy() > 0
            if task.has_pairs:
                filled &= pc.list_value_length(pair_ids).to_numpy() > 0
            for number, writer in writers.items():
                own = splits == number
                some = pa.array(own & filled)
                statistics[number].no_tokens += int(own.sum()) - pc.sum(some).as_py()
                pair = [rows.column(PAIR_TEXT), pair_ids] if task.has_pairs else []
                columns = [rows.column("text"), ids, lengths, *pair, *map(rows.column, task.label_columns)]
                batch = pa.RecordBatch.from_arrays(columns, schema=schema).filter(some)
                if len(batch):
                    statistics[number].add(batch.column("ids"))
                    writer.write_batch(batch)
    return statistics


def _encoded(task: EncodeTask) -> Iterator[tuple[pa.RecordBatch, pa.ListArray, np.ndarray]]:
    """Yield batches of drawn sentences, their ids (followed by those of pairs), and their splits."""
    tokenizer = _load_tokenizer(task.tokenizer, task.tokenizer_hash)
    ids_of_words = _ids_of_words(tokenizer, task) if isinstance(tokenizer, WordTokenizer) else None
    start = 0
    for batch in task.part.batches():
        splits = task.splits[start : start + len(batch)]
        start += len(batch)
        drawn = splits != UNUSED
        rows = batch.filter(pa.array(drawn))
        ids = tokenizer.encode_batch(texts_of(rows)) if ids_of_words is None else next(ids_of_words)
        if len(rows):
            yield rows, ids, splits[drawn]


def _ids_of_words(tokenizer: WordTokenizer, task: EncodeTask) -> Iterator[pa.ListArray]:
    """Yield the ids of the drawn sentences of each batch, from the words that `splitting` wrote."""
    path = task.words / task.part.path.name
    [vocabulary] = read_batches(path.with_suffix(".counts"))
    by_number = tokenizer.lookup(vocabulary.column("word")).to_numpy()
    for batch in read_batches(path):
        words = batch.column("words")
        yield list_array(pc.list_value_length(words).to_numpy(), by_number[words.flatten().to_numpy()])


@lru_cache(maxsize=1)
def _load_tokenizer(directory: Path, tokenizer_hash: str) -> Tokenizer:
    """Load a tokenizer once per process. The hash distinguishes successive tokenizers in one directory."""
    return Tokenizer.load(directory)
