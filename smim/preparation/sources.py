"""Source files: found on disk, or downloaded with a checksum."""

import hashlib
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from smim import storage
from smim.errors import UserError
from smim.preparation.readers import COMPRESSIONS
from smim.progress import console

_NAMES_OF_SPLITS = {"train": {"train"}, "valid": {"valid", "validation", "dev"}, "test": {"test"}}


@dataclass(frozen=True)
class RemoteFile:
    """A public file: its name, where it is had, and the SHA-256 of its plain (not gzip'd) content."""

    name: str
    url: str
    sha256: str


def find(folder: Path, name: str) -> Path:
    """`folder/name`, plain or compressed; raises `UserError` that says what is there instead."""
    for candidate in (folder / f"{name}{packed}" for packed in ("", *COMPRESSIONS)):
        if candidate.is_file():
            return candidate
    if not folder.is_dir():
        raise UserError(f"corpus.path={folder} is not a folder; it is to hold {name} (or {name}.gz)")
    present = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    raise UserError(f"{folder} has no {name} (or {name}.gz); it holds {present}")


def by_split(paths: list[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names tell (`yahoo.train.txt`, `dev.tsv.gz`); under "all" where none tells one."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for split, names in _NAMES_OF_SPLITS.items():
            if set(re.split(r"[^a-z]+", path.name.lower())) & names:
                found.setdefault(split, []).append(path)
    return found or {"all": paths}


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
