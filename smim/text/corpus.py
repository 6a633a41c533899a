"""Prepared corpora on disk: a card, a tokenizer, and per split Arrow shards that are memory-mapped.

    DIR/corpus.json  tokenizer/  train/00000.arrow ...  valid/...  test/...

A shard is an Arrow IPC stream with the columns `text`, `ids` (list of int32), `length` and any
labels; `datasets.Dataset.from_file` opens it too.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smim import storage
from smim.errors import UserError, nearest
from smim.text.batch import Batch, Sentences
from smim.text.tokenizer import Tokenizer

CARD = "corpus.json"
HISTOGRAM = "lengths.png"
FORMAT = 1
OWN_COLUMNS = ("text", "ids", "length")


@dataclass(frozen=True)
class Split:
    """One split, memory-mapped: sentences by row number, from 0 in the order of the source.

    The table's columns are cut into the same chunks, Arrow's record batches, each of them one stretch of a shard.
    """

    name: str
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each sentence, without `<sos>` and `<eos>`; int32 [N], all of them in memory."""
        return self.table.column("length").to_numpy()

    def lengths_of(self, rows: range) -> np.ndarray:
        """Number of tokens of consecutive sentences, as `lengths`; reads no others."""
        return self.table.column("length").slice(rows.start, len(rows)).to_numpy()

    @cached_property
    def chunks(self) -> list[range]:
        """The rows of each chunk: what lies together on disk, in the order of the rows."""
        ends = np.cumsum([len(chunk) for chunk in self.table.column(0).chunks], dtype=np.int64).tolist()
        return [range(start, end) for start, end in pairwise([0, *ends])]

    @property
    def label_columns(self) -> list[str]:
        return [name for name in self.table.column_names if name not in OWN_COLUMNS]

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Token ids of the given rows, one int32 array a sentence."""
        sentences = []
        for chunk, i in self._places(rows):
            offsets, tokens = self._id_chunks[chunk]
            sentences.append(tokens[offsets[i] : offsets[i + 1]])
        return sentences

    def read(self, rows: Sequence[int] | np.ndarray) -> Sentences:
        """The given rows, read once, to make batches of."""
        return Sentences(rows=np.asarray(rows, dtype=np.int64), ids=self.ids(rows))

    def batch(self, rows: Sequence[int] | np.ndarray, *, max_length: int | None = None) -> Batch:
        """Reads rows as one batch, cut after `max_length` tokens where that is given."""
        return self.read(rows).batch(range(len(rows)), max_length=max_length)

    def texts(self, rows: Sequence[int] | np.ndarray | None = None) -> list[str]:
        """The given rows' sentences as they were in the source, or all of them."""
        if rows is None:
            return self.table.column("text").to_pylist()
        chunks = self.table.column("text").chunks
        return [chunks[chunk][i].as_py() for chunk, i in self._places(rows)]

    def labels(self, name: str) -> list[Any]:
        """One label column, in order of the rows; raises `UserError` naming those there are."""
        if name not in self.label_columns:
            raise UserError(f"split {self.name!r} has no column {name!r}; {nearest(name, self.label_columns)}")
        return self.table.column(name).to_pylist()

    def _places(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[int, int]]:
        """The number of each row's chunk, and its place in it."""
        # Arrow looks for a row's chunk from the first one on, too slow where there are thousands.
        numbers = np.asarray(rows, dtype=np.int64)
        chunks = np.searchsorted(self._starts, numbers, side="right") - 1
        return zip(chunks.tolist(), (numbers - self._starts[chunks]).tolist(), strict=True)

    @cached_property
    def _id_chunks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each chunk, where its sentences begin and end, and their token ids: views of what is memory-mapped."""
        return [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in self.table.column("ids").chunks]

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.array([chunk.start for chunk in self.chunks])


@dataclass(frozen=True)
class PreparedCorpus:
    """What a prepared corpus is, whatever it holds: a directory, its card, and the shards of its splits."""

    directory: Path
    card: dict[str, Any]

    @staticmethod
    def read_card(directory: Path) -> dict[str, Any]:
        """The card; raises `UserError` where there is none, or of another format."""
        if not (directory / CARD).is_file():
            raise UserError(
                f"{directory} is not a prepared corpus (no {CARD} in it); make one with "
                f"`python data_prep/build.py corpus=NAME output={directory}`"
            )
        card = storage.read_json(directory / CARD)
        if card.get("format") != FORMAT:
            raise UserError(f"{directory} has corpus format {card.get('format')}, this version reads {FORMAT}")
        return card

    @property
    def name(self) -> str:
        return self.card["name"]

    def table(self, name: str) -> pa.Table:
        """One split's rows, memory-mapped; raises `UserError` where it is unknown or a shard is damaged."""
        if name not in self.card["splits"]:
            raise UserError(f"{self.directory} has no split {name!r}; {nearest(name, list(self.card['splits']))}")
        described = self.card["splits"][name]
        table = pa.concat_tables(list(self._shards(name, described["shards"])))
        if table.num_rows != described["sentences"]:
            raise UserError(
                f"{self.directory / name} holds {table.num_rows} rows where {CARD} says "
                f"{described['sentences']}; prepare the corpus again"
            )
        return table

    def hash_of(self, split: str) -> str:
        """SHA-256 of all that a split holds, in its order, by what the card says of the shards."""
        shards = [shard["sha256"] for shard in self.card["splits"][split]["shards"]]
        return hashlib.sha256("".join(shards).encode()).hexdigest()

    def _shards(self, split: str, shards: list[dict[str, Any]]) -> Iterator[pa.Table]:
        for shard in shards:
            path = self.directory / split / shard["file"]
            try:
                if path.stat().st_size != shard["bytes"]:
                    raise UserError(f"{path} is truncated; prepare the corpus again")
                yield pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
            except (FileNotFoundError, pa.ArrowInvalid) as error:
                raise UserError(f"{path} is missing or damaged ({error}); prepare the corpus again") from None


@dataclass(frozen=True)
class Corpus(PreparedCorpus):
    """A prepared corpus of sentences that was opened with `Corpus.open`."""

    tokenizer: Tokenizer

    @classmethod
    def open(cls, directory: Path | str) -> "Corpus":
        """Opens a prepared corpus; raises `UserError` where it is missing, damaged, inconsistent, or of vectors."""
        directory = Path(directory)
        card = cls.read_card(directory)
        if card.get("kind", "sentences") != "sentences":
            raise UserError(f"{directory} holds {card['kind']}; sentences are needed here")
        tokenizer = Tokenizer.load(directory / "tokenizer")
        if tokenizer.hash != card["tokenizer_hash"]:
            raise UserError(f"{directory}: the tokenizer is not the one its {CARD} names; prepare the corpus again")
        return cls(directory=directory, card=card, tokenizer=tokenizer)

    @property
    def input_size(self) -> int:
        """V, the words of the vocabulary."""
        return self.tokenizer.vocabulary_size

    @property
    def input_hash(self) -> str:
        """Names what a token id means: the tokenizer."""
        return self.tokenizer.hash

    def split(self, name: str) -> Split:
        """Memory-maps one split; raises `UserError` where it is unknown or a shard is damaged."""
        return Split(name=name, table=self.table(name))
