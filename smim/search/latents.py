"""The codes of a corpus's split on disk, in shards: what `smim encode` writes and an index is built from.

    DIR/latents.json  mean-00000.npy  [log_variance-00000.npy]  mean-00001.npy ...

Each file is a plain array [rows, D], fp32 or fp16; row i of all shards in their order is row i of the split.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from smim import schema, storage
from smim.errors import UserError, not_among, refuse, too_low
from smim.search.files import DTYPES, open_array
from smim.search.manifest import FileInfo

CARD = "latents.json"
FORMAT = 1


@dataclass(frozen=True)
class ShardInfo:
    """`rows` of the split, and the files that hold their codes, by name."""

    rows: int
    files: dict[str, FileInfo]

    def is_whole(self, directory: Path) -> bool:
        try:
            for name, file in self.files.items():
                file.check(storage.own_file(directory, name))
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

    def __post_init__(self) -> None:
        problems = too_low(self, "the card", count=1, dimension=1, rows_per_shard=1)
        refuse(problems + not_among(self, "the card", dtype=DTYPES))

    def rows_of(self, shard: int) -> range:
        """The split's rows that a shard holds."""
        return range(self.count)[shard * self.rows_per_shard :][: self.rows_per_shard]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What there is a file of in each shard."""
        return ("mean", "log_variance")[: 1 + self.has_log_variance]

    @property
    def num_shards(self) -> int:
        return -(-self.count // self.rows_per_shard)


@dataclass(frozen=True)
class _Card(LatentsCard):
    shards: list[ShardInfo]


@dataclass(frozen=True)
class Latents(_Card):
    """A latents directory that was opened with `Latents.open`."""

    directory: Path

    @classmethod
    def open(cls, directory: Path | str) -> "Latents":
        """Raises `UserError` where it is missing, of another format, or one of its files is not the one it was."""
        directory = Path(directory)
        path = directory / CARD
        if not path.is_file():
            raise UserError(f"{directory} holds no latents (no {CARD} in it); `smim encode` makes them of a corpus")
        content = storage.read_json(storage.own_file(directory, CARD))
        if content.pop("format", None) != FORMAT:
            raise UserError(f"{directory} is no latents directory of format {FORMAT}; encode the corpus again")
        if "log_variance" in content:
            content["has_log_variance"] = content.pop("log_variance")
        card = schema.make(_Card, content, path)
        described = [(shard.rows, set(shard.files)) for shard in card.shards]
        # The number first: a card may count more rows than fit into memory as ranges.
        if len(described) != card.num_shards or described != [
            (len(card.rows_of(number)), {file_name(kind, number) for kind in card.kinds})
            for number in range(card.num_shards)
        ]:
            raise UserError(f"{path}: its shards do not have the {card.count:,} rows that it counts; it was edited")
        latents = cls(**vars(card), directory=directory)
        for number, shard in enumerate(card.shards):
            for name, file in shard.files.items():
                if not ShardInfo(shard.rows, {name: file}).is_whole(directory):
                    raise UserError(
                        f"{directory / name} is missing, truncated or not the file that {CARD} names; "
                        "encode the corpus again"
                    )
                latents._open(number, name)
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
            stored = self._open(int(shard), file_name(kind, int(shard)))
            codes[here] = stored[numbers[here] - shard * self.rows_per_shard]
        if not np.isfinite(codes).all():
            raise UserError(f"{self.directory} holds codes that are NaN or infinite; encode the corpus again")
        return codes

    def _open(self, shard: int, name: str) -> np.ndarray:
        shape = (len(self.rows_of(shard)), self.dimension)
        return open_array(storage.own_file(self.directory, name), DTYPES[self.dtype], shape)


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


def write_card(directory: Path, card: LatentsCard, shards: list[ShardInfo]) -> None:
    """Writes `latents.json`, which makes the shards beside it a latents directory."""
    described = {"format": FORMAT, **asdict(card), "shards": [asdict(shard) for shard in shards]}
    described["log_variance"] = described.pop("has_log_variance")
    storage.write_json(directory / CARD, described)
