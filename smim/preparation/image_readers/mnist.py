"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): 28x28 grey images, as IDX or as NumPy's `.npz`.

IDX: two bytes 0, the type of the numbers (8: uint8), the number of axes, their lengths as big-endian uint32, then the
numbers (yann.lecun.com/exdb/mnist). `.npz`: the arrays `images` uint8 [N, H, W] and `labels` [N].
"""

import gzip
import math
import struct
import zipfile
from pathlib import Path

import numpy as np

from smim import storage
from smim.errors import UserError
from smim.preparation.image_readers.base import (
    Images,
    check_bytes,
    check_md5,
    folder_of,
    made,
    named_labels,
    not_found,
    whole,
)

DIGITS = tuple(map(str, range(10)))
ARTICLES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
# By name of the IDX file: the published MD5.
MD5_MNIST = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MD5_FASHION_MNIST = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
_IDX = {"train": "train", "test": "t10k"}
_UINT8 = 8


def read(
    path: str | None, *, name: str, label: str, classes: tuple[str, ...], md5: dict[str, str], checked: bool
) -> dict[str, Images]:
    """Read the pools train and test from a folder.

    Its files are `NAME_train.npz` and `NAME_test.npz`, or the four IDX files, each plain or `.gz`. `checked`: compare
    the MD5 of the published `.gz` files. Raises `UserError` for a missing, damaged or different file.
    """
    needed = f"{name}_train.npz and {name}_test.npz, or train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-..."
    folder = folder_of(path, needed)
    pools = {}
    for pool, prefix in _IDX.items():
        packed = folder / f"{name}_{pool}.npz"
        if packed.is_file():
            pixels, numbers = _read_npz(packed)
            files = [packed]
        else:
            stems = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
            files = [_find(folder, stem, needed) for stem in stems]
            for each in files:
                check_md5(each, md5, checked=checked)
            pixels, numbers = read_idx(files[0], axes=3), read_idx(files[1], axes=1)
        pools[pool] = made(pixels, {label: named_labels(numbers, classes, files[-1])}, files)
    return pools


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """Read an IDX file of uint8 numbers, plain or `.gz`. Raises `UserError` if it is anything else, or has other axes.

    The header's size is compared with the file's before memory is allocated.
    """
    storage.check_regular(path)
    packed = path.suffix == ".gz"
    size = path.stat().st_size
    with whole(path, "gzip file"), gzip.open(path) if packed else open(path, "rb") as file:
        start = file.read(4 + 4 * axes)
        if len(start) < 4 + 4 * axes or start[:3] != bytes([0, 0, _UINT8]) or start[3] != axes:
            raise UserError(f"{path} is not an IDX file of uint8 with {axes} axes")
        lengths = struct.unpack(f">{axes}I", start[4:])
        claimed = math.prod(lengths)
        if not packed and len(start) + claimed != size:
            raise UserError(f"{path} has {size:,} bytes, but its header needs {len(start) + claimed:,}")
        check_bytes(path, claimed, size if packed else None)
        content = file.read(claimed + 1)
    if len(content) != claimed:
        raise UserError(f"{path} has {'more' if len(content) > claimed else 'fewer'} numbers than its header says")
    return np.frombuffer(content, np.uint8).reshape(lengths)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    storage.check_regular(path)
    with whole(path, ".npz file of numbers"), zipfile.ZipFile(path) as archive:
        if missing := {"images.npy", "labels.npy"} - {*archive.namelist()}:
            raise UserError(f"{path} must hold the arrays images and labels, but it lacks {', '.join(sorted(missing))}")
        return _read_npy(archive, "images", path), _read_npy(archive, "labels", path)


def _read_npy(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """Read one array of numbers of an `.npz` file, whose size is checked first."""
    entry = archive.getinfo(f"{name}.npy")
    check_bytes(path, entry.file_size, entry.compress_size)
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > entry.file_size:
        raise UserError(f"{path}: {name} of shape {list(shape)} and type {dtype} is not in the file's bytes")
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _find(folder: Path, stem: str, needed: str) -> Path:
    # Some distributions write `train-images.idx3-ubyte`.
    names = [stem, f"{stem}.gz", stem.replace("-idx", ".idx")]
    if found := next((folder / name for name in names if (folder / name).is_file()), None):
        return found
    raise not_found(folder, needed)
