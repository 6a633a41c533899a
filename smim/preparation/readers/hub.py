"""Datasets of the Hugging Face hub, through the cache of the `datasets` library."""

import itertools
import logging
from pathlib import Path

from smim.errors import SmimError, UserError, storage_problem

# The files that `save_to_disk` writes beside the Arrow files: for one dataset, and for several splits.
_OF_DATASET = ("state.json", "dataset_info.json")
_OF_SPLITS = "dataset_dict.json"
# Errors from unknown names and from damaged descriptions of datasets.
_DAMAGED = (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
# The names of splits in datasets and folders.
SPLITS = {"train": "train", **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"), "test": "test"}


def is_saved_dataset(folder: Path) -> bool:
    """Check whether `save_to_disk` of a `Dataset` or a `DatasetDict` wrote a folder."""
    return (folder / _OF_SPLITS).is_file() or all((folder / name).is_file() for name in _OF_DATASET)


def hub_files(name: str, config: str | None) -> dict[str, list[Path]]:
    """Find the Arrow files of each split of a dataset, and download it if needed.

    `name` is a name on the hub or a local folder. The splits "validation", "val" and "dev" are called "valid", and a
    dataset that `save_to_disk` wrote without splits is called "all".

    Raises `UserError` if the dataset is unknown or cannot be reached, or if it names files outside of its folder.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise UserError("corpus.hub needs the datasets library; install it with `pip install datasets`") from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        if is_saved_dataset(Path(name)):
            saved = datasets.load_from_disk(name)
            loaded = {"all": saved} if isinstance(saved, datasets.Dataset) else saved
        else:
            loaded = datasets.load_dataset(name, config)
    except ConnectionError as error:
        raise UserError(
            f"corpus.hub={name} cannot be reached ({_first_line(error)}): check the connection, or download its files "
            f"on another machine and give them as corpus.path=FOLDER"
        ) from None
    except (*_DAMAGED, datasets.exceptions.DatasetsError) as error:
        if problem := storage_problem(error.__cause__ or error):
            cache = datasets.config.HF_DATASETS_CACHE
            raise SmimError(f"corpus.hub={name} cannot be stored in {cache}: {problem}") from None
        asked = f"corpus.hub={name}" + (f" with corpus.hub_config={config}" if config else "")
        raise UserError(
            f"{asked}: {_first_line(error)}. Look it up at https://huggingface.co/datasets, or give files as "
            f"corpus.path=FOLDER"
        ) from None
    files: dict[str, list[Path]] = {}
    for split, dataset in loaded.items():
        files.setdefault(SPLITS.get(split, split), []).extend(Path(file["filename"]) for file in dataset.cache_files)
    folder = Path(name).resolve()
    for path in itertools.chain(*files.values()) if is_saved_dataset(folder) else ():
        if not path.resolve().is_relative_to(folder):
            raise UserError(f"{name} names the file {path}, which is outside of its folder; save the dataset again")
    return files


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")
