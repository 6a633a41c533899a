"""The codes of a corpus's split on disk, in shards: what `smim encode` writes and an index is built from.

    DIR/latents.json  mean-00000.npy  [log_variance-00000.npy]  mean-00001.npy ...

Each file is a plain array [rows, D], fp32 or fp16; row i of all shards in their order is row i of the split.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from smim import storage
from smim.errors import UserError
from smim.search.manifest import FileInfo

CARD = "latents.json"
FORMAT = 1
DTYPES = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True)
class ShardInfo:
    """`rows` of the split, and the files that hold their codes, by name."""

    rows: int
    files: dict[str, FileInfo]

    def is_whole(self, directory: Path) -> bool:
        try:
            for name, file in self.files.items():
                file.check(directory / name)
        except UserError:
            return False
        return True


@dataclass(frozen=True)
class LatentsCard:
    """What `latents.json` says: `model` and `corpus` are paths as they were, `dtype` is fp32 or fp16.

    `corpus_hash` is `Corpus.hash_of(split)`; `has_log_variance`, in JSON `log_variance`: whether it is there beside the
    mean. Each shard has `rows_per_shard` rows, but for the last.
    """

    model: str
    model_hash: str
    tokenizer_hash: str
    corpus: str
    corpus_name: str
    corpus_hash: str
    split: str
    count: int
    dimension: int
    dtype: str
    has_log_variance: bool
    rows_per_shard: int

    def rows_of(self, shard: int) -> range:
        """The split's rows that a shard holds."""
        return range(self.count)[shard * self.rows_per_shard :][: self.rows_per_shard]

    @property
    def num_shards(self) -> int:
        return -(-self.count // self.rows_per_shard)


@dataclass(frozen=True)
class Latents(LatentsCard):
    """A latents directory that was opened with `Latents.open`."""

    directory: Path
    shards: list[ShardInfo]

    @classmethod
    def open(cls, directory: Path | str) -> "Latents":
        """Raises `UserError` where it is missing, of another format, or one of its files is not the one it was."""
        directory = Path(directory)
        path = directory / CARD
        if not path.is_file():
            raise UserError(f"{directory} holds no latents (no {CARD} in it); `smim encode` makes them of a corpus")
        content = storage.read_json(path)
        if content.pop("format", None) != FORMAT:
            raise UserError(f"{directory} is no latents directory of format {FORMAT}; encode the corpus again")
        try:
            shards = [read_shard_info(shard) for shard in content.pop("shards")]
            has_log_variance = content.pop("log_variance")
            latents = cls(**content, has_log_variance=has_log_variance, directory=directory, shards=shards)
            whole = [len(latents.rows_of(number)) for number in range(latents.num_shards)]
        except (KeyError, TypeError, AttributeError, ZeroDivisionError):
            raise UserError(f"{path} is not the card of latents; it was edited or damaged") from None
        if whole != [shard.rows for shard in shards]:
            raise UserError(f"{path}: its shards do not have the {latents.count:,} rows that it counts; it was edited")
        for shard in shards:
            for name, file in shard.files.items():
                if not ShardInfo(shard.rows, {name: file}).is_whole(directory):
                    raise UserError(
                        f"{directory / name} is missing, truncated or not the file that {CARD} names; "
                        "encode the corpus again"
                    )
        return latents

    def __len__(self) -> int:
        return self.count

    def mean(self, rows: range | np.ndarray) -> np.ndarray:
        """The posterior means of the given rows, in their order, fp32 [len(rows), D]."""
        return self._read("mean", rows)

    def log_variance(self, rows: range | np.ndarray) -> np.ndarray:
        """The posterior log variances of the given rows, fp32 [len(rows), D]; `UserError` where there are none."""
        if not self.has_log_variance:
            raise UserError(f"{self.directory} holds no log variances; encode the corpus with encode.log_variance=true")
        return self._read("log_variance", rows)

    def _read(self, kind: str, rows: range | np.ndarray) -> np.ndarray:
        numbers = np.asarray(rows, np.int64)
        codes = np.empty((len(numbers), self.dimension), np.float32)
        shard_of = numbers // self.rows_per_shard
        for shard in np.unique(shard_of):
            here = shard_of == shard
            # Opened anew each time, so that what was read does not stay mapped.
            stored = np.load(self.directory / file_name(kind, int(shard)), mmap_mode="r")
            codes[here] = stored[numbers[here] - shard * self.rows_per_shard]
        return codes


def file_name(kind: str, shard: int) -> str:
    """`kind`: mean or log_variance."""
    return f"{kind}-{shard:05d}.npy"


def write_shard(directory: Path, number: int, arrays: dict[str, np.ndarray]) -> ShardInfo:
    """Writes the files of one shard, by kind, each beside its place and renamed in."""
    files = {}
    for kind, codes in arrays.items():
        name = file_name(kind, number)
        with storage.new_file(directory / name) as partial, open(partial, "wb") as file:
            np.save(file, codes)
        files[name] = FileInfo.of(directory / name)
    return ShardInfo(len(arrays["mean"]), files)


def read_shard_info(content: dict) -> ShardInfo:
    """A shard as JSON holds it; raises `KeyError`, `TypeError` or `AttributeError` where it is none."""
    return ShardInfo(content["rows"], {name: FileInfo(**file) for name, file in content["files"].items()})


def write_card(directory: Path, card: LatentsCard, shards: list[ShardInfo]) -> None:
    """Writes `latents.json`, which makes the shards beside it a latents directory."""
    described = {"format": FORMAT, **asdict(card), "shards": [asdict(shard) for shard in shards]}
    described["log_variance"] = described.pop("has_log_variance")
    storage.write_json(directory / CARD, described)
