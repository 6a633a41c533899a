"""What all readers share: pieces of work, what is left out, and blocks of texts with their labels."""

import io
import lzma
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import SmimError, UserError

# A block holds about this many bytes of text.
BLOCK_BYTES = 1 << 20

# The longest line or text that is read; what is longer is no text with line ends. Above BLOCK_BYTES.
MAX_LINE_BYTES = 10_000_000

TEXT = "text"

# Compressed files by their suffix; those that Arrow unpacks with its name for it.
ARROWS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
COMPRESSIONS = (*ARROWS, ".xz", ".lzma")


@dataclass(frozen=True)
class Piece:
    """What one worker reads at one time: [start, stop) in bytes, or in row groups of a Parquet file.

    `stop=None` means to the end. A line belongs to the piece in which its first byte lies.
    """

    path: Path
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Fault:
    """Why a line or row is bad: the kind under which it is counted, and what the user is told."""

    kind: str
    message: str


NUL = Fault("NUL byte", "a NUL byte; is this a text file?")
MISSING_TEXT = Fault("missing text", "the text is missing (null)")
INFINITE = Fault("infinite label", "a label is an infinite number")
TOO_LONG = Fault("line too long", f"longer than {MAX_LINE_BYTES // 1_000_000} MB; is this text with line ends?")


@dataclass(frozen=True)
class Intake:
    """What is done with the bad lines or rows of one file: the first one raises, or all are counted by kind."""

    path: Path
    skip_bad: bool = False
    left_out: Counter[str] = field(default_factory=Counter)

    def refuse(self, fault: Fault, where: Callable[[], str]) -> None:
        """Counts a bad line or row, or raises `UserError`; only then `where` is asked, as it may be slow."""
        if not self.skip_bad:
            raise UserError(f"{self.path}, {where()}: {fault.message}. corpus.on_error=skip leaves such ones out")
        self.left_out[fault.kind] += 1


class Reader(ABC):
    """Reads files as blocks: tables of `text` and those of `label_columns` that there are, all of them strings.

    A label without a value is null: a number that is none (NaN), a key that is not there, an empty cell. Readers are
    frozen dataclasses, so that they can be sent to workers.
    """

    label_columns: tuple[str, ...] = ()

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """Cuts a file into pieces of about `piece_bytes` (here: one); raises `UserError` where it cannot be opened."""
        return [Piece(path)]

    @abstractmethod
    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        """The blocks of one piece, of about `BLOCK_BYTES` of text each.

        A bad line or row raises `UserError` with its place in the file; with `skip_bad` it is left out and counted in
        `left_out` under its kind, as texts are that are "empty".
        """


@dataclass(frozen=True)
class ChangedReader(Reader):
    """What another reader reads, with something done to each block."""

    reader: Reader

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`."""
        return self.reader.pieces(path, piece_bytes=piece_bytes)

    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        """See `Reader.blocks`."""
        for block in self.reader.blocks(piece, skip_bad=skip_bad, left_out=left_out):
            yield self.change(block, left_out)

    @abstractmethod
    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        """The block as it is to stand in the corpus; adds to `left_out` what is not."""


class FileReader(Reader):
    """What the formats share: texts are trimmed, the empty ones left out and counted, errors reported to the user."""

    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        """See `Reader.blocks`. No block is without rows."""
        with reading(piece.path):
            for block in self.read(piece, Intake(piece.path, skip_bad, left_out)):
                kept = block.set_column(0, TEXT, pc.utf8_trim_whitespace(block.column(0)))
                filled = pc.not_equal(pc.binary_length(kept.column(0)), 0)
                if num_empty := len(kept) - pc.sum(filled, min_count=0).as_py():
                    kept = kept.filter(filled)
                    left_out["empty"] += num_empty
                if len(kept):
                    yield kept

    def columns(self, path: Path) -> list[str] | None:
        """The columns of a file; None where they are each row's own. Raises `UserError` where it cannot be opened."""
        return None

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`. Cut is at every `piece_bytes`; what is compressed stays whole."""
        with reading(path), open(path, "rb") as file:
            size = file.seek(0, io.SEEK_END)
        if is_compressed(path):
            return [Piece(path)]
        return [Piece(path, start, min(start + piece_bytes, size)) for start in range(0, size, piece_bytes)]

    @abstractmethod
    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """What `blocks` gives, before the texts are trimmed; they are the first column."""


@dataclass(frozen=True)
class ColumnReader(FileReader):
    """A format with columns, of which one is the text and some are labels."""

    text_column: str
    label_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `UserError` where the columns that are asked for cannot stand side by side in a block."""
        wrong = [f"{name!r} is given twice" for name, count in Counter(self.label_columns).items() if count > 1]
        if self.text_column in self.label_columns:
            wrong.append(f"{self.text_column!r} is the text, it cannot be a label too")
        elif TEXT in self.label_columns:
            wrong.append(f"no label can be called {TEXT!r}, as the text itself is stored under this name")
        if wrong:
            raise UserError(f"corpus.label_columns: {'; '.join(wrong)}")

    def find_columns(self, present: Sequence[str], path: Path) -> dict[str, int]:
        """Where the text and those of the labels are that are present: see `find_columns`."""
        return find_columns(self.text_column, self.label_columns, present, path)


def block_of(rows: Sequence[tuple[str | None, ...]], label_columns: Sequence[str]) -> pa.Table:
    """Rows of a text and its labels as a block."""
    names = [TEXT, *label_columns]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table([pa.array(column, pa.string()) for column in columns], names)


def find_columns(text: str, labels: Sequence[str], present: Sequence[str], path: Path) -> dict[str, int]:
    """Where the text and those of the labels are that are present.

    Raises `UserError` listing the columns that there are where the text is not, or one is twice.
    """
    for column in (text, *labels):
        if column in (text, *present) and present.count(column) != 1:
            amount = "more than one" if column in present else "no"
            raise UserError(f"{path} has {amount} column {column!r}; its columns: {listed(present)}")
    return {column: present.index(column) for column in (text, *labels) if column in present}


def listed(columns: Sequence[str]) -> str:
    """The columns of a file, for a message."""
    return ", ".join(map(repr, columns[:30])) + (", ..." if len(columns) > 30 else "")


def is_compressed(path: Path) -> bool:
    """Whether a file's name says that it is compressed."""
    return path.suffix.lower() in COMPRESSIONS


def text_fault(text: str) -> Fault | None:
    """Why a string from an escaping format is no text: it has a NUL, or half of a surrogate pair."""
    if "\0" in text:
        return NUL
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Fault("invalid UTF-8", f"half of a surrogate pair at character {error.start + 1} of a value")
    return None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what opening and reading a file may raise into errors for the user."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, a file is needed") from None
    except PermissionError:
        raise UserError(f"{path} may not be read: permission denied") from None
    except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
        # Arrow reports content that it cannot decode as an OSError without a number.
        if isinstance(error, OSError) and error.errno:
            raise SmimError(f"{path} cannot be read: {error}") from None
        reason = str(error).splitlines()[0].rstrip(". ")
        raise UserError(
            f"{path} is damaged, cut short, or no {path.suffix} file ({reason}); fetch or make it anew"
        ) from None
