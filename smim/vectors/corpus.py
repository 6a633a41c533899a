"""Prepared corpora of vectors, like those of text, with the columns `vector`, `length` (always 1) and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from smim.errors import UserError
from smim.text.corpus import PreparedCorpus, Split

if TYPE_CHECKING:
    from smim.vectors.batch import VectorBatch, Vectors

KIND = "vectors"
# Of images: grey values; bits drawn once; or bits drawn once that training draws again in each step, from column GREY.
BINARISATIONS = ("none", "static", "dynamic")
GREY = "grey"
_BITS_STREAM = 3  # no other random numbers of a training step have such a key


def draw_bits(grey: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw x ~ Bernoulli(grey value) for each number of `grey` in [0, 1]: 0 or 1, fp32 of the same shape."""
    return (random.random(grey.shape, dtype=np.float32) < grey).astype(np.float32)


@dataclass(frozen=True)
class VectorSplit(Split):
    """One split: vectors of X dimensions by row number, in the order of the source."""

    @cached_property
    def vectors(self) -> np.ndarray:
        """All vectors, fp32 [N, X]."""
        return self._numbers("vector")

    @property
    def draws_bits(self) -> bool:
        """Whether training draws new bits in each step. A label column called `grey` does not count."""
        table = self.table.schema
        return GREY in table.names and table.field(GREY).type == table.field("vector").type

    @cached_property
    def grey(self) -> np.ndarray:
        """The grey values from which bits are drawn, fp32 [N, X] in [0, 1]. Only if `draws_bits`."""
        return self._numbers(GREY)

    def _numbers(self, name: str) -> np.ndarray:
        column = self.table.column(name)
        # Combining copies even a single chunk, which would no longer be memory-mapped.
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        numbers = array.flatten()
        if len(numbers) != len(self) * array.type.list_size or numbers.null_count:
            raise UserError(f"split {self.name!r} has rows that lack numbers of {name!r}; prepare the corpus again")
        return numbers.to_numpy().reshape(len(self), array.type.list_size)

    @property
    def label_columns(self) -> list[str]:
        numbers = ["vector"] + [GREY] * self.draws_bits
        return [name for name in super().label_columns if name not in numbers]

    def read(self, rows: Sequence[int] | np.ndarray, *, key: tuple[int, int] | None = None) -> "Vectors":  # type: ignore[override]
        """Read the given rows into memory. With `key`, (random seed, step), bits of `grey` are drawn anew by it."""
        from smim.vectors.batch import Vectors  # imports torch, which preparation does not need

        chosen = np.asarray(rows, dtype=np.int64)
        if key is None or not self.draws_bits:
            return Vectors(rows=chosen, vectors=self.vectors[chosen])
        random = np.random.default_rng([*key, _BITS_STREAM])
        return Vectors(rows=chosen, vectors=draw_bits(self.grey[chosen], random))

    def batch(self, rows: Sequence[int] | np.ndarray, *, max_length: int | None = None) -> "VectorBatch":  # type: ignore[override]
        return self.read(rows).batch(range(len(rows)))


@dataclass(frozen=True)
class VectorCorpus(PreparedCorpus):
    """A prepared corpus of vectors. Open one with `VectorCorpus.open`."""

    unit: ClassVar[str] = "vector"
    tokenizer: ClassVar[None] = None
    teacher: ClassVar[None] = None

    @classmethod
    def open(cls, directory: Path | str) -> "VectorCorpus":
        """Open a prepared corpus. Raises `UserError` if it is missing, damaged, or one of sentences."""
        directory = Path(directory)
        card = cls.read_card(directory)
        if card.get("kind") != KIND:
            raise UserError(f"{directory} holds sentences, but vectors are needed here")
        return cls(directory=directory, card=card)

    @property
    def columns(self) -> dict[str, pa.DataType]:
        return {"vector": pa.list_(pa.float32(), self.input_size), "length": pa.int32()}

    @property
    def input_size(self) -> int:
        """X, the dimensions of a vector."""
        return self.card["dimension"]

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """[C, H, W] of a corpus of images: channels, rows, columns. None for other vectors."""
        return tuple(self.card["shape"]) if "shape" in self.card else None

    @property
    def input_hash(self) -> str:
        """The hash of the corpus's recipe, which identifies the meaning of a vector's dimensions."""
        return self.card["input_hash"]

    def split(self, name: str) -> VectorSplit:
        """Memory-map one split. Raises `UserError` if it is unknown or a shard is damaged."""
        split = VectorSplit(name=name, table=self.table(name))
        if not np.isfinite(split.vectors).all():
            raise UserError(f"{self.directory / name} holds NaN or infinite numbers; prepare the corpus again")
        if split.draws_bits and not ((split.grey >= 0) & (split.grey <= 1)).all():
            raise UserError(f"{self.directory / name} lacks grey values in [0, 1]; prepare the corpus again")
        return split
