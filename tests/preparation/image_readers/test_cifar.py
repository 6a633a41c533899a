"""CIFAR-10's two versions, and pickles that somebody made to do harm."""

import gzip
import os
import pickle
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest

from smim.errors import UserError
from smim.preparation.image_readers import cifar
from tests.preparation.image_files import (
    binary_batch,
    cifar_batch,
    cifar_files,
    pickled_batch,
    pickled_by_python_2,
    write_tar,
)


def read(folder, *, checked: bool = False):
    return cifar.read(str(folder), checked=checked)


def write(folder, files) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


FORMS = {
    "pickles": (cifar_files(), "cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "pickles of Python 2": (cifar_files(pickled_by_python_2), "cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "binary": (cifar_files(binary_batch, ".bin"), "cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
}


@pytest.mark.parametrize("place", ["archive", "folder", "inner folder"])
@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_images_and_labels(tmp_path, form, place):
    files, archive, inner = FORMS[form]
    if place == "archive":
        write_tar(tmp_path / archive, inner, {**files, "readme.html": b"about"})
    else:
        write(tmp_path / inner if place == "inner folder" else tmp_path, files)
    pools = read(tmp_path)
    assert [len(pools[pool]) for pool in ("train", "test")] == [100, 20]
    pixels, labels = cifar_batch(2)
    assert (pools["train"].pixels[40:60] == pixels.reshape(20, 3, 32, 32)).all()
    assert pools["train"].labels["object"][40:60] == [cifar.CLASSES[label] for label in labels]


def test_a_published_archive_must_have_its_md5(tmp_path):
    write_tar(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", cifar_files())
    with pytest.raises(UserError, match=r"has the MD5 .* the published file has c58f30108f718f92721af3b95e74349a"):
        read(tmp_path, checked=True)


class Command:
    """Runs a command when it is unpickled by `pickle.load`."""

    def __reduce__(self):
        return os.system, ("touch harm",)


def array_pickle(shape: tuple[int, int], kind: bytes = b"u1", content: bytes = b"") -> bytes:
    """A pickled batch whose array claims `shape`."""
    whole = pickled_by_python_2(np.zeros((1, 3072), np.uint8), [3])
    start = whole.index(b"(K\x01(J") + 3
    whole = whole[:start] + b"(" + b"".join(b"J" + struct.pack("<i", n) for n in shape) + whole[start + 11 :]
    return whole.replace(b"U\x02u1", b"U\x02" + kind)


PIXELS, LABELS = cifar_batch(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            pickle.dumps({"data": Command(), "labels": []}, protocol=2),
            "no code in it was run .it asks for (posix|nt).system",
        ),
        (pickle.dumps({"data": PIXELS.astype(object), "labels": LABELS}, protocol=2), "data is not of type uint8"),
        (pickle.dumps({"data": PIXELS.T, "labels": LABELS}, protocol=2), r"data (of shape|is not of type)"),
        (pickle.dumps({"data": [1, 2], "labels": LABELS}, protocol=2), "data is not an array"),
        (pickle.dumps({"data": PIXELS, "labels": [1.5] * 20}, protocol=2), "labels is not a list of whole numbers"),
        (pickle.dumps({"labels": LABELS}, protocol=2), "'data'"),
        (pickle.dumps([1], protocol=2), "has no attribute 'items'"),
        (pickled_batch(PIXELS, LABELS)[:-100], "is not a whole pickled batch"),
        (pickled_batch(PIXELS, LABELS[:-1]), "100 images, but 99 labels 'object'"),
        (pickled_batch(PIXELS, [12, *LABELS[1:]]), "labels from 0 to 12"),
        (array_pickle((2**31 - 1, 3072)), r"data of shape \(2147483647, 3072\) has 3,072 bytes"),
        (array_pickle((1, 3072), b"f8"), "data is not of type uint8"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"short", "is not a whole pickled batch"),
        (b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".", "a memo index of 2,147,483,648"),
        (b"", "is not a whole pickled batch"),
        # Each tuple holds the one before twice, as the key of a dictionary.
        (b"\x80\x02})" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"Ns.", "a value that occurs twice"),
        (b"\x80\x02})" + b"2\x86" * 60 + b"Ns.", "a value that occurs twice"),
        (b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.", "too many tuples"),
    ],
)
def test_another_pickle_is_refused_and_runs_nothing(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, cifar_files() | {"data_batch_1": content})
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_a_text_that_many_calls_share_takes_its_memory_once(tmp_path):
    text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    write(tmp_path, cifar_files() | {"data_batch_1": b"\x80\x02" + text + b"q\x00](" + call * 500 + b"e."})
    tracemalloc.start()
    with pytest.raises(UserError, match="has no attribute 'items'"):
        read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e7


def test_a_name_in_an_archive_that_claims_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "_MOST_BATCH", 1000)
    name = tarfile.TarInfo("x" * 2000).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(name + bytes(10_000)))
    with pytest.raises(UserError, match="claims 2,048 bytes in one place, more than the limit of 1,000"):
        read(tmp_path)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "_MOST_ARCHIVE", 1000)
    write_tar(tmp_path / "cifar-10-python.tar.gz", "other", {"large": bytes(2000)})
    with pytest.raises(UserError, match="claims 2,559 bytes, more than the limit of 1,000"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data_batch_2.bin": binary_batch(PIXELS, LABELS)[:-1]}, r"data_batch_2\.bin has .* it is truncated"),
        ({"test_batch.bin": b""}, r"test_batch\.bin has 0 bytes"),
        ({"test_batch.bin": binary_batch(PIXELS, [10] * 20)}, "labels from 10 to 10"),
        ({"data_batch_4.bin": None}, r"data_batch_4\.bin is missing"),
    ],
)
def test_a_damaged_binary_batch_is_refused(tmp_path, changed, message):
    files = cifar_files(binary_batch, ".bin") | changed
    write(tmp_path, {name: content for name, content in files.items() if content is not None})
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_a_damaged_archive_and_a_folder_without_one_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no cifar-10-python\.tar\.gz, .* it holds nothing"):
        read(tmp_path)
    path = tmp_path / "cifar-10-python.tar.gz"
    files = cifar_files()
    write_tar(path, "cifar-10-batches-py", {name: files[name] for name in list(files)[:-1]})
    with pytest.raises(UserError, match="lacks cifar-10-batches-py/test_batch"):
        read(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="is not a whole archive"):
        read(tmp_path)
    write_tar(path, "../cifar-10-batches-py", files)
    with pytest.raises(UserError, match="lacks cifar-10-batches-py/data_batch_1"):
        read(tmp_path)
