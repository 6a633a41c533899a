"""Small files in the formats of published sets of images, made by hand."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def grey_images(num: int, size: int = 28, seed: int = 0) -> np.ndarray:
    """Random images, uint8 [num, size, size]."""
    return np.random.default_rng(seed).integers(0, 256, (num, size, size), np.uint8)


def digits_of(num: int) -> np.ndarray:
    return (np.arange(num) % 10).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, *, train: int = 60, test: int = 20, packed: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    for prefix, num, seed in (("train", train, 0), ("t10k", test, 1)):
        arrays = {"images-idx3-ubyte": grey_images(num, seed=seed), "labels-idx1-ubyte": digits_of(num)}
        for kind, array in arrays.items():
            path = folder / f"{prefix}-{kind}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))


def write_npz(folder: Path, name: str = "mnist", *, train: int = 60, test: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for pool, num, seed in (("train", train, 0), ("test", test, 1)):
        np.savez_compressed(folder / f"{name}_{pool}.npz", images=grey_images(num, seed=seed), labels=digits_of(num))


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, "png")
    return file.getvalue()


def claimed_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, without pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def drawing(seed: int) -> np.ndarray:
    """A drawing as in Omniglot, black (False) on white, bool [105, 105]."""
    return np.random.default_rng(seed).random((105, 105)) > 0.1


def write_zip(path: Path, entries: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def omniglot_entries(alphabets: dict[str, int], drawings: int = 4) -> dict[str, bytes]:
    """Drawings of two characters of each alphabet. The number of an alphabet is the seed of its drawings."""
    return {
        f"images/{name}/character{character:02}/{seed:04}_{i:02}.png": png(
            drawing(100 * seed + 10 * character + i), "1"
        )
        for name, seed in alphabets.items()
        for character in (1, 2)
        for i in range(drawings)
    }


def mat_arrays(num: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Data [784, N] in [0, 1], one-hot alphabets [50, N] and numbers of characters [1, N], as in `chardata.mat`."""
    random = np.random.default_rng(seed)
    return random.random((784, num)), np.eye(50)[:, np.arange(num) % 3], (1 + np.arange(num) % 2)[None].astype(float)


def cifar_batch(seed: int, num: int = 20) -> tuple[np.ndarray, list[int]]:
    pixels = np.random.default_rng(seed).integers(0, 256, (num, 3072), np.uint8)
    return pixels, [(seed + i) % 10 for i in range(num)]


def pickled_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({b"data": pixels, b"labels": labels, b"batch_label": b"one"}, protocol=2)


def pickled_by_python_2(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The same dictionary with the opcodes of Python 2's pickle, where strings are bytes, and of its NumPy."""
    data = pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in pixels.shape) + b"t"
    state = b"(K\x01" + shape + kind + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + state + b"U\x06labels" + numbers + b"u."


def binary_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1).tobytes()


def cifar_files(of_batch=pickled_batch, suffix: str = "") -> dict[str, bytes]:
    names = [*[f"data_batch_{i}" for i in range(1, 6)], "test_batch"]
    return {f"{name}{suffix}": of_batch(*cifar_batch(seed)) for seed, name in enumerate(names)}


def write_tar(path: Path, folder: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
