"""Datasets of the Hugging Face hub, by way of the `datasets` library's cache."""

import itertools
import logging
from pathlib import Path

from smim.errors import SmimError, UserError, storage_problem

# What `save_to_disk` writes beside the Arrow files: of a dataset, and of several as splits.
_OF_DATASET = ("state.json", "dataset_info.json")
_OF_SPLITS = "dataset_dict.json"
# What unknown names and damaged descriptions of datasets raise.
_DAMAGED = (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
_SPLITS = {"validation": "valid", "dev": "valid", "val": "valid"}


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder is what `save_to_disk` wrote, of a `Dataset` or a `DatasetDict`."""
    return (folder / _OF_SPLITS).is_file() or all((folder / name).is_file() for name in _OF_DATASET)


def hub_files(name: str, config: str | None) -> dict[str, list[Path]]:
    """The Arrow files of each split of a dataset, fetched if need be; "validation" and "dev" are called "valid".

    `name` is one of the hub's, or a local folder; what `save_to_disk` wrote without splits is called "all". Raises
    `UserError` where it is unknown or cannot be reached, and where a saved dataset names files outside of its folder.
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
            f"corpus.hub={name} cannot be reached ({_first_line(error)}): check the connection, or fetch its files "
            f"elsewhere and give them as corpus.path=FOLDER"
        ) from None
    except (*_DAMAGED, datasets.exceptions.DatasetsError) as error:
        if problem := storage_problem(error.__cause__ or error):
            cache = datasets.config.HF_DATASETS_CACHE
            raise SmimError(f"corpus.hub={name} cannot be kept in {cache}: {problem}") from None
        asked = f"corpus.hub={name}" + (f" with corpus.hub_config={config}" if config else "")
        raise UserError(
            f"{asked}: {_first_line(error)}. Look it up at https://huggingface.co/datasets, or give files as "
            f"corpus.path=FOLDER"
        ) from None
    files: dict[str, list[Path]] = {}
    for split, dataset in loaded.items():
        files.setdefault(_SPLITS.get(split, split), []).extend(Path(file["filename"]) for file in dataset.cache_files)
    folder = Path(name).resolve()
    for path in itertools.chain(*files.values()) if is_saved_dataset(folder) else ():
        if not path.resolve().is_relative_to(folder):
            raise UserError(f"{name} names {path} as its own, which lies elsewhere")
    return files


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")
