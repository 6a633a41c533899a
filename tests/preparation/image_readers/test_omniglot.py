"""Omniglot's archives and Burda et al.'s file, and ones that are damaged or made to do harm."""

import numpy as np
import pytest
from scipy.io import savemat

from smim.errors import UserError
from smim.preparation.image_readers import omniglot
from tests.preparation.image_files import claimed_png, drawing, mat_arrays, omniglot_entries, png, write_zip


def read(folder, *, size: int = 28, checked: bool = True):
    return omniglot.read(str(folder), size=size, checked=checked)


def test_drawings_have_ink_of_1_and_their_alphabet_and_character(tmp_path):
    write_zip(tmp_path / "images_one.zip", omniglot_entries({"Greek": 1, "Latin": 2}))
    pools, repeated = read(tmp_path, size=105)
    images = pools["all"]
    assert repeated == 0 and images.pixels.shape == (16, 1, 105, 105)
    assert (images.pixels[0, 0] == 255 * ~drawing(110)).all()
    assert images.labels["alphabet"] == ["Greek"] * 8 + ["Latin"] * 8
    assert images.labels["character"][6:10] == ["Greek/character02"] * 2 + ["Latin/character01"] * 2


@pytest.mark.parametrize("size", [21, 28])
def test_a_smaller_drawing_holds_the_share_of_ink_around_each_pixel(tmp_path, size):
    write_zip(tmp_path / "images_one.zip", omniglot_entries({"Greek": 1}))
    small = read(tmp_path, size=size)[0]["all"].pixels[0, 0]
    # A pixel whose centre is on the border of two counts for the first.
    covered = np.ceil((np.arange(105) + 0.5) / (105 / size)) == np.arange(1, size + 1)[:, None]
    means = covered / covered.sum(1, keepdims=True)
    # Pillow rounds after each of two passes.
    assert np.abs(small - means @ (255.0 * ~drawing(110)) @ means.T).max() <= 1


def test_a_drawing_in_two_archives_is_read_once(tmp_path):
    write_zip(tmp_path / "images_one.zip", omniglot_entries({"Greek": 1, "Latin": 2}))
    write_zip(tmp_path / "images_two.zip", omniglot_entries({"Latin": 2, "Tagalog": 3}))
    pools, repeated = read(tmp_path)
    assert len(pools["all"]) == 24 and repeated == 8
    assert len(np.unique(pools["all"].pixels, axis=0)) == 24


def test_suffixes_in_capitals_are_read_and_hidden_files_of_macos_are_not(tmp_path):
    name = "images/Greek/character01/0001_01.PNG"
    write_zip(tmp_path / "images_one.zip", {name: png(drawing(0)), f"__MACOSX/{name.replace('0001', '._0001')}": b"?"})
    assert read(tmp_path)[0]["all"].labels["character"] == ["Greek/character01"]


def test_a_published_archive_must_have_its_md5(tmp_path):
    write_zip(tmp_path / "images_background.zip", omniglot_entries({"Greek": 1}))
    with pytest.raises(UserError, match=r"images_background\.zip has the MD5 .* the published file has 68d2efa1"):
        read(tmp_path)
    assert len(read(tmp_path, checked=False)[0]["all"]) == 8


NAME = "images/Greek/character01/0001_01.png"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({f"../{NAME}": png(drawing(0))}, "holds the name '../images/.* which leads out of the archive"),
        ({f"/{NAME}": png(drawing(0))}, "which leads out of the archive"),
        ({NAME: b"nonsense"}, "0001_01.png is not a whole picture"),
        ({NAME: png(drawing(0))[:200]}, "0001_01.png is not a whole picture"),
        ({NAME: claimed_png(60_000, 60_000)}, "0001_01.png is not a whole picture .*exceeds limit"),
        ({NAME: bytes(2**21)}, "0001_01.png claims 2,097,152 bytes, too many for a drawing"),
        ({"readme.txt": b"nothing"}, "holds no drawing"),
        (
            {f"a/{NAME}": png(drawing(0)), f"b/{NAME}": png(drawing(1))},
            f"holds Greek/character01/0001_01.png twice: a/{NAME} and b/{NAME}; remove one",
        ),
    ],
)
def test_a_harmful_archive_is_refused(tmp_path, entries, message):
    write_zip(tmp_path / "images_one.zip", entries)
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["images_one.zip"]


def test_a_truncated_archive_and_a_folder_without_one_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no chardata\.mat, or the archives images_\*\.zip; it holds nothing"):
        read(tmp_path)
    write_zip(tmp_path / "images_one.zip", omniglot_entries({"Greek": 1}))
    path = tmp_path / "images_one.zip"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="is not a whole zip file"):
        read(tmp_path)


def write_mat(folder, **changed) -> None:
    names = ("data", "target", "targetchar")
    arrays = dict(zip(names, mat_arrays(20, 0), strict=True))
    arrays |= {f"test{name}": array for name, array in zip(names, mat_arrays(8, 1), strict=True)}
    arrays = {name: array for name, array in (arrays | changed).items() if array is not None}
    savemat(folder / "chardata.mat", arrays, do_compression=True)


def test_the_file_of_burda_et_al_holds_drawings_by_columns(tmp_path):
    write_mat(tmp_path)
    pools, _ = read(tmp_path)
    data = mat_arrays(20, 0)[0]
    assert pools["train"].pixels.shape == (20, 1, 28, 28) and len(pools["test"]) == 8
    for row, column in ((0, 0), (3, 17), (27, 2)):
        assert pools["train"].pixels[5, 0, row, column] == np.float32(data[row + 28 * column, 5])
    assert pools["train"].labels["alphabet"][:4] == ["0", "1", "2", "0"]
    assert pools["train"].labels["character"][:3] == ["0/1", "1/2", "2/1"]


def test_bits_that_matlab_stores_as_small_integers_are_not_grey_values(tmp_path):
    bits = (mat_arrays(20, 0)[0] > 0.5).astype(np.uint8)
    write_mat(tmp_path, data=bits)
    images = read(tmp_path)[0]["train"]
    assert images.vectors[4].sum() == bits[:, 4].sum() and images.vectors.max() == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"testdata": None}, "lacks the arrays testdata"),
        ({"data": mat_arrays(20, 0)[0] * 255}, r"pixels from .* but they must be in \[0, 1\]"),
        ({"data": mat_arrays(19, 0)[0]}, r"arrays of shapes \(784, 19\), \(50, 20\) and \(1, 20\) do not fit"),
        ({"data": np.zeros((700, 20))}, r"arrays of shapes \(700, 20\)"),
        ({"data": "text"}, "data is not an array of real numbers"),
    ],
)
def test_another_matlab_file_is_refused(tmp_path, changed, message):
    write_mat(tmp_path, **changed)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_a_damaged_matlab_file_and_another_size_are_refused(tmp_path):
    write_mat(tmp_path)
    with pytest.raises(UserError, match="holds drawings of 28 x 28 pixels"):
        read(tmp_path, size=32)
    path = tmp_path / "chardata.mat"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"nonsense", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a whole MATLAB file"):
            read(tmp_path)
