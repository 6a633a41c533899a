"""Omniglot (Lake et al. 2015): handwritten characters of 50 alphabets, 20 drawings of each. Ink is 1.

The zips of the authors hold `.../ALPHABET/characterNN/NNNN_NN.png`, black on white, 105 x 105. `chardata.mat` of Burda
et al. (2015) holds the drawings at 28 x 28, divided into 24,345 and 8,070.
"""

import io
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from smim import storage
from smim.errors import UserError
from smim.preparation.image_readers.base import Images, check_bytes, check_md5, folder_of, made, not_found, whole
from smim.preparation.image_readers.matlab import read_arrays
from smim.preparation.image_readers.pictures import pillow, read_picture
from smim.preparation.readers import check_names

_MAT = "chardata.mat"
SIZE = 28  # by default, as in Burda et al.'s file
# Published MD5s.
MD5 = {
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
}
_NEEDED = f"{_MAT}, or the archives images_*.zip"
_MOST_PNG = 2**20


def read(path: str | None, *, size: int, checked: bool) -> tuple[dict[str, Images], int]:
    """Read the pools train and test of `chardata.mat` in a folder, or else the pool "all" of its zips `images_*.zip`.

    Drawings of zips are resized to `size` x `size`. `checked`: compare the published MD5. The second value counts the
    drawings that were left out, because another zip has them too: the zips called `small` share alphabets.

    Labels: `alphabet` and `character`, which names both. Raises `UserError` for missing, damaged or different files.
    """
    folder = folder_of(path, _NEEDED)
    if (mat := folder / _MAT).is_file():
        if size != SIZE:
            raise UserError(f"{mat} holds drawings of 28 x 28 pixels; leave out corpus.size, or use the archives")
        return _read_mat(mat), 0
    archives = sorted(folder.glob("images_*.zip"))
    if not archives:
        raise not_found(folder, _NEEDED)
    check_names(Path(archive.name) for archive in archives)
    drawings: dict[str, np.ndarray] = {}
    repeated = 0
    for archive in archives:
        check_md5(archive, MD5, checked=checked)
        found = _read_zip(archive, size)
        repeated += len(drawings.keys() & found.keys())
        drawings = found | drawings
    names = sorted(drawings)
    labels = {
        "alphabet": [name.split("/")[0] for name in names],
        "character": [name.rpartition("/")[0] for name in names],
    }
    return {"all": made(np.stack([drawings[name] for name in names]), labels, archives)}, repeated


def _read_zip(path: Path, size: int) -> dict[str, np.ndarray]:
    """Read the drawings of an archive by ALPHABET/CHARACTER/FILE, uint8 [1, H, W] each."""
    storage.check_regular(path)
    pillow()
    with whole(path, "zip file"), zipfile.ZipFile(path) as archive:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = PurePosixPath(entry.filename)
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{path} holds the name {entry.filename[:60]!r}, which leads out of the archive")
            # macOS adds hidden files `._NAME`, which are no pictures.
            if name.suffix.lower() == ".png" and not name.name.startswith(".") and len(name.parts) >= 3:
                check_bytes(f"{path}: {name}", entry.file_size, entry.compress_size)
                if entry.file_size > _MOST_PNG:
                    raise UserError(f"{path}: {name} claims {entry.file_size:,} bytes, too many for a drawing")
                key = "/".join(name.parts[-3:])
                if key in entries:
                    raise UserError(f"{path} holds {key} twice: {entries[key].filename} and {name}; remove one of them")
                entries[key] = entry
        if not entries:
            raise UserError(f"{path} holds no drawing with a name like ALPHABET/character01/0001_01.png")
        check_bytes(path, len(entries) * size * size)
        return {
            name: read_picture(io.BytesIO(archive.read(entry)), f"{path}: {name}", size=size, inverted=True)
            for name, entry in entries.items()
        }


def _read_mat(path: Path) -> dict[str, Images]:
    names = {"train": ("data", "target", "targetchar"), "test": ("testdata", "testtarget", "testtargetchar")}
    held = read_arrays(path, [name for of_pool in names.values() for name in of_pool])
    return {pool: _of_mat(*[held[name] for name in each], path=path) for pool, each in names.items()}


def _of_mat(data: np.ndarray, target: np.ndarray, characters: np.ndarray, *, path: Path) -> Images:
    """Make images of `data` [784, N], by columns, with one-hot alphabets [50, N] and numbers of characters [1, N]."""
    pixels, num = SIZE**2, data.shape[-1]
    if data.shape != (pixels, num) or target.ndim != 2 or target.shape[1] != num or characters.shape != (1, num):
        raise UserError(f"{path}: arrays of shapes {data.shape}, {target.shape} and {characters.shape} do not fit")
    by_column = data.T.astype(np.float32).reshape(num, SIZE, SIZE)
    alphabets = [str(number) for number in target.argmax(0)]
    labels = {
        "alphabet": alphabets,
        "character": [f"{alphabet}/{number:g}" for alphabet, number in zip(alphabets, characters[0], strict=True)],
    }
    return made(by_column.transpose(0, 2, 1), labels, [path])
