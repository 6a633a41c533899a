"""Arrays of MATLAB files, compared with SciPy's writer, and damaged files."""

import random
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from smim.errors import UserError
from smim.preparation.image_readers.matlab import read_arrays

ARRAYS = {
    "data": np.random.default_rng(0).random((7, 5)),
    "single": np.random.default_rng(1).random((3, 4)).astype(np.float32),
    "n": np.arange(6, dtype=np.uint8).reshape(2, 3),  # a name within its tag
    "cube": np.arange(24, dtype=np.int64).reshape(2, 3, 4),
    "number": np.array([[7.0]]),
    "nothing": np.zeros((3, 0)),
}


@pytest.mark.parametrize("packed", [True, False])
def test_arrays_are_those_that_scipy_wrote(tmp_path, packed):
    others = {"text": "some text", "cells": np.array([[1, "two"]], dtype=object), "fields": {"a": 1}}
    savemat(tmp_path / "file.mat", {**others, **ARRAYS}, do_compression=packed)
    found = read_arrays(tmp_path / "file.mat", list(ARRAYS))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype
        assert (found[name] == array).all()


def matrix(order: str, numbers: bytes, kind: int, shape: tuple[int, ...], flag: int = 6) -> bytes:
    """A matrix called `data` as MATLAB writes it."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)

    lengths = element(5, struct.pack(f"{order}{len(shape)}i", *shape))
    held = element(6, struct.pack(f"{order}II", flag, 0)) + lengths + element(1, b"data") + element(kind, numbers)
    return element(14, held)


def file(order: str, *elements: bytes) -> bytes:
    return (
        b"MATLAB 5.0".ljust(124)
        + struct.pack(f"{order}H", 0x0100)
        + (b"IM" if order == "<" else b"MI")
        + b"".join(elements)
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_and_numbers_stored_as_a_smaller_type_are_read(tmp_path, order):
    numbers = struct.pack(f"{order}6H", 1, 2, 3, 400, 5, 6)
    (tmp_path / "file.mat").write_bytes(file(order, matrix(order, numbers, 4, (2, 3))))
    assert read_arrays(tmp_path / "file.mat", ["data"])["data"].tolist() == [[1, 3, 5], [2, 400, 6]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has another header"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "it has another header"),
        (file("<"), "lacks the arrays data"),
        (file("<", matrix("<", bytes(6), 2, (2, 4))), r"data of shape \(2, 4\) has 6 numbers"),
        (file("<", matrix("<", bytes(6), 2, (-2, -3))), r"data of shape \(-2, -3\) has 6 numbers"),
        (file("<", matrix("<", bytes(6), 2, (10**6, 10**6))), "has 6 numbers"),
        (file("<", matrix("<", bytes(6), 2, (2, 3), flag=4)), "data is not an array of real numbers"),
        (file("<", matrix("<", bytes(6), 2, (2, 3), flag=6 | 0x0800)), "data is not an array of real numbers"),
        (file("<", struct.pack("<II", 14, 2**32 - 8)), "an element of 4,294,967,288 bytes is cut"),
        (file("<", struct.pack("<II", 15, 5) + b"short"), "is not a whole MATLAB file"),
        (file("<", matrix("<", bytes(6), 2, (2, 3)))[:-9], "is cut"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    (tmp_path / "file.mat").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_arrays(tmp_path / "file.mat", ["data"])


def test_an_array_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("smim.preparation.image_readers.matlab._MOST_BYTES", 10_000)
    packed = zlib.compress(matrix("<", bytes(20_000), 2, (200, 100)))
    (tmp_path / "file.mat").write_bytes(file("<", struct.pack("<II", 15, len(packed)) + packed))
    with pytest.raises(UserError, match="an array has more than 10,000 bytes"):
        read_arrays(tmp_path / "file.mat", ["data"])


@pytest.mark.parametrize("packed", [True, False])
def test_changed_bytes_give_arrays_or_an_error_for_the_user(tmp_path, packed):
    savemat(tmp_path / "file.mat", ARRAYS, do_compression=packed)
    content, rng, refused = (tmp_path / "file.mat").read_bytes(), random.Random(0), 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 4])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        (tmp_path / "file.mat").write_bytes(changed)
        try:
            read_arrays(tmp_path / "file.mat", list(ARRAYS))
        except UserError:
            refused += 1
    assert refused > 50
