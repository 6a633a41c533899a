"""Writes prepared corpora: tokenised sentences as Arrow shards, with a card that describes them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from smim import storage
from smim.errors import UserError
from smim.progress import track
from smim.text.corpus import CARD, FORMAT
from smim.text.tokenizer import UNK_ID, Tokenizer

_ROWS_PER_SHARD = 50_000
_ROWS_PER_BATCH = 5_000

# A sentence with its labels: `text` and any number of further columns, the same in every row.
Row = Mapping[str, str]


@dataclass
class _Count:
    """Running statistics of one split."""

    sentences: int = 0
    tokens: int = 0
    squared: int = 0
    unknown: int = 0
    longest: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)

    def add(self, ids: list[int]) -> None:
        self.sentences += 1
        self.tokens += len(ids)
        self.squared += len(ids) ** 2
        self.unknown += ids.count(UNK_ID)
        self.longest = max(self.longest, len(ids))

    def describe(self) -> dict[str, Any]:
        mean = self.tokens / self.sentences
        variance = max(0.0, self.squared / self.sentences - mean**2)
        return {
            "sentences": self.sentences,
            "tokens": self.tokens,
            "length_mean": round(mean, 4),
            "length_std": round(variance**0.5, 4),
            "length_max": self.longest,
            "unknown_tokens": self.unknown,
            "shards": self.shards,
        }


def write_corpus(
    output: Path,
    splits: Mapping[str, Iterable[Row]],
    tokenizer: Tokenizer,
    *,
    name: str,
    source: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Tokenises and writes every split, puts the corpus in the place of `output`, and returns its card.

    Raises `UserError` where a split is empty; what stood at `output` before then stays.
    """
    with storage.new_directory(output) as partial:
        described = {}
        for split, rows in splits.items():
            (partial / split).mkdir()
            count = _write_split(partial / split, track(rows, f"{name} {split}"), tokenizer)
            if count.sentences == 0:
                raise UserError(f"split {split!r} of {name} has no sentences; nothing was written")
            described[split] = count.describe()
        tokenizer.save(partial / "tokenizer")
        card = {
            "format": FORMAT,
            "name": name,
            "source": dict(source),
            "options": dict(options),
            "vocabulary_size": tokenizer.vocabulary_size,
            "tokenizer_hash": tokenizer.hash,
            "splits": described,
        }
        storage.write_json(partial / CARD, card)
    return card


def _write_split(folder: Path, rows: Iterable[Row], tokenizer: Tokenizer) -> _Count:
    count = _Count()
    rows = iter(rows)
    while first := list(islice(rows, _ROWS_PER_BATCH)):
        path = folder / f"{len(count.shards):05d}.arrow"
        written = _write_shard(path, first, rows, tokenizer, count)
        count.shards.append(
            {
                "file": path.name,
                "sentences": written,
                "bytes": path.stat().st_size,
                "sha256": storage.sha256(path),
            }
        )
    return count


def _write_shard(path: Path, first: list[Row], rows: Iterator[Row], tokenizer: Tokenizer, count: _Count) -> int:
    labels = [column for column in first[0] if column != "text"]
    schema = pa.schema(
        [("text", pa.string()), ("ids", pa.list_(pa.int32())), ("length", pa.int32())]
        + [(label, pa.string()) for label in labels]
    )
    written = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        batch = first
        while batch:
            ids = [tokenizer.encode(row["text"]) for row in batch]
            for sentence in ids:
                count.add(sentence)
            columns: dict[str, list[Any]] = {
                "text": [row["text"] for row in batch],
                "ids": ids,
                "length": [len(sentence) for sentence in ids],
                **{label: [row[label] for row in batch] for label in labels},
            }
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=schema))
            written += len(batch)
            batch = list(islice(rows, min(_ROWS_PER_BATCH, _ROWS_PER_SHARD - written)))
    return written
