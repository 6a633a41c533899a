"""Reading files in chunks of whole lines: plain files from any byte on, compressed files from the start."""

import codecs
import io
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from smim.errors import UserError
from smim.preparation.readers.base import (
    ARROWS,
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    NUL,
    TOO_LONG,
    Fault,
    Intake,
    Piece,
    is_compressed,
    reading,
)

_BUFFER_BYTES = 1 << 20
_LONE_CR = re.compile(rb"\r(?!\n)")
_BOMS = re.compile(rb"^(?:\xef\xbb\xbf)+", re.MULTILINE)


@dataclass(frozen=True)
class Chunk:
    """Whole lines, and their `offset` in the unpacked file. The last line may lack its line end."""

    path: Path
    offset: int
    data: bytes

    def where(self, index: int = 0) -> str:
        """Return `line N` for the chunk's line `index`. It reads the file from the start to count lines."""
        with open_lines(self.path) as file:
            left, before = self.offset, 0
            while left and (data := file.read(min(BLOCK_BYTES, left))):
                left, before = left - len(data), before + data.count(b"\n")
        return f"line {before + index + 1}"

    def without_long_line(self) -> "Chunk":
        """Return the chunk without its last line if that is too long. Only the last line can be too long."""
        last = self.data.rfind(b"\n", 0, -1) + 1
        too_long = len(self.data) - last > MAX_LINE_BYTES + self.data.endswith(b"\n")
        return replace(self, data=self.data[:last]) if too_long else self


class _UniversalLineEnds(io.RawIOBase):
    """A file in which a CR without an LF reads as LF. So all lines end in LF, and each byte keeps its position."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._file.read(len(view))
        if b"\r" in data:
            after = self._file.peek(1)[:1] if data.endswith(b"\r") else b""
            data = _LONE_CR.sub(b"\n", data + after)[: len(data)]
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_lines(path: Path) -> io.BufferedReader:
    """Open a text file as bytes, unpacked if its suffix says that it is compressed. Lines end in LF or CR LF."""
    suffix = path.suffix.lower()
    packed: Any
    if path.is_dir() or not is_compressed(path):
        packed = open(path, "rb", buffering=0)  # noqa: SIM115, closed with what is returned
    elif suffix in ARROWS:
        packed = pa.input_stream(str(path), compression=ARROWS[suffix])
    else:
        packed = lzma.open(path)  # noqa: SIM115
    return io.BufferedReader(_UniversalLineEnds(io.BufferedReader(packed, _BUFFER_BYTES)), _BUFFER_BYTES)


def read_chunks(piece: Piece, intake: Intake) -> Iterator[Chunk]:
    """Yield the lines that begin in `piece`, in order, as chunks of about `BLOCK_BYTES`.

    A line ends in LF, CR LF or CR. A BOM at its beginning is removed, because joined files have several.

    A line of more than `MAX_LINE_BYTES` goes to `intake`, and is never in memory as a whole. Raises `UserError` if the
    file is UTF-16, and the errors of the operating system and of Arrow.
    """
    with open_lines(piece.path) as file:
        offset = _first_line_start(file, piece)
        while piece.stop is None or offset < piece.stop:
            data = file.read(BLOCK_BYTES if piece.stop is None else min(BLOCK_BYTES, piece.stop - offset))
            if not data:
                return
            if not data.endswith(b"\n"):
                data += file.readline(MAX_LINE_BYTES + 1)
            if offset == 0:
                _check_not_utf16(data, piece.path)
            chunk, offset = Chunk(piece.path, offset, _without_boms(data)), offset + len(data)
            short = chunk.without_long_line()
            if short is not chunk:
                intake.refuse(TOO_LONG, partial(chunk.where, short.data.count(b"\n")))
                if not data.endswith(b"\n"):
                    offset += _skip_line(file, None if piece.stop is None else piece.stop - offset)
            if short.data:
                yield short


def text_lines(chunk: Chunk, intake: Intake) -> Iterator[tuple[int, str]]:
    """Return the lines of a chunk with their numbers in it, without line ends. Bad lines go to `intake`."""
    if line_fault(chunk.data) is None:
        lines = chunk.data.decode().removesuffix("\n").split("\n")
        return ((number, line.removesuffix("\r")) for number, line in enumerate(lines))
    return ((number, line.decode().removesuffix("\r")) for number, line in good_lines(chunk, intake))


def good_lines(chunk: Chunk, intake: Intake) -> Iterator[tuple[int, bytes]]:
    """Yield lines as `text_lines` does, but as bytes. This is slow, and only needed for chunks with bad lines."""
    for number, line in enumerate(chunk.data.removesuffix(b"\n").split(b"\n")):
        if fault := line_fault(line):
            intake.refuse(fault, partial(chunk.where, number))
        else:
            yield number, line


def line_fault(line: bytes) -> Fault | None:
    """Return the fault of bytes that are not text: a NUL, or invalid UTF-8. None means that they are text."""
    if b"\0" in line:
        return NUL
    if line.isascii():
        return None
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return Fault(
            "invalid UTF-8",
            f"not UTF-8 ({error.reason} at byte {error.start + 1} of the line); convert the file first, "
            f"for example with `iconv -f latin1 -t utf-8`",
        )
    return None


def first_line(path: Path) -> str:
    """Return a file's first line without its end, or "" for an empty file. Raises `UserError` if it is unreadable."""
    intake = Intake(path)
    with reading(path):
        for chunk in read_chunks(Piece(path, 0, 1), intake):
            return next(text_lines(chunk, intake))[1]
    return ""


def _first_line_start(file: BinaryIO, piece: Piece) -> int:
    """Move to the first line that begins in the piece, or beyond its end if there is none. Return the offset."""
    if piece.start == 0:
        return 0
    file.seek(piece.start - 1)
    return piece.start - 1 + _skip_line(file, None if piece.stop is None else piece.stop - piece.start + 1)


def _skip_line(file: BinaryIO, most: int | None) -> int:
    """Read to the next line end, or until at least `most` bytes are read. Return the number of bytes."""
    skipped = 0
    while (most is None or skipped < most) and (part := file.readline(_BUFFER_BYTES)):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _without_boms(data: bytes) -> bytes:
    return _BOMS.sub(b"", data) if codecs.BOM_UTF8 in data else data


def _check_not_utf16(data: bytes, path: Path) -> None:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(
            f"{path} is UTF-16, but UTF-8 is needed; convert it, for example with "
            f"`iconv -f utf-16 -t utf-8 {path} > utf8.txt`"
        )
