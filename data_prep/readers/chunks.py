"""Files as chunks of whole lines: plain ones from any byte on, compressed ones from the start."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from data_prep.readers.base import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    NUL,
    TOO_LONG,
    Fault,
    Intake,
    Piece,
    Problems,
    told,
)
from smim.errors import UserError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}

_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Whole lines, of which the last one may lack its line end, and where in the (unpacked) file they begin."""

    path: Path
    offset: int
    data: bytes

    def where(self, index: int = 0) -> str:
        """`line N` for the chunk's line `index`; reads the file from its start in order to count."""
        with open_bytes(self.path) as file:
            left, before = self.offset, 0
            while left and (data := file.read(min(BLOCK_BYTES, left))):
                left, before = left - len(data), before + data.count(b"\n")
        return f"line {before + index + 1}"

    def without_long_line(self) -> "Chunk":
        """The chunk itself, or without its last line where that is too long; others of its lines cannot be."""
        last = self.data.rfind(b"\n", 0, -1) + 1
        too_long = len(self.data) - last > MAX_LINE_BYTES + self.data.endswith(b"\n")
        return replace(self, data=self.data[:last]) if too_long else self


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked where its name says that it is compressed."""
    if path.suffix in COMPRESSIONS and not path.is_dir():
        packed = pa.input_stream(str(path), compression=COMPRESSIONS[path.suffix])
        return cast(BinaryIO, io.BufferedReader(packed, _BUFFER_BYTES))
    return open(path, "rb", buffering=_BUFFER_BYTES)


def byte_pieces(path: Path, *, piece_bytes: int) -> list[Piece]:
    """Cuts a file at every `piece_bytes`; a compressed one stays whole. Raises `UserError`, see `told`."""
    with told(path), open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
    if path.suffix in COMPRESSIONS:
        return [Piece(path)]
    return [Piece(path, start, min(start + piece_bytes, size)) for start in range(0, size, piece_bytes)]


def read_chunks(piece: Piece, intake: Intake) -> Iterator[Chunk]:
    """The lines that begin in `piece`, in order, as chunks of about `BLOCK_BYTES`; a BOM is left out.

    A line of more than `MAX_LINE_BYTES` goes to `intake`, and is never held as a whole. Raises `UserError`
    where the file is UTF-16, and what the operating system and Arrow raise.
    """
    with open_bytes(piece.path) as file:
        offset = _first_line_start(file, piece)
        while piece.stop is None or offset < piece.stop:
            data = file.read(BLOCK_BYTES if piece.stop is None else min(BLOCK_BYTES, piece.stop - offset))
            if not data:
                return
            if not data.endswith(b"\n"):
                data += file.readline(MAX_LINE_BYTES + 1)
            chunk, offset = Chunk(piece.path, offset, data), offset + len(data)
            if chunk.offset == 0:
                chunk = _without_bom(chunk)
            short = chunk.without_long_line()
            if short is not chunk:
                intake.refuse(TOO_LONG, partial(chunk.where, short.data.count(b"\n")))
                if not data.endswith(b"\n"):
                    offset += _skip_line(file, None if piece.stop is None else piece.stop - offset)
            if short.data:
                yield short


def text_lines(chunk: Chunk, intake: Intake) -> Iterator[tuple[int, str]]:
    """The lines of a chunk, numbered within it, without line ends; those that are no text go to `intake`."""
    if line_fault(chunk.data) is None:
        lines = chunk.data.decode().removesuffix("\n").split("\n")
        return ((number, line.removesuffix("\r")) for number, line in enumerate(lines))
    return ((number, line.decode().removesuffix("\r")) for number, line in good_lines(chunk, intake))


def good_lines(chunk: Chunk, intake: Intake) -> Iterator[tuple[int, bytes]]:
    """As `text_lines`, in bytes; slow, for chunks in which something is bad."""
    for number, line in enumerate(chunk.data.removesuffix(b"\n").split(b"\n")):
        if fault := line_fault(line):
            intake.refuse(fault, partial(chunk.where, number))
        else:
            yield number, line


def line_fault(line: bytes) -> Fault | None:
    """Why bytes are no text: a NUL, or not UTF-8; None where they are."""
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
    """A file's first line without its end, "" where there is none; raises `UserError` where it cannot be read."""
    intake = Intake(path, skip_bad=False, problems=Problems())
    with told(path):
        for chunk in read_chunks(Piece(path, 0, 1), intake):
            return next(text_lines(chunk, intake))[1]
    return ""


def _first_line_start(file: BinaryIO, piece: Piece) -> int:
    """Goes to the first line that begins in the piece, or beyond its end where none does."""
    if piece.start == 0:
        return 0
    file.seek(piece.start - 1)
    return piece.start - 1 + _skip_line(file, None if piece.stop is None else piece.stop - piece.start + 1)


def _skip_line(file: BinaryIO, most: int | None) -> int:
    """Reads to the next line end, or until `most` bytes or more are read; returns how many were."""
    skipped = 0
    while (most is None or skipped < most) and (part := file.readline(_BUFFER_BYTES)):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _without_bom(chunk: Chunk) -> Chunk:
    if chunk.data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(
            f"{chunk.path} is UTF-16, UTF-8 is needed; convert it, for example with "
            f"`iconv -f utf-16 -t utf-8 {chunk.path} > utf8.txt`"
        )
    return replace(chunk, data=chunk.data.removeprefix(codecs.BOM_UTF8))
