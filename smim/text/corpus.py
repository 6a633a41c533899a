"""Prepared corpora on disk: a card, a tokenizer, and memory-mapped Arrow shards for each split.

    DIR/corpus.json  tokenizer/  train/00000.arrow ...  valid/...  test/...

A shard is an Arrow IPC stream with the columns `text`, `ids` (list of int32), `length` and any labels. In a corpus of
pairs, `pair_text` and `pair_ids` have the paired sentences. `datasets.Dataset.from_file` can open a shard too.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from smim import arrow, schema, storage
from smim.errors import UserError, nearest
from smim.text.teacher import Teacher
from smim.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from smim.text.batch import Batch, Sentences

CARD = "corpus.json"
HISTOGRAM = "lengths.png"
FORMAT = 1
OWN_COLUMNS = ("text", "ids", "length")
PAIR_COLUMNS = ("pair_text", "pair_ids")
_NEEDED = {"sentences": ["vocabulary_size", "tokenizer_hash"], "vectors": ["dimension", "input_hash"]}


@dataclass(frozen=True)
class Split:
    """One split, memory-mapped: sentences by row number, from 0 in the order of the source.

    All columns of the table have the same chunks (Arrow's record batches). A chunk is a range of rows in one shard.
    `view`: a function that returns the teacher's vectors of rows, fp32 [n, V].
    """

    name: str
    table: pa.Table
    vocabulary_size: int | None = None
    view: Callable[[np.ndarray], np.ndarray] | None = None

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each sentence, without `<sos>` and `<eos>`: int32 [N], in memory."""
        return self.table.column("length").to_numpy()

    def lengths_of(self, rows: range) -> np.ndarray:
        """Return the number of tokens of consecutive sentences, as in `lengths`, without reading other rows."""
        return self.table.column("length").slice(rows.start, len(rows)).to_numpy()

    @cached_property
    def chunks(self) -> list[range]:
        """The range of rows of each chunk, in order. A chunk is contiguous on disk."""
        ends = np.cumsum([len(chunk) for chunk in self.table.column(0).chunks], dtype=np.int64).tolist()
        return [range(start, end) for start, end in pairwise([0, *ends])]

    @property
    def has_pairs(self) -> bool:
        """Whether each sentence has a paired one. A label column with the same name does not count."""
        table = self.table.schema
        return PAIR_COLUMNS[1] in table.names and pa.types.is_list(table.field(PAIR_COLUMNS[1]).type)

    @property
    def label_columns(self) -> list[str]:
        own = OWN_COLUMNS + PAIR_COLUMNS * self.has_pairs
        return [name for name in self.table.column_names if name not in own]

    def ids(self, rows: Sequence[int] | np.ndarray, column: str = "ids") -> list[np.ndarray]:
        """Return the token ids of rows, one int32 array per sentence. `column`: "ids", or "pair_ids" for pairs."""
        sentences = []
        for chunk, i in self._places(rows):
            offsets, tokens = self.chunk_ids(chunk, column)
            sentences.append(tokens[offsets[i] : offsets[i + 1]])
        return sentences

    def read(self, rows: Sequence[int] | np.ndarray, *, key: tuple[int, int] | None = None) -> "Sentences":
        """Read the given rows into memory, to make batches from.

        `key`: (random seed, step) of a training step. It has no effect on sentences, of which no part is drawn.
        """
        from smim.text.batch import Sentences  # imports torch, which preparation does not need

        numbers = np.asarray(rows, dtype=np.int64)
        return Sentences(
            rows=numbers,
            ids=self.ids(numbers),
            view=self.view and self.view(numbers),
            pair=self.ids(numbers, PAIR_COLUMNS[1]) if self.has_pairs else None,
        )

    def batch(self, rows: Sequence[int] | np.ndarray, *, max_length: int | None = None) -> "Batch":
        """Read rows as one batch, cut after `max_length` tokens if it is given."""
        return self.read(rows).batch(range(len(rows)), max_length=max_length)

    def texts(self, rows: Sequence[int] | np.ndarray | None = None) -> list[str]:
        """Return the texts of the given rows, or of all rows, after cleaning."""
        column = self.table.column("text")
        try:
            if rows is None:
                return column.to_pylist()
            return [column.chunk(chunk)[i].as_py() for chunk, i in self._places(rows)]
        except UnicodeDecodeError:
            raise UserError(f"split {self.name!r} holds text that is not UTF-8; prepare the corpus again") from None

    def labels(self, name: str) -> list[Any]:
        """Return a label column in the order of the rows, with None for missing values.

        Raises `UserError` if there is no such column.
        """
        if name not in self.label_columns:
            raise UserError(f"split {self.name!r} has no column {name!r}; {nearest(name, self.label_columns)}")
        try:
            return self.table.column(name).to_pylist()
        except UnicodeDecodeError:
            raise UserError(f"split {self.name!r} has labels {name!r} that are not UTF-8; prepare it again") from None

    def _places(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[int, int]]:
        """Find the chunk of each row, and its position in the chunk."""
        # Arrow searches the chunks one after the other, which is too slow for thousands of chunks.
        numbers = np.asarray(rows, dtype=np.int64)
        chunks = np.searchsorted(self._starts, numbers, side="right") - 1
        return zip(chunks.tolist(), (numbers - self._starts[chunks]).tolist(), strict=True)

    def chunk_ids(self, chunk: int, column: str = "ids") -> tuple[np.ndarray, np.ndarray]:
        """Return the offsets of a chunk's sentences, and their token ids, as views of the memory-mapped file."""
        if (column, chunk) not in self._opened:
            ids = self.table.column(column).chunk(chunk)
            offsets, tokens = ids.offsets.to_numpy(), ids.values.to_numpy()
            inside, lengths = tokens[offsets[0] : offsets[-1]], np.diff(offsets)
            largest = np.iinfo(np.int32).max if self.vocabulary_size is None else self.vocabulary_size - 1
            counted = column == "ids" and "length" in self.table.column_names
            if counted and (lengths != self.table.column("length").chunk(chunk)).any():
                raise UserError(f"split {self.name!r} has wrong lengths for its sentences; prepare it again")
            if len(inside) and not 0 <= inside.min() <= inside.max() <= largest:
                raise UserError(f"split {self.name!r} has token ids that the tokenizer lacks; prepare it again")
            self._opened[column, chunk] = offsets, tokens
        return self._opened[column, chunk]

    @cached_property
    def _opened(self) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
        return {}

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.array([chunk.start for chunk in self.chunks])


@dataclass(frozen=True)
class _Shard:
    file: str
    sentences: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Split:
    sentences: int
    shards: list[_Shard]
    length_mean: float = 0.0
    length_std: float = 0.0


@dataclass(frozen=True)
class _Card:
    """The fields of `corpus.json` that are needed to open a corpus of sentences or of vectors."""

    name: str
    splits: dict[str, _Split]
    source: dict[str, Any]
    kind: str = "sentences"
    tokenizer: dict[str, Any] = field(default_factory=dict)
    vocabulary_size: int = 0
    tokenizer_hash: str = ""
    dimension: int = 0
    input_hash: str = ""
    shape: list[int] | None = None
    pair_column: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if needed := [name for name in _NEEDED.get(self.kind, ()) if not getattr(self, name)]:
            raise UserError(f"{' and '.join(needed)} are missing")
        if self.shape is not None and (len(self.shape) != 3 or math.prod(self.shape) != self.dimension):
            raise UserError(f"shape {self.shape} is not that of {self.dimension} numbers [channels, rows, columns]")


@dataclass(frozen=True)
class PreparedCorpus:
    """A prepared corpus of any kind: a directory, its card, and the shards of its splits.

    `unit`: what a row is, "sentence" or "vector". `tokenizer`: None for vectors.
    """

    unit: ClassVar[str]
    directory: Path
    card: dict[str, Any]

    @staticmethod
    def read_card(directory: Path) -> dict[str, Any]:
        """Read the card. Raises `UserError` if it is missing or has another format."""
        path = directory / CARD
        if not path.is_file():
            raise UserError(
                f"{directory} is not a prepared corpus (no {CARD} in it); make one with "
                f"`python data_prep/build.py corpus=NAME output={directory}`"
            )
        card = storage.read_json(storage.own_file(directory, CARD))
        if card.get("format") != FORMAT:
            raise UserError(f"{directory} has corpus format {card.get('format')}, but this version reads {FORMAT}")
        schema.make(_Card, card, path, others=True)  # other fields are for people
        return card

    @property
    def name(self) -> str:
        return self.card["name"]

    def table(self, name: str) -> pa.Table:
        """Memory-map the rows of one split. Raises `UserError` if it is unknown or a shard is damaged."""
        if name not in self.card["splits"]:
            raise UserError(f"{self.directory} has no split {name!r}; {nearest(name, list(self.card['splits']))}")
        described = self.card["splits"][name]
        shards = list(self._shards(name, described["shards"]))
        if len({shard.schema for shard in shards}) != 1:
            raise UserError(f"{self.directory / name} has no shards, or their columns differ; prepare it again")
        table = pa.concat_tables(shards)
        for column, kind in self.columns.items():
            if table.schema.names.count(column) != 1 or table.schema.field(column).type != kind:
                raise UserError(f"{self.directory / name} has no column {column} of {kind}; prepare the corpus again")
            if table.column(column).null_count:
                raise UserError(f"{self.directory / name} has rows without {column}; prepare the corpus again")
        if table.num_rows != described["sentences"]:
            raise UserError(
                f"{self.directory / name} holds {table.num_rows} rows, but {CARD} says "
                f"{described['sentences']}; prepare the corpus again"
            )
        return table

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """The columns of each split, without labels."""
        raise NotImplementedError

    def hash_of(self, split: str) -> str:
        """Compute the SHA-256 of a split's content, in its order, from the hashes of the shards in the card."""
        shards = [shard["sha256"] for shard in self.card["splits"][split]["shards"]]
        return hashlib.sha256("".join(shards).encode()).hexdigest()

    def _shards(self, split: str, shards: list[dict[str, Any]]) -> Iterator[pa.Table]:
        for shard in shards:
            path = storage.own_file(self.directory, f"{split}/{shard['file']}")
            if path.exists() and path.stat().st_size != shard["bytes"]:
                raise UserError(f"{path} is truncated; prepare the corpus again")
            try:
                yield arrow.read_stream(path)
            except UserError as error:
                raise UserError(f"{error}; prepare the corpus again") from None


@dataclass(frozen=True)
class Corpus(PreparedCorpus):
    """A prepared corpus of sentences, opened with `Corpus.open`, optionally with a teacher's vectors."""

    unit: ClassVar[str] = "sentence"
    tokenizer: Tokenizer
    teacher: Teacher | None = None

    @property
    def columns(self) -> dict[str, pa.DataType]:
        kinds = [pa.string(), pa.list_(pa.int32())]
        pair = dict(zip(PAIR_COLUMNS, kinds, strict=True)) if self.card.get("pair_column") else {}
        return {**dict(zip(OWN_COLUMNS, [*kinds, pa.int32()], strict=True)), **pair}

    @classmethod
    def open(cls, directory: Path | str, *, teacher: Path | str | None = None) -> "Corpus":
        """Open a prepared corpus. Raises `UserError` if it is missing, damaged, inconsistent, or holds vectors.

        `teacher`: a directory that `smim teach` made from this corpus. Batches then contain its vectors.
        """
        directory = Path(directory)
        card = cls.read_card(directory)
        if card.get("kind", "sentences") != "sentences":
            raise UserError(f"{directory} holds {card['kind']}, but sentences are needed here")
        tokenizer = Tokenizer.load(storage.own_path(directory, "tokenizer"))
        if tokenizer.hash != card["tokenizer_hash"]:
            raise UserError(f"{directory}: the tokenizer is not the one that {CARD} names; prepare the corpus again")
        taught = None if teacher is None else Teacher.open(teacher)
        if taught and taught.tokenizer_hash != tokenizer.hash:
            raise UserError(
                f"{teacher} was made for another tokenizer than that of {directory}; make it for this corpus with "
                f"`smim teach`"
            )
        return cls(directory=directory, card=card, tokenizer=tokenizer, teacher=taught)

    @property
    def input_size(self) -> int:
        """V, the size of the vocabulary."""
        return self.tokenizer.vocabulary_size

    @property
    def input_hash(self) -> str:
        """The tokenizer's hash, which identifies the meaning of token ids."""
        return self.tokenizer.hash

    def split(self, name: str) -> Split:
        """Memory-map one split. Raises `UserError` if it is unknown, damaged, or does not match the teacher."""
        table, view = self.table(name), None
        if self.teacher is not None:
            view = self.teacher.vectors_of(name, corpus_hash=self.hash_of(name), count=table.num_rows)
        return Split(name=name, table=table, vocabulary_size=self.input_size, view=view)
