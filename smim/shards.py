"""Arrays on disk in shards, whose files are checked by hash and memory-mapped.

A shard has one file NAME-00000.npy for each of several arrays with the same number of rows, in fp32 or fp16. Row i of
the concatenated shards is row i of the array. The job that writes them marks each finished shard, with its hashes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from smim import schema, storage
from smim.errors import UserError

DTYPES = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True)
class FileInfo:
    """A file's size, its SHA-256, and its `storage.sampled_sha256`, which is checked whenever it is opened."""

    bytes: int
    sha256: str
    sampled_sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        return cls(path.stat().st_size, storage.sha256(path), storage.sampled_sha256(path))

    def is_whole(self, path: Path) -> bool:
        """Check whether the file exists, with the same size and the same content at sampled places."""
        return (
            path.is_file() and path.stat().st_size == self.bytes and storage.sampled_sha256(path) == self.sampled_sha256
        )


@dataclass(frozen=True)
class ShardInfo:
    """The number of `rows` of a shard, and its files by name."""

    rows: int
    files: dict[str, FileInfo]

    def damaged(self, directory: Path) -> list[Path]:
        """List the shard's files that are missing or changed. Raises `UserError` for an invalid name."""
        paths = {storage.own_file(directory, name): file for name, file in self.files.items()}
        return [path for path, file in paths.items() if not file.is_whole(path)]


class InShards:
    """The base class of everything with `count` rows in shards of `rows_per_shard` (the last may be smaller)."""

    count: int
    rows_per_shard: int

    def rows_of(self, shard: int) -> range:
        """Return the rows of a shard."""
        return range(self.count)[shard * self.rows_per_shard :][: self.rows_per_shard]

    @property
    def num_shards(self) -> int:
        return -(-self.count // self.rows_per_shard)


@dataclass(frozen=True)
class ShardedArray(InShards):
    """An array [count, width] in the files `name`-00000.npy ... of a directory; `dtype` is fp32 or fp16."""

    directory: Path
    name: str
    count: int
    width: int
    dtype: str
    rows_per_shard: int

    def read(self, rows: range | np.ndarray) -> np.ndarray:
        """Read the given rows, in their order, as fp32 [len(rows), width]. Raises `UserError` for NaN or infinity."""
        numbers = np.asarray(rows, np.int64)
        found = np.empty((len(numbers), self.width), np.float32)
        shard_of = numbers // self.rows_per_shard
        for shard in np.unique(shard_of).tolist():
            here = shard_of == shard
            # Open the file each time, so that its pages do not stay mapped.
            found[here] = self.open(shard)[numbers[here] - shard * self.rows_per_shard]
        if not np.isfinite(found).all():
            raise UserError(f"{self.directory} has NaN or infinite numbers in {self.name}; make it again")
        return found

    def open(self, shard: int) -> np.ndarray:
        """Memory-map a shard. Raises `UserError` if its file has another type or shape."""
        path = storage.own_file(self.directory, shard_file(self.name, shard))
        return open_array(path, DTYPES[self.dtype], (len(self.rows_of(shard)), self.width))


def check_shards(arrays: Sequence[ShardedArray], shards: Sequence[ShardInfo], card: Path, *, again: str) -> None:
    """Raise `UserError` unless `shards`, which `card` describes, match the arrays and are intact.

    `again` says how to make them again.
    """
    array, described = arrays[0], [(shard.rows, set(shard.files)) for shard in shards]
    # Compare the number of shards first: for a wrong card, the list of all shards may not fit into memory.
    if len(described) != array.num_shards or described != [
        (len(array.rows_of(number)), {shard_file(each.name, number) for each in arrays})
        for number in range(array.num_shards)
    ]:
        raise UserError(
            f"{card} counts {array.count:,} rows, but its shards have another number; it was edited or damaged"
        )
    for number, shard in enumerate(shards):
        for path in shard.damaged(card.parent):
            raise UserError(f"{path} is missing, truncated or not the file that {card.name} describes; {again}")
        for each in arrays:
            each.open(number)


def open_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """Memory-map a `.npy` file of exactly this type and shape, in C order. Raises `UserError` for other files."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # Python's parser raises many kinds of errors for a bad header
        raise UserError(f"{path} is not a .npy file with an array ({str(error)[:80]}); it is damaged") from None
    if (array.dtype, array.shape) != (dtype, shape) or not array.flags.c_contiguous:
        raise UserError(f"{path} holds {array.dtype} {array.shape}, but it must hold {np.dtype(dtype)} {shape}")
    # Return a view, because NumPy's class for memory-mapped arrays is slow to index.
    return array.view(np.ndarray)


def shard_file(name: str, shard: int) -> str:
    return f"{name}-{shard:05d}.npy"


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file under a temporary name, and rename it."""
    with storage.new_file(path) as partial, open(partial, "wb") as file:
        np.save(file, array)


def write_shard(directory: Path, number: int, arrays: Mapping[str, np.ndarray]) -> ShardInfo:
    """Write the files of one shard. `arrays`: the arrays by name, all with the same number of rows."""
    files = {}
    for name, array in arrays.items():
        path = directory / shard_file(name, number)
        write_array(path, array)
        files[path.name] = FileInfo.of(path)
    return ShardInfo(len(next(iter(arrays.values()))), files)


def write_mark(work: Path, number: int, shard: ShardInfo) -> None:
    """Mark a shard as finished in a working directory."""
    with storage.new_file(_mark(work, number)) as partial:
        partial.write_text(json.dumps(asdict(shard)))


def finished(work: Path, number: int, *, directory: Path) -> ShardInfo | None:
    """Return the description of a shard in `directory` if it was written completely, else None."""
    try:
        shard = schema.make(ShardInfo, storage.read_json(_mark(work, number)), _mark(work, number))
        return None if shard.damaged(directory) else shard
    except UserError:
        return None


def _mark(work: Path, number: int) -> Path:
    return work / "done" / f"{number:05d}.json"
