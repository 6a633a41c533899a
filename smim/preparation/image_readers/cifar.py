"""CIFAR-10 (Krizhevsky 2009): 60,000 images of 32 x 32 pixels, RGB, as pickles or in the binary version.

A binary batch has 3,073 bytes for each image: its class, then the red, green and blue pixels, row by row. A pickled
batch is a dictionary with `data`, uint8 [N, 3072] in the same order, and `labels` (cs.toronto.edu/~kriz/cifar.html).
"""

import gzip
import io
import math
import pickle
import pickletools
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from smim import storage
from smim.errors import UserError
from smim.preparation.image_readers.base import Images, check_md5, folder_of, made, named_labels, not_found, whole

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MD5 = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
}
_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_SHAPE = (3, 32, 32)
_PIXELS = math.prod(_SHAPE)
_MOST_BATCH, _MOST_ARCHIVE = 2**28, 2**31
# Opcodes after which a memo holds text, bytes or a name; and the most tuples in tuples, of which a batch has few.
_SHAREABLE = {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
}
_MOST_TUPLES = 100
_NEEDED = "cifar-10-python.tar.gz, cifar-10-binary.tar.gz, or one of these unpacked"


def read(path: str | None, *, checked: bool) -> dict[str, Images]:
    """Read the pools train and test from a folder with an archive of either version, or with its unpacked batches.

    Label: `object`. `checked`: compare the archive's MD5. Raises `UserError` for missing, damaged or different files.
    """
    folder = folder_of(path, _NEEDED)
    for version, (inner, suffix) in {"python": ("py", ""), "binary": ("bin", ".bin")}.items():
        parse = _of_binary if suffix else _of_pickle
        names = [name + suffix for of_pool in _BATCHES.values() for name in of_pool]
        for place in (folder, folder / f"cifar-10-batches-{inner}"):
            if (place / names[0]).is_file():
                return _pools({name: _of_file(place / name) for name in names}, suffix, parse, place)
        archive = folder / f"cifar-10-{version}.tar.gz"
        if archive.is_file():
            check_md5(archive, MD5, checked=checked)
            content = _of_archive(archive, {f"cifar-10-batches-{inner}/{name}" for name in names})
            return _pools(dict(content), suffix, parse, archive)
    raise not_found(folder, _NEEDED)


def _pools(
    content: Mapping[str, bytes],
    suffix: str,
    parse: Callable[[bytes, str], tuple[np.ndarray, list[int]]],
    place: Path,
) -> dict[str, Images]:
    """Parse the batches of a folder or archive `place`."""
    pools = {}
    for pool, names in _BATCHES.items():
        parsed = [parse(content[name + suffix], f"{place}: {name}{suffix}") for name in names]
        numbers = np.array([number for _, labels in parsed for number in labels])
        pixels = np.concatenate([pixels for pixels, _ in parsed]).reshape(-1, *_SHAPE)
        files = [place] if place.is_file() else [place / (name + suffix) for name in names]
        pools[pool] = made(pixels, {"object": named_labels(numbers, CLASSES, place)}, files)
    return pools


def _of_file(path: Path) -> bytes:
    storage.check_regular(path)
    if not path.is_file():
        raise UserError(f"{path} is missing; CIFAR-10 has five training batches and a test batch")
    if path.stat().st_size > _MOST_BATCH:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, too many for a batch of CIFAR-10")
    return path.read_bytes()


def _of_archive(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted batches of a tar file by name, without unpacking it to disk."""
    with whole(path, "archive"), _Unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
        for member in archive:
            if member.name in wanted and member.isreg():
                if member.size > _MOST_BATCH:
                    raise UserError(f"{path}: {member.name} claims {member.size:,} bytes, too many for a batch")
                file = archive.extractfile(member)
                assert file is not None
                wanted.remove(member.name)
                yield member.name.rpartition("/")[2], file.read()
    if wanted:
        raise UserError(f"{path} lacks {', '.join(sorted(wanted))}")


class _Unpacked(gzip.GzipFile):
    """The content of an archive, up to a limit. The headers of a small archive may claim names of any length."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MOST_BATCH:
            raise UserError(f"{self.name} claims {size:,} bytes in one place, more than the limit of {_MOST_BATCH:,}")
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset > _MOST_ARCHIVE:
            raise UserError(f"{self.name} claims {offset:,} bytes, more than the limit of {_MOST_ARCHIVE:,}")
        return super().seek(offset, whence)


def _of_binary(content: bytes, what: str) -> tuple[np.ndarray, list[int]]:
    if not content or len(content) % (1 + _PIXELS):
        raise UserError(f"{what} has {len(content):,} bytes, but each image needs {1 + _PIXELS:,}; it is truncated")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0].tolist()


def _of_pickle(content: bytes, what: str) -> tuple[np.ndarray, list[int]]:
    with whole(what, "pickled batch of CIFAR-10, and no code in it was run"):
        _check_pickle(content)
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        batch = {_text(name): value for name, value in batch.items()}
        if not (isinstance(batch["labels"], list) and all(type(number) is int for number in batch["labels"])):
            raise ValueError("labels is not a list of whole numbers")
        return _pixels(batch["data"]), batch["labels"]


def _check_pickle(content: bytes) -> None:
    """Raise `ValueError` for a pickle that may take much more memory or time to read than its size says.

    Lengths must not be beyond its end, nor indices of the memo too large. Only names, text and objects may occur again,
    because the hash of tuples that share their parts may take exponential time. Tuples must not be deep, because their
    hash may overflow the stack, which ends the process.
    """
    previous, depth, memo = "", 0, dict[Any, str]()  # by index of the memo: the opcode whose result it holds
    for i, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if name == "MEMOIZE" or name.endswith("PUT"):
            index = len(memo) if name == "MEMOIZE" else argument
            if isinstance(index, int) and index > i:
                raise ValueError(f"a memo index of {index:,}")
            memo[index] = previous
        elif name == "DUP" or (name.endswith("GET") and memo.get(argument) not in _SHAREABLE):
            raise ValueError("a value that occurs twice")
        depth += ("TUPLE" in name) - (name == "REDUCE")  # a call takes a tuple
        if depth > _MOST_TUPLES:
            raise ValueError("too many tuples")
        previous = name


class _Array:
    """What a pickle says of an array. It allocates nothing and holds the array's state as it is in the pickle."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Type(_Array):
    """What a pickle says of an array's type, such as "u1"."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name = _text(name)


class _Encoded:
    """Bytes as text, as Python 3 writes them for Python 2. Many calls may share one text, so it is not encoded here."""

    def __init__(self, text: str, *_: Any) -> None:
        self.text = text


def _text(name: Any) -> Any:
    """Return a name in any of its forms as text."""
    return name.decode() if isinstance(name, bytes) else name.text if isinstance(name, _Encoded) else name


class _Unpickler(pickle.Unpickler):
    """An unpickler that imports nothing. The three names of NumPy's arrays of numbers have stand-ins here."""

    _STAND_INS: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _Encoded,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._STAND_INS[module, name]


def _pixels(array: Any) -> np.ndarray:
    """Make uint8 [N, 3072] from the state of a pickled array. Raises `ValueError` for anything else."""
    if not isinstance(array, _Array) or array.state is None:
        raise ValueError("data is not an array")
    _, shape, kind, by_column, content = array.state
    if isinstance(content, _Encoded):
        content = content.text.encode("latin1")
    if kind.name not in ("u1", "|u1", "uint8") or by_column or type(content) is not bytes:
        raise ValueError("data is not of type uint8")
    if len(shape) != 2 or shape[1] != _PIXELS or math.prod(shape) != len(content):
        raise ValueError(f"data of shape {shape} has {len(content):,} bytes, but rows of {_PIXELS:,} are needed")
    return np.frombuffer(content, np.uint8).reshape(shape)
