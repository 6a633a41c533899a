"""Folders of pictures."""

import os

import numpy as np
import pytest
from PIL import Image

from smim.errors import UserError
from smim.preparation.image_readers import folder
from tests.preparation.image_files import claimed_png, grey_images


def write(path, pixels, **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def read(path, *, rgb: bool = False, size: int | None = None):
    return folder.read(str(path), rgb=rgb, size=size)


def test_a_subfolder_is_the_label(tmp_path):
    images = grey_images(4, size=6)
    for i, name in enumerate(["cat/1.png", "cat/2.PNG", "dog/small/3.bmp", "4.png"]):
        write(tmp_path / name, images[i])
    write(tmp_path / "cat" / ".hidden.png", images[0])
    (tmp_path / "notes.txt").write_text("about")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # reading it would block
    pools = read(tmp_path)
    assert list(pools) == ["all"]
    assert pools["all"].labels == {"label": [None, "cat", "cat", "dog/small"]}
    assert (pools["all"].pixels[:, 0] == images[[3, 0, 1, 2]]).all()


def test_folders_with_the_names_of_splits_are_splits(tmp_path):
    images = grey_images(4, size=6)
    for i, name in enumerate(["train/cat/1.png", "train/dog/2.png", "Validation/cat/1.png", "test/dog/1.png"]):
        write(tmp_path / name, images[i])
    pools = read(tmp_path)
    assert {pool: held.labels["label"] for pool, held in pools.items()} == {
        "train": ["cat", "dog"],
        "valid": ["cat"],
        "test": ["dog"],
    }
    assert (pools["valid"].pixels[0, 0] == images[2]).all()


@pytest.mark.parametrize("valid", ["val", "dev", "valid"])
def test_the_validation_set_may_have_any_usual_name(tmp_path, valid):
    for split in ("train", valid, "test"):
        write(tmp_path / split / "a" / "1.png", grey_images(1, size=6)[0])
    assert {pool: held.labels["label"] for pool, held in read(tmp_path).items()} == {
        "test": ["a"],
        "train": ["a"],
        "valid": ["a"],
    }


def test_a_picture_outside_of_the_splits_is_named(tmp_path):
    for name in ("train/a/1.png", "test/a/1.png", "sample.png"):
        write(tmp_path / name, grey_images(1, size=6)[0])
    with pytest.raises(UserError, match=r"has folders for test, train, but sample\.png is in none of them; move it"):
        read(tmp_path)


def test_one_label_may_have_the_name_of_a_split(tmp_path):
    for name in ("train/1.png", "car/1.png"):
        write(tmp_path / name, grey_images(1, size=6)[0])
    assert read(tmp_path)["all"].labels == {"label": ["car", "train"]}


def test_folders_of_labels_may_be_links(tmp_path):
    write(tmp_path / "elsewhere" / "1.png", grey_images(1, size=6)[0])
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat").symlink_to(tmp_path / "elsewhere")
    assert read(tmp_path / "pictures")["all"].labels == {"label": ["cat"]}


@pytest.mark.parametrize("name", [b"caf\xe9/0.png", b"cafe/0\xe9.png"])
def test_a_name_that_is_not_utf_8_is_named(tmp_path, name):
    write(tmp_path / os.fsdecode(name), grey_images(1, size=6)[0])
    with pytest.raises(UserError, match=r"'caf.*\\udce9.*' is not UTF-8; rename this file or its folder"):
        read(tmp_path)


def test_pictures_become_rgb_or_grey(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write(tmp_path / "colours.png", colours)
    write(tmp_path / "grey.png", colours[:, :, 0])
    pixels = read(tmp_path, rgb=True)["all"].pixels
    assert pixels.shape == (2, 3, 5, 7)
    assert (pixels[0] == colours.transpose(2, 0, 1)).all() and (pixels[1] == colours[:, :, 0]).all()
    luma = colours @ [0.299, 0.587, 0.114]  # ITU-R 601-2, as Pillow documents
    assert np.abs(read(tmp_path)["all"].pixels[0, 0] - luma).max() <= 1


def test_transparent_parts_are_white_and_a_camera_is_turned_upright(tmp_path):
    picture = np.zeros((4, 6, 4), np.uint8)
    picture[:, :3, 3] = 255
    write(tmp_path / "a" / "picture.png", picture)
    assert read(tmp_path / "a")["all"].pixels[0, 0, 0].tolist() == [0, 0, 0, 255, 255, 255]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    write(tmp_path / "b" / "picture.png", grey_images(1, size=6)[0, :4], exif=exif)
    assert (read(tmp_path / "b")["all"].pixels[0, 0] == np.rot90(grey_images(1, size=6)[0, :4], -1)).all()


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    write(tmp_path / "1.png", grey_images(1, size=8)[0])
    write(tmp_path / "2.png", grey_images(1, size=6)[0, :, :4])
    with pytest.raises(UserError, match=r"2\.png has 4 x 6 pixels, but others have 8 x 8; corpus\.size=N"):
        read(tmp_path)
    pixels = read(tmp_path, size=4)["all"].pixels
    assert np.abs(pixels[0, 0] - grey_images(1, size=8)[0].reshape(4, 2, 4, 2).mean((1, 3))).max() <= 1


def test_what_is_no_picture_is_named(tmp_path):
    with pytest.raises(UserError, match=r"has no pictures \(\.png, .* it holds nothing"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"corpus\.path is missing"):
        folder.read(None, rgb=False, size=None)
    with pytest.raises(UserError, match=r"corpus\.path=~nobody-here/x is not a folder"):
        folder.read("~nobody-here/x", rgb=False, size=None)
    write(tmp_path / "test" / "1.png", grey_images(1)[0])
    with pytest.raises(UserError, match="has the folders test, but none called train"):
        read(tmp_path)
    write(tmp_path / "16 bits.png", grey_images(1)[0].astype(np.uint16) * 100)
    with pytest.raises(UserError, match=r"16 bits\.png has more than 8 bits per number"):
        read(tmp_path)
    (tmp_path / "16 bits.png").write_bytes((tmp_path / "test" / "1.png").read_bytes()[:300])
    with pytest.raises(UserError, match=r"16 bits\.png is not a whole picture"):
        read(tmp_path)


@pytest.mark.filterwarnings("error")
def test_a_picture_of_a_camera_is_read_and_a_larger_one_than_the_limit_refused(tmp_path):
    for megapixels, problem in (
        (90, "is not a whole picture"),
        (150, r"claims .* above the limit of .*; make it smaller"),
    ):
        (tmp_path / "1.png").write_bytes(claimed_png(width=10_000, height=100 * megapixels))
        with pytest.raises(UserError, match=problem):
            read(tmp_path)


def test_bits_in_the_place_of_grey_values_are_refused(tmp_path):
    write(tmp_path / "1.png", grey_images(1)[0] % 2)
    with pytest.raises(
        UserError, match="no pixel is above 1, but white is 255; if these are bits, store them as 0 and"
    ):
        read(tmp_path)


def test_more_pictures_than_the_limit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    for i in range(3):
        write(tmp_path / f"{i}.png", grey_images(1)[0])
    monkeypatch.setattr("smim.preparation.image_readers.base.MOST_BYTES", 2 * 28 * 28)
    with pytest.raises(UserError, match="claims 2,352 bytes of images, more than the limit of 1,568"):
        read(tmp_path)
