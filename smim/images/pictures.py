"""Pictures of rows of images, as PNG.

Shapes: R rows, N images, X = C x H x W numbers of an image: channels, height, width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from smim import storage

_GAP = 1  # pixels between images
_INCHES_PER_PIXEL = 0.012
_ROW_LABEL = 1.8  # inches


def mosaic(rows: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Put rows of images [N, X] with values in [0, 1] into one image, fp32 [height, width, 3], with white gaps.

    Values outside [0, 1], such as reconstructions with a Gaussian p(x|z), are clipped. `shape`: C, H, W, where C is 1
    for grey or 3 for colours. Raises ValueError for another C, and for images of another size.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"a picture needs images of 1 or 3 channels, not {channels}")
    images_RNHWC = np.stack([row.reshape(-1, channels, height, width) for row in rows]).transpose(0, 1, 3, 4, 2)
    framed = np.ones((*images_RNHWC.shape[:2], height + _GAP, width + _GAP, 3), np.float32)
    framed[:, :, :height, :width] = images_RNHWC.clip(0, 1)
    num_rows, num = framed.shape[:2]
    joined = framed.transpose(0, 2, 1, 3, 4).reshape(num_rows * (height + _GAP), num * (width + _GAP), 3)
    return joined[:-_GAP, :-_GAP]


def strips(panels: Mapping[str, Mapping[str, np.ndarray]], output: Path, *, shape: Sequence[int]) -> None:
    """Draw a panel for each title, with a row of images [N, X] for each label (Figures 4.3, 4.4 and C.1 to C.6).

    `shape`: C, H, W, as for `mosaic`.
    """
    from matplotlib.figure import Figure  # takes a second to import

    mosaics = {title: mosaic(list(rows.values()), shape) for title, rows in panels.items()}
    tallest, widest = (max(each.shape[axis] for each in mosaics.values()) for axis in (0, 1))
    columns = min(2, len(panels))
    num_rows = -(-len(panels) // columns)
    size = (columns * (widest * _INCHES_PER_PIXEL + _ROW_LABEL), num_rows * (tallest * _INCHES_PER_PIXEL + 0.4))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(num_rows, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (title, image) in zip(axes.flat, mosaics.items(), strict=False):
        axis.imshow(image, interpolation="nearest")
        step = shape[1] + _GAP
        axis.set_yticks([row * step + shape[1] / 2 for row in range(len(panels[title]))], list(panels[title]))
        axis.tick_params(left=False, labelsize="small")
        axis.set(title=title, xticks=[], frame_on=False)
    with storage.new_file(output) as partial:
        figure.savefig(partial, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
