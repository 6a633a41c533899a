"""The recipe of a user's own text: files in the readers' formats, or a dataset of the Hugging Face hub."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from smim.errors import UserError, refuse
from smim.preparation.args import CorpusArgs, as_paths
from smim.preparation.readers import by_split, find_columns, find_files, hub_files, is_saved_dataset, listed, reader_for
from smim.preparation.reading import PART_COLUMNS
from smim.preparation.recipe import Amount, Input, Recipe
from smim.text.corpus import OWN_COLUMNS, PAIR_COLUMNS

_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class TextArgs(CorpusArgs):
    """The settings of a user's own text.

    `text_column`, `label_columns`: for formats with columns. `header`: whether a CSV or TSV file names its columns.
    `pair_column`: the column of each text's other sentence, such as a paraphrase or an answer.

    `splits`: a path for each given split. `hub`, `hub_config`: a dataset instead of files. `valid`, `test`: the shares
    of these splits if they are not given; with 0 there is no such split.
    """

    text_column: str = "text"
    label_columns: list[str] = field(default_factory=list)
    pair_column: str | None = None
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
            problems.append(
                f"corpus.valid={self.valid} and corpus.test={self.test} must be at least 0 and leave a share for train"
            )
        if sum([self.path is not None, bool(self.given_splits), self.hub is not None]) != 1:
            problems.append(
                "give the text as exactly one of corpus.path=FILE_OR_FOLDER, corpus.splits.train=FILE (and .valid, "
                ".test) and corpus.hub=DATASET"
            )
        if self.given_splits and "train" not in self.given_splits:
            problems.append("corpus.splits has no train; give corpus.splits.train=FILE")
        if self.hub_config and not self.hub:
            problems.append("corpus.hub_config needs corpus.hub=DATASET")
        if self.pair_column and (self.split_sentences or self.too_long == "split"):
            problems.append(
                "corpus.pair_column needs one sentence per text: remove corpus.split_sentences=true and "
                "corpus.too_long=split"
            )
        if self.pair_column == self.text_column:
            problems.append(
                f"corpus.pair_column={self.pair_column} is the column of the text; give that of the other sentence"
            )
        own = {*OWN_COLUMNS, *PART_COLUMNS, *(PAIR_COLUMNS if self.pair_column else ())}
        if taken := sorted(set(self.label_columns) & own):
            problems.append(
                f"corpus.label_columns has {', '.join(taken)}, a name that preparation itself uses; rename the column "
                "in the file"
            )
        refuse(problems)

    @property
    def given_splits(self) -> dict[str, Any]:
        return {split: path for split, path in self.splits.items() if path is not None}

    @property
    def sources(self) -> list[str]:
        return [path for given in (self.path, *self.given_splits.values()) for path in as_paths(given)]


def recipe(args: TextArgs) -> Recipe:
    pools, notes = _pools(args)
    beside = tuple(dict.fromkeys([*args.label_columns, *filter(None, [args.pair_column])]))
    reader = partial(reader_for, text_column=args.text_column, label_columns=beside, header=args.header)
    readers = {path: reader(path) for paths in pools.values() for path in paths}
    _check_columns(args, {path: each.columns(path) for path, each in readers.items()})
    inputs = tuple(Input(pool, path, readers[path]) for pool, paths in pools.items() for path in paths)
    return Recipe(
        inputs=inputs,
        draws=_draws(list(pools), args),
        cleaning=dict.fromkeys(pools, args.cleaning),
        label_columns=tuple(args.label_columns),
        pair_column=args.pair_column,
        facts={"hub": args.hub, "hub_config": args.hub_config} if args.hub else {},
        notes=notes,
    )


def _pools(args: TextArgs) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Find the files of each given split, or of "all", and return them with notes for the card."""
    if args.given_splits:
        pools = {split: find_files(as_paths(path)) for split, path in args.given_splits.items()}
        _check_apart(pools)
        return pools, ()
    dataset = args.hub or (args.path if isinstance(args.path, str) and is_saved_dataset(Path(args.path)) else None)
    if dataset is None:
        files = find_files(args.given_paths("FILE_OR_FOLDER"))
        named = by_split(files)
        together = (
            f"the file names contain {', '.join(named)}, but the splits were drawn from all files together; "
            "to keep them apart, give corpus.splits.train=FILE (and .valid, .test)"
        )
        return {"all": files}, (together,) if len(named) > 1 else ()
    found = hub_files(dataset, args.hub_config)
    if not {"train", "all"} & set(found):
        raise UserError(f"the dataset {dataset} has no split 'train'; it has {', '.join(found)}")
    others = [split for split in found if split not in (*_SPLITS, "all")]
    notes = (f"not read: the dataset's splits {', '.join(others)}",) if others else ()
    return {split: found[split] for split in ("all", *_SPLITS) if split in found}, notes


def _check_columns(args: TextArgs, found: Mapping[Path, list[str] | None]) -> None:
    """Raise `UserError` if a file lacks the text column, or if all files lack a label or pair column."""
    for path, columns in found.items():
        if columns:
            find_columns(args.text_column, (), columns, path)
    if None in found.values():
        return
    wanted = dict.fromkeys(args.label_columns, "label") | ({args.pair_column: "pair"} if args.pair_column else {})
    for name, kind in wanted.items():
        if not any(name in columns for columns in found.values() if columns):
            path, columns = max(found.items(), key=lambda each: len(each[1] or ()))
            there = listed(columns or ()) or "none, because it is plain text"
            raise UserError(f"no file has a column {name!r} for the {kind}; the columns of {path}: {there}")


def _draws(pools: list[str], args: TextArgs) -> dict[str, dict[str, Amount]]:
    """Decide the draws: given splits do not change, and the others are shares of train, or of "all"."""
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
