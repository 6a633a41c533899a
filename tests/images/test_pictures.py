"""Pictures of images: which pixel goes where, and what is refused."""

import matplotlib.image
import numpy as np
import pytest

from smim.images.pictures import mosaic, strips


def test_a_mosaic_has_a_row_for_each_list_of_images_with_white_gaps():
    first, second = np.zeros((2, 6), np.float32), np.full((2, 6), 0.5, np.float32)
    first[1] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    picture = mosaic([first, second], (1, 2, 3))
    assert picture.shape == (5, 7, 3)
    assert (picture[2] == 1).all() and (picture[:, 3] == 1).all()
    np.testing.assert_array_equal(picture[:2, 4:, 1], np.float32([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    assert (picture[:2, :3] == 0).all() and (picture[3:, :3] == 0.5).all()


def test_colours_are_channels_and_values_outside_of_the_range_are_clipped():
    image = np.zeros((1, 3 * 2 * 2), np.float32)
    image[0, 4:8], image[0, 8:] = 2.0, -1.0  # green, and less than no blue
    assert (mosaic([image], (3, 2, 2)) == [0, 1, 0]).all()


def test_images_that_have_another_shape_or_two_channels_are_refused():
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        mosaic([np.zeros((1, 8))], (2, 2, 2))
    with pytest.raises(ValueError, match="cannot reshape"):
        mosaic([np.zeros((1, 7))], (1, 2, 2))


def test_a_picture_has_the_same_bytes_each_time_and_shows_all_panels(tmp_path):
    rows = {"images": np.zeros((3, 16)), "samples": np.ones((3, 16))}
    for name in ("one", "two"):
        strips({title: rows for title in "abc"}, tmp_path / f"{name}.png", shape=(1, 4, 4))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    dark = (matplotlib.image.imread(tmp_path / "one.png")[..., :3] < 0.01).all(-1)
    half = [dim // 2 for dim in dark.shape]
    quarters = [dark[: half[0], : half[1]], dark[: half[0], half[1] :], dark[half[0] :, : half[1]]]
    assert all(quarter.sum() > 100 for quarter in quarters)
    assert dark[half[0] :, half[1] :].sum() < 10
