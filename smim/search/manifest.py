"""The description of an index, `manifest.json`. Replacing this file makes a change of the index visible.

    DIR/manifest.json  00000001/  00000002/  00000001.deleted-00000003.npy  writer.lock

Segments never change once the manifest names them; a delete writes a new mask beside its segment. Readers, and restarts
after a crash, therefore see the index either before a change or after it.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from smim import schema, shards, storage
from smim.errors import UserError, not_among, refuse, refuse_if, too_low
from smim.search.errors import Unreadable
from smim.search.factory import METRICS
from smim.search.query import check_settings
from smim.shards import DTYPES
from smim.text.sentences import SPLITS

FORMAT = 3
MANIFEST = "manifest.json"
PARTS = ("meaning",)
LOCK = "writer.lock"  # inside the index, because a machine may see nothing else of the file system
_CHECKSUM = "sha256"
_SEGMENT = re.compile(r"\d{8}")


class FileInfo(shards.FileInfo):
    """A file of an index."""

    def check(self, path: Path) -> None:
        """Raise `Unreadable` unless the file exists, with the same size and the same content at sampled places."""
        if not path.is_file():
            raise Unreadable(f"{path} is missing; build the index again")
        if not self.is_whole(path):
            raise Unreadable(
                f"{path} differs from its description in {MANIFEST}; it is truncated or damaged. Build the index again"
            )

    def check_whole(self, path: Path) -> None:
        """Check as `check` does, but read the whole file."""
        self.check(path)
        if storage.sha256(path) != self.sha256:
            raise Unreadable(f"{path} was changed or damaged after it was written; build the index again")


def segment_name(number: int) -> str:
    return f"{number:08d}"


@dataclass(frozen=True)
class SegmentInfo:
    """A part of the index's sentences: `count` rows, of which `num_deleted` are marked in the file `deleted`.

    `factory`: the FAISS factory of this segment. `files`: the files of its folder, and `deleted` by its name, if any.
    `num_texts`: the number of texts that the live rows belong to; None if each row is a text.
    """

    name: str
    factory: str
    count: int
    files: dict[str, FileInfo]
    num_deleted: int = 0
    deleted: str | None = None
    num_texts: int | None = None

    @property
    def num_live(self) -> int:
        return self.count - self.num_deleted

    @property
    def is_split(self) -> bool:
        """Whether several rows may be sentences of one text."""
        return self.num_texts is not None

    def __post_init__(self) -> None:
        mask = re.compile(rf"{self.name}\.deleted-\d{{8}}\.npy")
        refuse_if({
            f"a segment has the invalid name {self.name[:60]!r} or mask {str(self.deleted)[:60]!r}":
                not _SEGMENT.fullmatch(self.name) or (self.deleted is not None and not mask.fullmatch(self.deleted)),
            f"segment {self.name[:60]} has {self.count} rows, of which {self.num_deleted} are deleted":
                self.num_deleted > self.count or self.count < 1 or (self.num_deleted > 0) != (self.deleted is not None),
            f"segment {self.name[:60]} has {self.num_texts} texts of {self.num_live} sentences":
                self.num_texts is not None and self.num_texts > self.num_live,
        })  # fmt: skip

    def path(self, directory: Path, file: str) -> Path:
        """The path of one of `files`; raises `UserError` for a name or a link that leads out of the index."""
        return storage.own_file(directory, file if file == self.deleted else f"{self.name}/{file}")


@dataclass(frozen=True)
class Manifest:
    """The description of an index on disk. `model` is a path at the time when the index was built.

    `version` counts the changes. `factory` is the requested one, perhaps `auto`. `store` is the precision of the codes
    kept beside FAISS's approximate ones. `search` holds the default search settings by name. `columns` are the labels'
    names. `next_id` is above every id that was ever used. `num_segments`: the number of segments at building, before
    changes added small ones. `memory`: the bytes that `auto` may use; None for half of the machine's. `column_types`:
    Arrow's types of the text and the labels, kept when deletions leave no segment. `part`: `meaning` if only the
    meaning part of codes is stored; `dimension` is then its size. `split`: how texts are split, `auto` or `sentences`;
    None if they are not. `measured`: for the approximate segments written last, the `recall` at `k` over `queries` of
    their own sentences, and the `seconds` of a query, with the settings chosen then.
    """

    version: int
    model: str
    model_hash: str
    tokenizer_hash: str
    metric: str
    factory: str
    store: str
    dimension: int
    next_id: int
    columns: list[str]
    search: dict[str, int]
    segments: list[SegmentInfo]
    num_segments: int = 1
    memory: int | None = None
    part: str | None = None
    split: str | None = None
    column_types: dict[str, str] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        problems = not_among(self, "manifest", metric=METRICS, store=DTYPES) + too_low(self, "manifest", dimension=1)
        if self.part is not None:
            problems += not_among(self, "manifest", part=PARTS)
        if self.split is not None:
            problems += not_among(self, "manifest", split=SPLITS)
        twice = len({segment.name for segment in self.segments}) < len(self.segments)
        refuse(problems + ["two segments have the same name"] * twice)
        check_settings(self.search)

    @property
    def count(self) -> int:
        """The number of texts that can be found; a text that was split into sentences counts once."""
        return sum(segment.num_live if segment.num_texts is None else segment.num_texts for segment in self.segments)

    @property
    def num_sentences(self) -> int:
        """The number of sentences that can be found."""
        return sum(segment.num_live for segment in self.segments)

    @property
    def is_split(self) -> bool:
        """Whether texts may have several sentences. A hit is then a text, and searches compare words too by default."""
        return any(segment.is_split for segment in self.segments)

    @property
    def size(self) -> str:
        """The numbers of texts and sentences, for messages."""
        texts = f"{self.count:,} texts, as " if self.is_split else ""
        return f"{texts}{self.num_sentences:,} sentences"

    def changed(self, **fields: Any) -> "Manifest":
        """The next version, with changed fields."""
        return replace(self, version=self.version + 1, **fields)

    def write(self, directory: Path) -> None:
        optional = ("memory", "part", "split", "column_types", "measured")  # unknown to older versions
        content = {name: value for name, value in asdict(self).items() if value or name not in optional}
        for segment in content["segments"]:
            if segment["num_texts"] is None:
                del segment["num_texts"]
        content["count"] = self.count
        storage.write_json(directory / MANIFEST, {**content, _CHECKSUM: _checksum(content)})

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Read a manifest; raises `Unreadable` if it is missing, damaged, edited, or of another format."""
        path = directory / MANIFEST
        if not path.exists():
            raise Unreadable(
                f"{directory} is not an index (no {MANIFEST} in it); make one with "
                f"`smim index build MODEL CORPUS -o {directory}`"
            )
        try:
            content = storage.read_json(storage.own_file(directory, MANIFEST))
            if content.get("format") != FORMAT:
                raise UserError(
                    f"{directory} has index format {content.get('format')}, but this version reads {FORMAT}; "
                    "build it again"
                )
            if content.pop(_CHECKSUM, None) != _checksum(content):
                raise UserError(f"{path} was edited or damaged; build the index again")
            content.pop("count", None)  # only for human readers; the segments determine it
            return schema.make(cls, content, path)
        except UserError as error:
            raise Unreadable(str(error)) from None


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of a manifest's content, whatever the order and the spacing of its JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
