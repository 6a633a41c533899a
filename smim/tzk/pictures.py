"""Pictures of images, written as PNG.

Shapes: N images, C channels, H rows, W columns.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import Tensor

from smim import storage
from smim.errors import refuse_if


def check_picture(output: Path | str, channels: int) -> None:
    """Raise `UserError` if images of so many channels cannot be written as the PNG `output`."""
    output = Path(output)
    refuse_if(
        {
            "pictures need matplotlib; install it with `pip install 'smim[pipeline]'`": find_spec("matplotlib") is None,
            f"the images have {channels} channels; pictures have 1 or 3": channels not in (1, 3),
            f"{output} would hold a PNG; give a name that ends in .png": output.suffix.lower() != ".png",
            f"{output} is a directory; give the name of a file": output.is_dir(),
            f"the directory {output.parent} does not exist; create it first": not output.parent.is_dir(),
        }
    )


def write_grid(images: Tensor, output: Path | str, *, columns: int | None = None) -> None:
    """Write images [N, C, H, W] in [0, 1] as one PNG, row by row, by default in a square.

    Raises `UserError` if matplotlib is missing, for a number of channels other than 1 and 3, and for an `output` that
    does not end in .png, is a directory, or has no directory.
    """
    num, channels, height, width = images.shape
    check_picture(output, channels)
    from matplotlib.image import imsave

    columns = columns or int(np.ceil(num**0.5))
    rows = -(-num // columns)
    grid = images.new_ones(rows * columns, channels, height + 1, width + 1)  # a white line between images
    grid[:num, :, :-1, :-1] = images
    whole = grid.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).reshape(rows * (height + 1), -1, channels)
    with storage.new_file(output) as partial:
        imsave(partial, whole.expand(-1, -1, 3).numpy(), format="png")
