"""Settings that all corpora have: `corpus.` on the command line."""

from dataclasses import dataclass, field, fields
from typing import Any

from smim.errors import UserError, not_among, refuse, too_low
from smim.preparation.cleaning import Cleaning
from smim.preparation.vocabulary import TokenizerArgs

_ON_ERROR = ["fail", "skip"]
_LEAST_SHARD_BYTES = 1000


@dataclass(frozen=True, kw_only=True)
class CorpusArgs(Cleaning):
    """`path`: the source, a file, a folder, a pattern or a list of them. `seed` decides every draw.

    `on_error`: fail at the first bad line, or skip and count them. `deduplicate`: keep the first of equal sentences.
    `without`: files of sentences that are left out, compared by their letters and digits, such as those of an
    evaluation. `shard_bytes`: text of a shard; null goes by the size of the input. `teacher` is of training alone.
    """

    builder: str
    name: str
    dir: str
    teacher: str | None = None
    path: Any = None
    seed: int = 0
    on_error: str = "fail"
    deduplicate: bool = False
    without: Any = None
    shard_bytes: int | None = None
    tokenizer: TokenizerArgs = field(default_factory=TokenizerArgs)

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = not_among(self, "corpus", on_error=_ON_ERROR)
        if self.teacher is not None:
            problems.append("corpus.teacher is for training; `smim teach` makes it of a corpus that is prepared")
        problems += too_low(self, "corpus", seed=0, shard_bytes=_LEAST_SHARD_BYTES)
        refuse(problems)

    @property
    def cleaning(self) -> Cleaning:
        return Cleaning(**{each.name: getattr(self, each.name) for each in fields(Cleaning)})

    @property
    def sources(self) -> list[str]:
        """The files and folders that the text comes from, as they are given."""
        return as_paths(self.path)

    def given_paths(self, example: str) -> list[str]:
        """`path` as a list; raises `UserError` with an example where it is missing."""
        if self.path is None:
            raise UserError(f"which file? give corpus.path={example}")
        return as_paths(self.path)


def as_paths(given: Any) -> list[str]:
    """A setting that holds a path, a list of them, or none, as a list."""
    return [str(each) for each in (given if isinstance(given, list | tuple) else [given]) if each is not None]
