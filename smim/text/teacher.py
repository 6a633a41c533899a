"""A teacher's vectors for a prepared corpus, on disk. `smim teach` writes them, and training reads them.

    DIR/teacher.json  axes.npy  pieces.npy  counts.npy  train-00000.npy  valid-00000.npy ...

A teacher is a sentence-transformers model, whose unit vectors are similar for sentences of similar meaning. The vectors
are stored rotated into the principal axes of train. The rotation keeps similarities, and the first k numbers of a
vector are its best approximation with k numbers. Row i of a split's shards is row i of the split, or zeros if the
sentence was left out.

Shapes: V dimensions of the teacher, W words or pieces of the corpus's vocabulary.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from smim import schema, storage
from smim.errors import UserError, nearest, refuse, too_low
from smim.shards import FileInfo, ShardedArray, ShardInfo, check_shards, open_array

CARD = "teacher.json"
AXES, PIECES, COUNTS = "axes.npy", "pieces.npy", "counts.npy"
FORMAT = 1
_AGAIN = "`smim teach` makes it again"


@dataclass(frozen=True)
class TaughtSplit:
    """The vectors of one split: `count` rows, of which `left_out` have no vector, in shards.

    `corpus_hash` is `Corpus.hash_of(split)`.
    """

    corpus_hash: str
    count: int
    left_out: int
    shards: list[ShardInfo] = field(default_factory=list)


@dataclass(frozen=True)
class TeacherCard:
    """The contents of `teacher.json`: `teacher` is its path or name as given, `teacher_hash` the hash of its files.

    `dimension`: V. `vocabulary_size`: W. `distinct`: the number of texts that the teacher read. `precision`: the
    teacher's precision. `without`: the files whose sentences were left out. `sentences`: the largest number of texts to
    read. `where`: the filter on labels that selects them. For both, None means all.
    """

    teacher: str
    teacher_hash: str
    precision: str
    dimension: int
    corpus: str
    tokenizer_hash: str
    vocabulary_size: int
    distinct: int
    without: list[dict[str, str]]
    rows_per_shard: int
    splits: dict[str, TaughtSplit]
    sentences: int | None = None
    where: dict[str, Any] | None = None
    files: dict[str, FileInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse(too_low(self, "the card", dimension=1, vocabulary_size=1, rows_per_shard=1))


@dataclass(frozen=True)
class Teacher(TeacherCard):
    """A teacher's directory, opened with `Teacher.open`."""

    directory: Path = field(kw_only=True)

    @classmethod
    def open(cls, directory: Path | str) -> "Teacher":
        """Open a directory. Raises `UserError` if it is missing, has another format, or one of its files changed."""
        directory = Path(directory)
        path = directory / CARD
        if not path.is_file():
            raise UserError(f"{directory} holds no teacher's vectors (no {CARD} in it); `smim teach` makes them")
        content = storage.read_json(storage.own_file(directory, CARD))
        if content.pop("format", None) != FORMAT:
            raise UserError(f"{directory} is not a teacher's directory of format {FORMAT}; {_AGAIN}")
        teacher = cls(**vars(schema.make(TeacherCard, content, path)), directory=directory)
        for name in (AXES, PIECES, COUNTS):
            file = storage.own_file(directory, name)
            if name not in teacher.files or not teacher.files[name].is_whole(file):
                raise UserError(f"{file} is missing, truncated or not the file that {CARD} describes; {_AGAIN}")
        for name, split in teacher.splits.items():
            check_shards([teacher._vectors(name)], split.shards, path, again=_AGAIN)
        assert all(map(len, (teacher.axes, teacher.pieces, teacher.counts)))  # opening the arrays checks their shapes
        return teacher

    @cached_property
    def axes(self) -> np.ndarray:
        """The principal axes, fp32 [V, V]. A vector of the teacher times this matrix is the stored vector."""
        return self._array(AXES, np.float32, (self.dimension, self.dimension))

    @cached_property
    def pieces(self) -> np.ndarray:
        """The teacher's vector for each word or piece of the vocabulary, read as a text by itself: fp32 [W, V].

        Special tokens and raw bytes have zeros.
        """
        return self._array(PIECES, np.float32, (self.vocabulary_size, self.dimension))

    @cached_property
    def counts(self) -> np.ndarray:
        """The count of each word or piece in train, int64 [W]."""
        return self._array(COUNTS, np.int64, (self.vocabulary_size,))

    @property
    def hash(self) -> str:
        """SHA-256 of all vectors, computed from the card's hashes of their files."""
        shards = [shard.files for split in self.splits.values() for shard in split.shards]
        files = [file.sha256 for held in (*shards, self.files) for file in held.values()]
        return hashlib.sha256("".join(files).encode()).hexdigest()

    def vectors_of(self, split: str, *, corpus_hash: str, count: int) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that reads rows of a split, fp32 [n, V]. Raises `UserError` for another corpus."""
        if split not in self.splits:
            raise UserError(f"{self.directory} has no split {split!r}; {nearest(split, list(self.splits))}")
        taught = self.splits[split]
        if (taught.corpus_hash, taught.count) != (corpus_hash, count):
            raise UserError(
                f"{self.directory} has vectors for another corpus: the sentences of split {split!r} differ; make "
                f"vectors for this corpus with `smim teach`"
            )
        return self._vectors(split).read

    def _vectors(self, split: str) -> ShardedArray:
        count = self.splits[split].count
        return ShardedArray(self.directory, split, count, self.dimension, "fp16", self.rows_per_shard)

    def _array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        array = open_array(storage.own_file(self.directory, name), dtype, shape)
        if not np.isfinite(array).all():
            raise UserError(f"{self.directory / name} holds NaN or infinite numbers; {_AGAIN}")
        return array
