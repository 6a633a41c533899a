"""Source files: found on disk, plain or gzip'd, or downloaded with a checksum; read line by line."""

import gzip
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smim import storage
from smim.errors import UserError
from smim.progress import console


@dataclass(frozen=True)
class RemoteFile:
    """A public file: its name, where it is had, and the SHA-256 of its plain (not gzip'd) content."""

    name: str
    url: str
    sha256: str


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, plain or `.gz`, without line ends and surrounding space.

    Raises `UserError` with the line number where the content is not UTF-8 text.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if b"\0" in line:
                    raise UserError(f"{path}, line {number}: a NUL byte; this is not a text file")
                yield line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start} of the line); "
            f"convert it first, for example with `iconv -f latin1 -t utf-8`"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, a file is needed") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is not a complete gzip file: {error}") from None


def find(folder: Path, name: str) -> Path:
    """`folder/name` or `folder/name.gz`; raises `UserError` that says what is there instead."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    if not folder.is_dir():
        raise UserError(f"corpus.path={folder} is not a folder; it is to hold {name} (or {name}.gz)")
    present = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    raise UserError(f"{folder} has no {name} (or {name}.gz); it holds {present}")


def download(files: list[RemoteFile], cache: Path) -> None:
    """Fetches files that `cache` does not hold yet; each is checked before it is put in place.

    Raises `UserError` that names every file and its address where there is no connection.
    """
    for file in files:
        target = cache / file.name
        if target.is_file() and storage.sha256(target) == file.sha256:
            continue
        console.print(f"downloading {file.url}")
        try:
            with urllib.request.urlopen(file.url, timeout=60) as response:
                content = response.read()
        except (urllib.error.URLError, TimeoutError) as error:
            wanted = "\n".join(f"  {f.name}  from {f.url}" for f in files)
            raise UserError(
                f"cannot download {file.url} ({error}). Put these files, plain or .gz, into a folder and "
                f"give it as corpus.path=FOLDER:\n{wanted}"
            ) from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise UserError(f"{file.url} has not the expected SHA-256 {file.sha256}; it was not kept")
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f".{file.name}.partial"
        partial.write_bytes(content)
        os.replace(partial, target)


def describe(paths: list[Path]) -> list[dict[str, object]]:
    """Name, size and SHA-256 of input files, for the corpus card; raises `UserError` where one is missing."""
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is {'a folder, a file is needed' if path.is_dir() else 'not there'}")
    return [{"file": path.name, "bytes": path.stat().st_size, "sha256": storage.sha256(path)} for path in paths]
