"""Any folder of pictures: `FOLDER/LABEL/picture.png`, or `FOLDER/train/LABEL/picture.png` with splits of one's own."""

from pathlib import Path

import numpy as np

from smim.errors import UserError
from smim.preparation.image_readers.base import Images, check_bytes, folder_of, made, not_found
from smim.preparation.image_readers.pictures import SUFFIXES, read_picture
from smim.preparation.readers import SPLITS, check_names, files_below

_NEEDED = f"pictures ({', '.join(SUFFIXES)}), in one subfolder for each label"


def read(path: str | None, *, rgb: bool, size: int | None) -> dict[str, Images]:
    """Read the pictures below a folder, by path: as RGB or grey, all of one size or resized to `size` x `size`.

    The label of a picture is its folder's path below FOLDER, or None. The pools are the splits if all top folders have
    the name of one, otherwise "all". Raises `UserError` if there is no picture, if their sizes differ, if a picture is
    in none of several splits, or if a name is not UTF-8.
    """
    folder = folder_of(path, _NEEDED)
    found = [each for each in files_below(folder) if each.suffix.lower() in SUFFIXES and each.is_file()]
    files = [each.relative_to(folder) for each in sorted(found)]
    if not files:
        raise not_found(folder, _NEEDED)
    check_names(files)
    pools = _pools(folder, files)
    by_split = "all" not in pools
    first = read_picture(folder / files[0], folder / files[0], rgb=rgb, size=size)
    check_bytes(folder, len(files) * first.size)
    return {pool: _read(folder, chosen, first, rgb, size, int(by_split)) for pool, chosen in pools.items()}


def _pools(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Group files by the split that their top folder names, or all as "all". One label may have the name of a split."""
    pools: dict[str, list[Path]] = {}
    for file in files:
        top = file.parts[0].lower() if len(file.parts) > 1 else ""
        pools.setdefault(SPLITS.get(top, "all"), []).append(file)
    others = pools.pop("all", [])
    if others and len(pools) > 1:
        raise UserError(
            f"{folder} has folders for {', '.join(pools)}, but {others[0]} is in none of them; move it into one, or "
            f"out of {folder}"
        )
    if others:
        return {"all": files}
    if "train" not in pools:
        raise UserError(f"{folder} has the folders {', '.join(pools)}, but none called train")
    return pools


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
