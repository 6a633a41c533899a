"""Any folder of pictures: `FOLDER/LABEL/picture.png`, or `FOLDER/train/LABEL/picture.png` with splits of one's own."""

from pathlib import Path

import numpy as np

from smim.errors import UserError
from smim.preparation.image_readers.base import Images, check_bytes, folder_of, made, not_found
from smim.preparation.image_readers.pictures import SUFFIXES, read_picture

_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}
_NEEDED = f"pictures ({', '.join(SUFFIXES)}), in one subfolder for each label"


def read(path: str | None, *, rgb: bool, size: int | None) -> dict[str, Images]:
    """Read the pictures below a folder, by path: as RGB or grey, all of one size or resized to `size` x `size`.

    The label of a picture is its folder's path below FOLDER, or None. The pools are the splits if all top folders have
    the name of one, otherwise "all". Raises `UserError` if there is no picture, or their sizes differ.
    """
    folder = folder_of(path, _NEEDED)
    found = [each for each in sorted(folder.rglob("*")) if each.suffix.lower() in SUFFIXES and each.is_file()]
    inside = [each.relative_to(folder) for each in found]
    files = [each for each in inside if not any(part.startswith(".") for part in each.parts)]
    if not files:
        raise not_found(folder, _NEEDED)
    by_split = all(len(each.parts) > 1 and each.parts[0].lower() in _SPLITS for each in files)
    pools: dict[str, list[Path]] = {}
    for file in files:
        pools.setdefault(_SPLITS[file.parts[0].lower()] if by_split else "all", []).append(file)
    if by_split and "train" not in pools:
        raise UserError(f"{folder} has the folders {', '.join(pools)}, but none called train")
    first = read_picture(folder / files[0], folder / files[0], rgb=rgb, size=size)
    check_bytes(folder, len(files) * first.size)
    return {pool: _read(folder, chosen, first, rgb, size, int(by_split)) for pool, chosen in pools.items()}


def _read(folder: Path, files: list[Path], first: np.ndarray, rgb: bool, size: int | None, depth: int) -> Images:
    """Read files into one array. `depth`: the number of folders above the labels."""
    pixels = np.empty((len(files), *first.shape), np.uint8)
    for i, file in enumerate(files):
        picture = read_picture(folder / file, folder / file, rgb=rgb, size=size)
        if picture.shape != first.shape:
            raise UserError(
                f"{folder / file} has {picture.shape[2]} x {picture.shape[1]} pixels, but others have "
                f"{first.shape[2]} x {first.shape[1]}; corpus.size=N resizes all pictures to N x N"
            )
        pixels[i] = picture
    labels = ["/".join(file.parts[depth:-1]) or None for file in files]
    return made(pixels, {"label": labels}, [folder / file for file in files])
