"""A reader of plain text: one text per line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from smim.preparation.readers.base import TEXT, FileReader, Intake, Piece
from smim.preparation.readers.chunks import good_lines, line_fault, read_chunks

_LINE_END = ord("\n")


@dataclass(frozen=True)
class Lines(FileReader):
    """A reader of plain text. Each line is a text, and there are no labels."""

    def columns(self, path: Path) -> list[str] | None:
        """Return no columns."""
        return []

    def read(self, piece: Piece, intake: Intake) -> Iterator[pa.Table]:
        """See `FileReader.read`."""
        for chunk in read_chunks(piece, intake):
            data = chunk.data
            if line_fault(data):
                data = b"".join(line + b"\n" for _, line in good_lines(chunk, intake))
            yield pa.table([_split(data)], [TEXT])


def _split(data: bytes) -> pa.Array:
    """Return the lines, with their ends, as an Arrow array over the same memory."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _LINE_END) + 1
    last = [] if data.endswith(b"\n") or not data else [len(data)]
    offsets = np.concatenate([[0], ends, last]).astype(np.int32)
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
