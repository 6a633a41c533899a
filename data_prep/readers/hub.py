"""Datasets of the Hugging Face hub, by way of the `datasets` library's cache."""

import logging
from pathlib import Path

from smim.errors import SmimError, UserError, storage_problem

_SPLITS = {"validation": "valid", "dev": "valid", "val": "valid"}


def hub_files(name: str, config: str | None) -> dict[str, list[Path]]:
    """The Arrow files of each split of a dataset, fetched if need be; "validation" and "dev" are called "valid".

    `name` is one of the hub's, or a local folder. Raises `UserError` where it is unknown or cannot be reached.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise UserError("corpus.hub needs the datasets library; install it with `pip install datasets`") from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        loaded = datasets.load_dataset(name, config)
    except ConnectionError as error:
        raise UserError(
            f"corpus.hub={name} cannot be reached ({_first_line(error)}): check the connection, or fetch its files "
            f"elsewhere and give them as corpus.path=FOLDER"
        ) from None
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
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
    return files


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")
