"""What a reader of images returns, and checks that all readers share.

Shapes: N images, C channels (1: grey, 3: RGB), H rows of W pixels.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smim.errors import UserError
from smim.preparation.readers import shortened
from smim.preparation.vectors import MOST_NUMBERS

# Limits for the bytes of one file when unpacked, and for the pixels of one picture.
MOST_BYTES = MOST_NUMBERS
MOST_PIXELS = 2**27
# Deflate, the compression of gzip and zip, makes at most 1,032 bytes of one.
_MOST_UNPACKED = 1032
_SHOWN = 8
Labels = Sequence[str | None]


@dataclass(frozen=True)
class Images:
    """Images with labels. `pixels`: uint8 in [0, 255], or fp32 in [0, 1], [N, C, H, W].

    `labels`: for each label column, N strings or None; the last column divides the images most finely. `files`: where
    the images come from.
    """

    pixels: np.ndarray
    labels: Mapping[str, Labels]
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def vectors(self) -> np.ndarray:
        """The pixels as vectors, fp32 [N, C H W] in [0, 1]."""
        flat = self.pixels.reshape(len(self), -1)
        return np.divide(flat, 255, dtype=np.float32) if flat.dtype == np.uint8 else flat

    @property
    def finest_labels(self) -> Labels:
        """The last label column."""
        return list(self.labels.values())[-1]

    def chosen(self, rows: np.ndarray) -> "Images":
        """Return the images of the given rows."""
        labels = {name: [values[row] for row in rows] for name, values in self.labels.items()}
        return replace(self, pixels=self.pixels[rows], labels=labels)


def made(pixels: np.ndarray, labels: Mapping[str, Labels], files: Iterable[Path]) -> Images:
    """Make `Images` from pixels [N, H, W] or [N, C, H, W]. Raises `UserError` if the parts do not fit together."""
    files = tuple(files)
    named = " and ".join(map(str, files[:2]))
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.size:
        raise UserError(f"{named}: images of shape {list(pixels.shape)}, but it must be [N, H, W] or [N, 1 or 3, H, W]")
    if pixels.dtype == np.uint8:
        if pixels.max() == 1:
            raise UserError(
                f"{named}: no pixel is above 1, but white is 255; if these are bits, store them as 0 and 255, or as "
                f"floating-point numbers"
            )
    else:
        if pixels.dtype.kind != "f":
            raise UserError(f"{named}: pixels are of type {pixels.dtype}, but they must be uint8 or floating-point")
        pixels = pixels.astype(np.float32)
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is refused too
            raise UserError(f"{named}: pixels from {pixels.min():g} to {pixels.max():g}, but they must be in [0, 1]")
    for name, values in labels.items():
        if len(values) != len(pixels):
            raise UserError(f"{named}: {len(pixels):,} images, but {len(values):,} labels {name!r}")
    return Images(pixels, labels, files)


def named_labels(numbers: np.ndarray, names: tuple[str, ...], path: Path) -> list[str]:
    """Convert class numbers [N] to names. Raises `UserError` for a number without a name."""
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise UserError(f"{path}: labels must be one whole number for each image")
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(names):
        raise UserError(
            f"{path}: labels from {numbers.min()} to {numbers.max()}, but they must be from 0 to {len(names) - 1}"
        )
    return [names[number] for number in numbers]


def check_bytes(path: Path | str, claimed: int, packed: int | None = None) -> None:
    """Raise `UserError` if a file claims more bytes than the limit, or than its `packed` bytes can hold."""
    if packed is not None and claimed > _MOST_UNPACKED * packed:
        raise UserError(
            f"{path} claims {claimed:,} bytes, but its {packed:,} compressed bytes cannot hold them; it is damaged"
        )
    if claimed > MOST_BYTES:
        raise UserError(f"{path} claims {claimed:,} bytes of images, more than the limit of {MOST_BYTES:,}")


def check_md5(path: Path, known: Mapping[str, str], *, checked: bool) -> None:
    """Raise `UserError` if a file with a published name has another MD5 than the published one."""
    if not checked or path.name not in known:
        return
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest != known[path.name]:
        raise UserError(
            f"{path} has the MD5 {digest}, but the published file has {known[path.name]}; get the file again, or give "
            f"corpus.checksums=false if it is another file on purpose"
        )


@contextmanager
def whole(path: Path | str, kind: str) -> Iterator[None]:
    """Turn whatever a library raises about a file into a `UserError` that the file is not a whole one of its `kind`.

    Libraries raise many types of errors for damaged files. Errors of the operating system keep their type.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{path} is not a whole {kind} ({error})") from None


def folder_of(path: str | None, needed: str) -> Path:
    """Return the folder `corpus.path`. Raises `UserError`, with the `needed` files, if it is missing."""
    if path is None:
        raise UserError(f"corpus.path is missing; give corpus.path=FOLDER with {needed}")
    folder = Path(os.path.expanduser(path))
    if not folder.is_dir():
        raise UserError(f"corpus.path={path} is not a folder; give the folder with {needed}")
    return folder


def not_found(folder: Path, needed: str) -> UserError:
    """The error for a folder that lacks the `needed` files, with what it holds."""
    present = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    return UserError(f"{folder} has no {needed}; it holds {shortened(present, _SHOWN) or 'nothing'}")
