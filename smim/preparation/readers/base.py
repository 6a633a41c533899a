"""The interface and common code of readers: pieces of files, bad lines, and blocks of texts with labels."""

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

# The longest line or text that is read. It must exceed BLOCK_BYTES.
MAX_LINE_BYTES = 10_000_000

TEXT = "text"

# Suffixes of compressed files. ARROWS has those that Arrow unpacks, with its name for the format.
ARROWS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
COMPRESSIONS = (*ARROWS, ".xz", ".lzma")


@dataclass(frozen=True)
class Piece:
    """A range of a file that one worker reads: [start, stop) in bytes, or in row groups of a Parquet file.

    `stop=None` means the end of the file. A line belongs to the piece that contains its first byte.
    """

    path: Path
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Fault:
    """The reason why a line or row is bad: the kind under which it is counted, and the message to the user."""

    kind: str
    message: str


NUL = Fault("NUL byte", "a NUL byte; is this a text file?")
MISSING_TEXT = Fault("missing text", "the text is missing (null)")
INFINITE = Fault("infinite label", "a label is an infinite number")
TOO_LONG = Fault("line too long", f"longer than {MAX_LINE_BYTES // 1_000_000} MB; is this text with line ends?")


@dataclass(frozen=True)
class Intake:
    """The handling of bad lines or rows of one file: the first one raises an error, or all are counted by kind."""

    path: Path
    skip_bad: bool = False
    left_out: Counter[str] = field(default_factory=Counter)

    def refuse(self, fault: Fault, where: Callable[[], str]) -> None:
        """Count a bad line or row, or raise `UserError`. `where` is called only for the error, as it may be slow."""
        if not self.skip_bad:
            raise UserError(
                f"{self.path}, {where()}: {fault.message}. To leave out bad lines and rows, give corpus.on_error=skip"
            )
        self.left_out[fault.kind] += 1


class Reader(ABC):
    """The interface of readers. A reader reads files as blocks: tables of strings with the column `text` and labels.

    A block may lack some of the `label_columns`. A label without a value is null: NaN, a missing key, or an empty cell.
    Readers are frozen dataclasses, so that they can be sent to workers.
    """

    label_columns: tuple[str, ...] = ()

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """Cut a file into pieces of about `piece_bytes`, by default into one piece.

        Raises `UserError` if the file cannot be opened.
        """
        return [Piece(path)]

    @abstractmethod
    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        """Yield the blocks of one piece, with about `BLOCK_BYTES` of text each.

        A bad line or row raises `UserError` with its place in the file. With `skip_bad`, it is left out and counted in
        `left_out` under its kind. Empty texts are always left out, and counted as "empty".
        """


@dataclass(frozen=True)
class ChangedReader(Reader):
    """A reader that changes each block of another reader."""

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
        """Return the block for the corpus, and count the rows that it leaves out in `left_out`."""


class FileReader(Reader):
    """The base class for file formats. It trims texts, leaves out and counts empty ones, and reports errors."""

    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        """See `Reader.blocks`. Each block has at least one row."""
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
        """Return the columns of a file, or None if its rows may differ. Raises `UserError` if it cannot be opened."""
        return None

    def pieces(self, path: Path, *, piece_bytes: int) -> list[Piece]:
        """See `Reader.pieces`. Compressed files are one piece, others are cut every `piece_bytes`."""
        with reading(path), open(path, "rb") as file:
            size = file.seek(0, io.SEEK_END)
        if is_compressed(path):
            return [Piece(path)]
        return [Piece(path, start, min(start + piece_bytes, size)) for start in range(0, size, piece_bytes)]

    @abstractmethod
    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """Yield blocks before their texts are trimmed. The first column is the text."""


@dataclass(frozen=True)
class ColumnReader(FileReader):
    """The base class for formats with columns. One column is the text, others are labels."""

    text_column: str
    label_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `UserError` if the wanted columns cannot be in one block."""
        wrong = [f"{name!r} is given twice" for name, count in Counter(self.label_columns).items() if count > 1]
        if self.text_column in self.label_columns:
            wrong.append(f"{self.text_column!r} is the column of the text, so it cannot be a label")
        elif TEXT in self.label_columns:
            wrong.append(f"a label cannot be called {TEXT!r}, because the text itself is stored under this name")
        if wrong:
            raise UserError(f"corpus.label_columns: {'; '.join(wrong)}")

    def find_columns(self, present: Sequence[str], path: Path) -> dict[str, int]:
        """Find the positions of the text and of the labels: see the function `find_columns`."""
        return find_columns(self.text_column, self.label_columns, present, path)


def block_of(rows: Sequence[tuple[str | None, ...]], label_columns: Sequence[str]) -> pa.Table:
    """Make a block from rows of a text and its labels."""
    names = [TEXT, *label_columns]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table([pa.array(column, pa.string()) for column in columns], names)


def find_columns(text: str, labels: Sequence[str], present: Sequence[str], path: Path) -> dict[str, int]:
    """Return the positions of the text and of the labels among the columns that are `present`.

    Labels may be missing. Raises `UserError` with a list of the columns if the text is missing or a name is repeated.
    """
    for column in (text, *labels):
        if column in (text, *present) and present.count(column) != 1:
            amount = "more than one" if column in present else "no"
            raise UserError(f"{path} has {amount} column {column!r}; its columns: {listed(present)}")
    return {column: present.index(column) for column in (text, *labels) if column in present}


def listed(columns: Sequence[str]) -> str:
    """Format the columns of a file for a message."""
    return ", ".join(map(repr, columns[:30])) + (", ..." if len(columns) > 30 else "")


def is_compressed(path: Path) -> bool:
    """Check whether a file's suffix is that of a compressed format."""
    return path.suffix.lower() in COMPRESSIONS


def text_fault(text: str) -> Fault | None:
    """Return the fault of a string from a format with escapes: a NUL, or half of a surrogate pair."""
    if "\0" in text:
        return NUL
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Fault("invalid UTF-8", f"half of a surrogate pair at character {error.start + 1} of a value")
    return None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert the errors of opening and reading a file into errors for the user."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, but a file is needed") from None
    except PermissionError:
        raise UserError(f"{path} cannot be read: permission denied") from None
    except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
        # Arrow reports content that it cannot decode as an OSError without a number.
        if isinstance(error, OSError) and error.errno:
            raise SmimError(f"{path} cannot be read: {error}") from None
        reason, kind = str(error).splitlines()[0].rstrip(". "), f"{path.suffix} file".strip()
        raise UserError(f"{path} is damaged, truncated, or not a {kind} ({reason}); fetch or make it again") from None
