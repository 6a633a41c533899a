"""A user's own text: files of any format that the readers know, or a dataset of the Hugging Face hub."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.corpora.args import CorpusArgs
from data_prep.readers import ArrowStream, Reader, find_files, hub_files, reader_for
from data_prep.reading import PART_COLUMNS
from data_prep.recipe import Amount, Input, Recipe
from smim.errors import UserError
from smim.text.corpus import OWN_COLUMNS

_SPLITS = ("train", "valid", "test")


@dataclass
class TextArgs(CorpusArgs):
    """`text_column`, `label_columns`: of formats that have columns; `header`: whether a CSV or TSV names them.

    `splits`: a path for each split that is given; `hub`, `hub_config`: a dataset instead of files. `valid`, `test`:
    their shares of the sentences where they are not given; with a share of 0 there is no such split.
    """

    text_column: str = "text"
    label_columns: list[str] = field(default_factory=list)
    header: bool = True
    splits: dict[str, Any] = field(default_factory=dict)
    hub: str | None = None
    hub_config: str | None = None
    valid: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if not (self.valid >= 0 and self.test >= 0 and self.valid + self.test < 1):
            problems.append(f"corpus.valid={self.valid} and corpus.test={self.test} must leave a share for train")
        if sum([self.path is not None, bool(self.given_splits), self.hub is not None]) != 1:
            problems.append(
                "which text? give one of corpus.path=FILE_OR_FOLDER, corpus.splits.train=FILE (and .valid, .test), "
                "corpus.hub=DATASET"
            )
        if self.given_splits and "train" not in self.given_splits:
            problems.append("corpus.splits has no train")
        if self.hub_config and not self.hub:
            problems.append("corpus.hub_config is for corpus.hub=DATASET")
        if taken := sorted(set(self.label_columns) & {*OWN_COLUMNS, *PART_COLUMNS}):
            problems.append(
                f"corpus.label_columns has {', '.join(taken)}, which preparation itself calls a column; rename that in "
                "the file"
            )
        if problems:
            raise UserError("; ".join(problems))

    @property
    def given_splits(self) -> dict[str, Any]:
        return {split: path for split, path in self.splits.items() if path is not None}


def recipe(args: TextArgs) -> Recipe:
    if args.hub is not None:
        found = hub_files(args.hub, args.hub_config)
        if "train" not in found:
            raise UserError(f"the dataset {args.hub} has no split 'train'; it has {', '.join(found)}")
        pools = {split: found[split] for split in _SPLITS if split in found}
    elif args.given_splits:
        pools = {
            split: find_files([str(each) for each in (path if isinstance(path, list) else [path])])
            for split, path in args.given_splits.items()
        }
        _check_apart(pools)
    else:
        pools = {"all": find_files(args.given_paths("FILE_OR_FOLDER"))}
    inputs = tuple(Input(pool, path, _reader(path, args)) for pool, paths in pools.items() for path in paths)
    return Recipe(
        inputs=inputs,
        draws=_draws(list(pools), args),
        cleaning=dict.fromkeys(pools, args.cleaning),
        label_columns=tuple(args.label_columns),
        facts={"hub": args.hub, "hub_config": args.hub_config} if args.hub else {},
    )


def _reader(path: Path, args: TextArgs) -> Reader:
    if args.hub is not None:
        return ArrowStream(text_column=args.text_column, label_columns=tuple(args.label_columns))
    return reader_for(path, text_column=args.text_column, label_columns=tuple(args.label_columns), header=args.header)


def _draws(pools: list[str], args: TextArgs) -> dict[str, dict[str, Amount]]:
    """Splits that are given stay; the others are shares of the first pool."""
    shares = {"valid": args.valid, "test": args.test}
    first: dict[str, Amount] = {split: share for split, share in shares.items() if share and split not in pools}
    return {pools[0] if "train" not in pools else "train": {**first, "train": None}} | {
        split: {split: None} for split in shares if split in pools
    }


def _check_apart(pools: dict[str, list[Path]]) -> None:
    owner: dict[Path, str] = {}
    for split, paths in pools.items():
        for path in paths:
            other = owner.setdefault(path.resolve(), split)
            if other != split:
                raise UserError(f"{path} is given for {other} and for {split}; splits must not overlap")
