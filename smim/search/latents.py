"""The codes of a corpus's split on disk, in shards. `smim encode` writes them, and an index can be built from them.

    DIR/latents.json  mean-00000.npy  [log_variance-00000.npy]  mean-00001.npy ...

Each file is a plain array [rows, D], fp32 or fp16. Row i of the concatenated shards is row i of the split.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from smim import schema, storage
from smim.errors import UserError, not_among, refuse, too_low
from smim.shards import DTYPES, InShards, ShardedArray, ShardInfo, check_shards

CARD = "latents.json"
FORMAT = 1


@dataclass(frozen=True)
class LatentsCard(InShards):
    """The contents of `latents.json`. `model` and `corpus` are paths at the time of encoding; `dtype` is fp32 or fp16.

    `corpus_hash` is `Corpus.hash_of(split)`. `has_log_variance` (in JSON `log_variance`): whether the log variance is
    stored beside the mean. Each shard except the last has `rows_per_shard` rows.
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

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of arrays; each shard has one file of each."""
        return ("mean", "log_variance")[: 1 + self.has_log_variance]


@dataclass(frozen=True)
class _Card(LatentsCard):
    shards: list[ShardInfo]


@dataclass(frozen=True)
class Latents(_Card):
    """A latents directory that was opened with `Latents.open`."""

    directory: Path

    @classmethod
    def open(cls, directory: Path | str) -> "Latents":
        """Open a directory; raises `UserError` if it is missing, of another format, or one of its files has changed."""
        directory = Path(directory)
        path = directory / CARD
        if not path.is_file():
            raise UserError(f"{directory} is not a latents directory (it has no {CARD}); `smim encode` makes one")
        content = storage.read_json(storage.own_file(directory, CARD))
        if content.pop("format", None) != FORMAT:
            raise UserError(
                f"{directory} does not have format {FORMAT}, which this version reads; encode the corpus again"
            )
        if "log_variance" in content:
            content["has_log_variance"] = content.pop("log_variance")
        card = schema.make(_Card, content, path)
        latents = cls(**vars(card), directory=directory)
        check_shards([latents._array(kind) for kind in card.kinds], card.shards, path, again="encode the corpus again")
        return latents

    def __len__(self) -> int:
        return self.count

    def mean(self, rows: range | np.ndarray) -> np.ndarray:
        """The posterior means of the given rows, in their order, fp32 [len(rows), D]."""
        return self._array("mean").read(rows)

    def log_variance(self, rows: range | np.ndarray) -> np.ndarray:
        """The posterior log variances of the given rows, fp32 [len(rows), D]; raises `UserError` if there are none."""
        if not self.has_log_variance:
            raise UserError(f"{self.directory} holds no log variances; encode the corpus with encode.log_variance=true")
        return self._array("log_variance").read(rows)

    def _array(self, kind: str) -> ShardedArray:
        """`kind`: mean or log_variance."""
        return ShardedArray(self.directory, kind, self.count, self.dimension, self.dtype, self.rows_per_shard)


def write_card(directory: Path, card: LatentsCard, shards: list[ShardInfo]) -> None:
    """Write `latents.json`, which turns a folder of shards into a latents directory."""
    described = {"format": FORMAT, **asdict(card), "shards": [asdict(shard) for shard in shards]}
    described["log_variance"] = described.pop("has_log_variance")
    storage.write_json(directory / CARD, described)
