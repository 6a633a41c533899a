"""Settings that all text corpora share (`corpus.` on the command line)."""

from dataclasses import dataclass, field, fields
from typing import Any

from smim import storage
from smim.errors import UserError, refuse
from smim.preparation.cleaning import Cleaning
from smim.preparation.vocabulary import TokenizerArgs
from smim.schema import bounded, out_of_bounds


@dataclass(frozen=True, kw_only=True)
class CorpusArgs(Cleaning):
    """The common settings. `path`: the source, a file, folder, pattern or list of them. `seed`: the random seed.

    `on_error`: fail at the first bad line, or skip and count bad lines. `deduplicate`: keep only the first of equal
    sentences. `without`: files of sentences to leave out, such as evaluation sets, compared by letters and digits.
    `shard_bytes`: bytes of text per shard; if null, the size of the input decides. `teacher`: only for training.
    """

    builder: str
    name: str
    dir: str
    teacher: str | None = None
    path: Any = None
    seed: int = bounded(0, least=0, most=2**63 - 1)
    on_error: str = bounded("fail", among=["fail", "skip"])
    deduplicate: bool = False
    without: Any = None
    shard_bytes: int | None = bounded(None, least=1000)
    tokenizer: TokenizerArgs = field(default_factory=TokenizerArgs)

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = bad_name(self.name) + out_of_bounds(self, "corpus")
        if self.teacher is not None:
            problems.append("corpus.teacher is for training; prepare the corpus without it, then run `smim teach`")
        refuse(problems)

    @property
    def cleaning(self) -> Cleaning:
        return Cleaning(**{each.name: getattr(self, each.name) for each in fields(Cleaning)})

    @property
    def sources(self) -> list[str]:
        """The given files and folders of the text."""
        return as_paths(self.path)

    def given_paths(self, example: str) -> list[str]:
        """Return `path` as a list. Raises `UserError` with an example if it is missing."""
        if self.path is None:
            raise UserError(f"corpus.path is missing; give corpus.path={example}")
        return as_paths(self.path)


def bad_name(name: str) -> list[str]:
    """Return the reason why a corpus may not have this name, which is that of its folder too."""
    if storage.is_name(name):
        return []
    return [f"corpus.name is {name!r}; give a name without a slash, and without a dot at its start"]


def as_paths(given: Any) -> list[str]:
    """Convert a setting (a path, a list of paths, or null) to a list."""
    return [str(each) for each in (given if isinstance(given, list | tuple) else [given]) if each is not None]
