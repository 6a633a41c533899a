"""Arrays on disk in shards, whose files are checked by their hashes and memory-mapped.

A shard is a few files of the same rows, NAME-00000.npy, plain arrays of fp32 or fp16; row i of all shards in their
order is row i of what they belong to. A job that writes them marks each one that is finished, with its hashes.
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
    """A file's size, its SHA-256, and `storage.sampled_sha256`, which is checked whenever the file is opened."""

    bytes: int
    sha256: str
    sampled_sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        return cls(path.stat().st_size, storage.sha256(path), storage.sampled_sha256(path))

    def is_whole(self, path: Path) -> bool:
        """Whether the file is there, as long as it was, and the same at the places sampled."""
        return (
            path.is_file() and path.stat().st_size == self.bytes and storage.sampled_sha256(path) == self.sampled_sha256
        )


@dataclass(frozen=True)
class ShardInfo:
    """How many `rows` a shard has, and the files that hold them, by name."""

    rows: int
    files: dict[str, FileInfo]

    def damaged(self, directory: Path) -> list[Path]:
        """Those of its files in a directory that are not the ones that they were; `UserError` for a wrong name."""
        paths = {storage.own_file(directory, name): file for name, file in self.files.items()}
        return [path for path, file in paths.items() if not file.is_whole(path)]


class InShards:
    """What has `count` rows in shards of `rows_per_shard`, but for the last."""

    count: int
    rows_per_shard: int

    def rows_of(self, shard: int) -> range:
        """The rows that a shard holds."""
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
        """The given rows, in their order, fp32 [len(rows), width]; `UserError` where they hold NaN or infinity."""
        numbers = np.asarray(rows, np.int64)
        found = np.empty((len(numbers), self.width), np.float32)
        shard_of = numbers // self.rows_per_shard
        for shard in np.unique(shard_of).tolist():
            here = shard_of == shard
            # Opened anew each time, so that what was read does not stay mapped.
            found[here] = self.open(shard)[numbers[here] - shard * self.rows_per_shard]
        if not np.isfinite(found).all():
            raise UserError(f"{self.directory} holds numbers of {self.name} that are NaN or infinite; make it again")
        return found

    def open(self, shard: int) -> np.ndarray:
        """A shard, memory-mapped; raises `UserError` where its file has another shape."""
        path = storage.own_file(self.directory, shard_file(self.name, shard))
        return open_array(path, DTYPES[self.dtype], (len(self.rows_of(shard)), self.width))


def check_shards(arrays: Sequence[ShardedArray], shards: Sequence[ShardInfo], card: Path, *, again: str) -> None:
    """Raises `UserError` unless `shards`, which a `card` beside them names, are those of the arrays, and whole.

    `again` says what makes them again.
    """
    array, described = arrays[0], [(shard.rows, set(shard.files)) for shard in shards]
    # The number first: a card may count more rows than fit into memory as ranges.
    if len(described) != array.num_shards or described != [
        (len(array.rows_of(number)), {shard_file(each.name, number) for each in arrays})
        for number in range(array.num_shards)
    ]:
        raise UserError(f"{card}: its shards do not have the {array.count:,} rows that it counts; it was edited")
    for number, shard in enumerate(shards):
        for path in shard.damaged(card.parent):
            raise UserError(f"{path} is missing, truncated or not the file that {card.name} names; {again}")
        for each in arrays:
            each.open(number)


def open_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """A `.npy` file of just this type and shape, row upon row; raises `UserError` for any other."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # whatever Python's own parser says to a header
        raise UserError(f"{path} is no array in a file ({str(error)[:80]}); it is damaged") from None
    if (array.dtype, array.shape) != (dtype, shape) or not array.flags.c_contiguous:
        raise UserError(f"{path} holds {array.dtype} {array.shape} where {np.dtype(dtype)} {shape} is needed")
    # A view: numpy's own class of memory-mapped arrays is slow to index.
    return array.view(np.ndarray)


def shard_file(name: str, shard: int) -> str:
    return f"{name}-{shard:05d}.npy"


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a `.npy` file beside its place, and renames it in."""
    with storage.new_file(path) as partial, open(partial, "wb") as file:
        np.save(file, array)


def write_shard(directory: Path, number: int, arrays: Mapping[str, np.ndarray]) -> ShardInfo:
    """Writes the files of one shard, by name, all of them with as many rows."""
    files = {}
    for name, array in arrays.items():
        path = directory / shard_file(name, number)
        write_array(path, array)
        files[path.name] = FileInfo.of(path)
    return ShardInfo(len(next(iter(arrays.values()))), files)


def write_mark(work: Path, number: int, shard: ShardInfo) -> None:
    """Says in a working directory that a shard is finished."""
    with storage.new_file(_mark(work, number)) as partial:
        partial.write_text(json.dumps(asdict(shard)))


def finished(work: Path, number: int, *, directory: Path) -> ShardInfo | None:
    """A shard in `directory` that an earlier job, or another process, has written whole."""
    try:
        shard = schema.make(ShardInfo, storage.read_json(_mark(work, number)), _mark(work, number))
        return None if shard.damaged(directory) else shard
    except UserError:
        return None


def _mark(work: Path, number: int) -> Path:
    return work / "done" / f"{number:05d}.json"
