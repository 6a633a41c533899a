"""Arrays of real numbers in MATLAB files of versions 5 to 7 (MathWorks, "MAT-File Format", Level 5).

SciPy's reader ends the process on some damaged files. This one reads less, and checks each size before it allocates.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from smim import storage
from smim.errors import UserError
from smim.preparation.image_readers.base import whole

_HEADER_BYTES, _TAG_BYTES = 128, 8
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_COMPLEX = 0x0800
# The classes of arrays that hold numbers, from double to uint64. MATLAB may store them as a smaller type.
_CLASSES = range(6, 16)
_MOST_BYTES = 2**30


def read_arrays(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read the arrays of these names. Raises `UserError` if one is missing, or the file is damaged or another one."""
    storage.check_regular(path)
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, more than the limit of {_MOST_BYTES:,}")
    with whole(path, "MATLAB file of version 5 to 7"):
        content = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER_BYTES - 2 : _HEADER_BYTES])
        if order is None:
            raise ValueError("it has another header")
        arrays: dict[str, np.ndarray] = {}
        for kind, data in _elements(content[_HEADER_BYTES:], order):
            if kind == _COMPRESSED:
                [(kind, data)] = _elements(_unpacked(data), order)
            if kind == _MATRIX:
                arrays |= _array(data, order, names)
    if missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path} lacks the arrays {', '.join(missing)}")
    return arrays


def _unpacked(data: bytes) -> bytes:
    unpacked = zlib.decompressobj().decompress(data, _MOST_BYTES + 1)
    if len(unpacked) > _MOST_BYTES:
        raise ValueError(f"an array has more than {_MOST_BYTES:,} bytes")
    return unpacked


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the data of each element. Raises `ValueError` if one ends after the content."""
    place = 0
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start = place + _TAG_BYTES
        if kind >> 16:  # a small element, within its tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if start + size > len(content):
            raise ValueError(f"an element of {size:,} bytes is cut")
        yield kind, content[start : start + size]
        place = start + size
        if kind != _COMPRESSED:
            place += -place % _TAG_BYTES


def _array(data: bytes, order: str, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read a matrix by its name, if it is one of `names`."""
    (_, flags), (_, lengths), (_, name), *parts = _elements(data, order)
    if name.decode("latin1") not in names:
        return {}
    [flag] = struct.unpack_from(f"{order}I", flags)
    kind, numbers = parts[0] if parts else (0, b"")
    if flag & 0xFF not in _CLASSES or flag & _COMPLEX or kind not in _NUMBERS:
        raise ValueError(f"{name.decode('latin1')} is not an array of real numbers")
    shape = struct.unpack(f"{order}{len(lengths) // 4}i", lengths)
    values = np.frombuffer(numbers, order + _NUMBERS[kind])
    if min(shape) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"{name.decode('latin1')} of shape {shape} has {len(values):,} numbers")
    return {name.decode("latin1"): values.reshape(shape, order="F")}
