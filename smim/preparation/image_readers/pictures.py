"""Single pictures in the usual formats, such as PNG and JPEG, read with Pillow."""

import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np

from smim.errors import UserError
from smim.preparation.image_readers.base import MOST_PIXELS, whole

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
# Pillow's modes with more than 8 bits per number; converting them to 8 bits would cut bright values.
_DEEP_MODES = ("I", "F")


def pillow() -> Any:
    """Import Pillow's `Image`. Raises `UserError` with the command that installs it."""
    try:
        from PIL import Image
    except ImportError:
        raise UserError("reading pictures needs Pillow; install it with `pip install 'smim[pipeline]'`") from None
    return Image


def read_picture(
    file: Path | IO[bytes], what: Path | str, *, rgb: bool = False, size: int | None = None, inverted: bool = False
) -> np.ndarray:
    """Read a picture as uint8 [C, H, W]: C = 3 with `rgb`, otherwise 1.

    Transparent parts become white, and the camera's rotation is applied. `inverted`: black becomes 1. `size`: resize to
    `size` x `size` pixels, each the mean of those whose centres it covers (Pillow's box filter). `what`: the name for
    messages. An animated picture gives its first frame, and a PNG of 3 x 16 bits the upper 8 bits of each number.

    Raises `UserError` for a damaged or too large picture, and for a grey one of more than 8 bits per number.
    """
    Image = pillow()
    from PIL import ImageChops, ImageOps

    with (
        whole(what, "picture"),
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
        Image.open(file, formats=sorted(set(SUFFIXES.values()))) as opened,
    ):
        if opened.width * opened.height > MOST_PIXELS:
            raise UserError(
                f"{what} claims {opened.width:,} x {opened.height:,} pixels, above the limit of {MOST_PIXELS:,}; "
                f"make it smaller, or remove it"
            )
        if opened.mode.startswith(_DEEP_MODES):
            raise UserError(f"{what} has more than 8 bits per number; convert it to 8 bits")
        image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB" if rgb else "L")
    if inverted:
        image = ImageChops.invert(image)
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BOX)
    pixels = np.asarray(image, np.uint8)
    return pixels.transpose(2, 0, 1) if rgb else pixels[None]
