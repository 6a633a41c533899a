"""MNIST's and Fashion-MNIST's files, and files that somebody damaged or made to do harm."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from smim.errors import UserError
from smim.preparation.image_readers import mnist
from tests.preparation.image_files import digits_of, grey_images, idx, write_idx, write_npz


def read(folder, *, checked: bool = False):
    return mnist.read(
        str(folder), name="mnist", label="digit", classes=mnist.DIGITS, md5=mnist.MD5_MNIST, checked=checked
    )


@pytest.mark.parametrize("form", ["idx", "idx.gz", "npz"])
def test_all_forms_give_the_same_images_and_labels(tmp_path, form):
    if form == "npz":
        write_npz(tmp_path)
    else:
        write_idx(tmp_path, packed=form.endswith("gz"))
    pools = read(tmp_path)
    assert list(pools) == ["train", "test"]
    for pool, num, seed in (("train", 60, 0), ("test", 20, 1)):
        assert (pools[pool].pixels == grey_images(num, seed=seed)[:, None]).all()
        assert pools[pool].labels == {"digit": [str(i % 10) for i in range(num)]}


def test_names_with_a_dot_are_found(tmp_path):
    write_idx(tmp_path)
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / file.name.replace("-idx", ".idx"))
    assert len(read(tmp_path)["train"]) == 60


def test_a_file_with_a_published_name_must_have_the_published_md5(tmp_path):
    write_idx(tmp_path, packed=True)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz has the MD5 .* corpus\.checksums=false"):
        read(tmp_path, checked=True)


def small(claimed: int, content: bytes = b"") -> bytes:
    """An IDX file of images whose header claims `claimed` bytes."""
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", claimed // 10**6, 1000, 1000) + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(grey_images(3))[:-1], "has 2,367 bytes, but its header needs 2,368"),
        (idx(grey_images(3)) + b"x", "has 2,369 bytes, but its header needs 2,368"),
        (idx(grey_images(3))[:9], "is not an IDX file of uint8 with 3 axes"),
        (idx(digits_of(3)), "is not an IDX file of uint8 with 3 axes"),
        (b"\0\0\x0d\3" + idx(grey_images(3))[4:], "is not an IDX file of uint8"),
        (b"", "is not an IDX file"),
        (small(10**12), "its header needs 1,000,000,000,016"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path, content, message):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(UserError, match=message):
        mnist.read_idx(tmp_path / "images", axes=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx(grey_images(3)))[:-20], "is not a whole gzip file"),
        (gzip.compress(idx(grey_images(3))[:-1]), "has fewer numbers than its header says"),
        (gzip.compress(idx(grey_images(3)) + b"x"), "has more numbers than its header says"),
        (idx(grey_images(3)), "is not a whole gzip file"),
        (gzip.compress(small(10**12)), "claims 1,000,000,000,000 bytes, but its .* compressed bytes cannot hold them"),
    ],
)
def test_a_damaged_gz_file_is_refused(tmp_path, content, message):
    (tmp_path / "images.gz").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        mnist.read_idx(tmp_path / "images.gz", axes=3)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def npz(**arrays: bytes | np.ndarray) -> bytes:
    """An `.npz` file of arrays, some of which are given as the bytes of their `.npy` file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            if isinstance(array, np.ndarray):
                held = io.BytesIO()
                np.save(held, array)
                array = held.getvalue()
            archive.writestr(f"{name}.npy", array)
    return file.getvalue()


def npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def with_claim(content: bytes, num: int) -> bytes:
    """The zip file with another unpacked size in its directory's first entry."""
    place = content.index(b"PK\1\2") + 24
    return content[:place] + struct.pack("<I", num) + content[place + 4 :]


WHOLE = {"images": grey_images(30), "labels": digits_of(30)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(**WHOLE)[:-30], "is not a whole .npz file"),
        (b"", "is not a whole .npz file"),
        (npz(images=WHOLE["images"]), "must hold the arrays images and labels"),
        (npz(images=npy_header((10**6, 1000, 1000)), labels=WHOLE["labels"]), "is not in the file's bytes"),
        (with_claim(npz(**WHOLE), 2**32 - 16), "claims 4,294,967,280 bytes, but its .* cannot hold them"),
        (npz(images=np.array([{}]), labels=WHOLE["labels"]), "type object is not in the file's bytes"),
        (npz(images=b"nonsense", labels=WHOLE["labels"]), "is not a whole .npz file of numbers"),
        (npz(images=WHOLE["images"], labels=digits_of(29)), "30 images, but 29 labels 'digit'"),
        (npz(images=WHOLE["images"], labels=digits_of(30) + 5), "labels from 5 to 14, but they must be from 0 to 9"),
        (npz(images=WHOLE["images"], labels=np.ones(30)), "labels must be one whole number for each image"),
        (npz(images=WHOLE["images"][0], labels=digits_of(28)), r"images of shape \[28, 28\]"),
        (npz(images=np.zeros((30, 4, 28, 28), np.uint8), labels=digits_of(30)), r"images of shape \[30, 4, 28, 28\]"),
        (npz(images=np.zeros((0, 28, 28), np.uint8), labels=digits_of(0)), r"images of shape \[0, 1, 28, 28\]"),
        (npz(images=WHOLE["images"].astype(float), labels=digits_of(30)), r"pixels from 0 to 255, but they must be in"),
        (npz(images=np.full((30, 2, 2), np.nan), labels=digits_of(30)), "pixels from nan to nan"),
        (npz(images=WHOLE["images"].astype(int), labels=digits_of(30)), "pixels are of type int64"),
    ],
)
def test_a_damaged_npz_file_is_refused(tmp_path, content, message):
    write_npz(tmp_path)
    (tmp_path / "mnist_train.npz").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_what_is_missing_is_named_with_what_is_there(tmp_path):
    with pytest.raises(UserError, match=r"corpus\.path=.*none is not a folder; give the folder with mnist_train\.npz"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match=r"has no mnist_train\.npz .* it holds nothing"):
        read(tmp_path)
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="it holds t10k-images-idx3-ubyte, train-images-idx3-ubyte, train-labels"):
        read(tmp_path)
