"""Pictures of images, and what is refused before any work."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from smim.errors import UserError
from smim.tzk import pictures, write_grid


def test_colours_and_one_channel_become_a_picture(tmp_path: Path) -> None:
    images = torch.linspace(0, 1, 3 * 3 * 2 * 2).reshape(3, 3, 2, 2)
    write_grid(images, tmp_path / "grid.png")
    picture = imread(tmp_path / "grid.png")[..., :3]
    assert picture.shape == (6, 6, 3)
    np.testing.assert_allclose(picture[:2, 3:5], images[1].permute(1, 2, 0), atol=1 / 255)
    assert (picture[3:5, 3:5] == 1).all()  # no fourth image


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("grid.png", 2, "the images have 2 channels; pictures have 1 or 3"),
        ("grid.jpg", 1, "grid.jpg would hold a PNG; give a name that ends in .png"),
        ("folder.png", 1, "folder.png is a directory; give the name of a file"),
        ("nowhere/grid.png", 1, "nowhere does not exist; create it first"),
    ],
)
def test_pictures_that_cannot_be_written_are_refused(tmp_path: Path, name: str, channels: int, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=message):
        write_grid(torch.zeros(1, channels, 4, 4), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_missing_matplotlib_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pictures need matplotlib; install it with `pip install 'smim\[pipeline\]'`"):
        write_grid(torch.zeros(1, 1, 4, 4), tmp_path / "grid.png")
