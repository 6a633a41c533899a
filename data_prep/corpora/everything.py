"""The union of PTB, Yahoo, Yelp15 and WT103 with one vocabulary; a column `source` says where a sentence is from."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data_prep.corpora import ptb, reviews, wt103
from smim import config
from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.cleaning import Cleaning
from smim.preparation.recipe import Amount, Input, Recipe

_RECIPES = {"ptb": ptb.recipe, "yahoo": reviews.recipe, "yelp15": reviews.recipe, "wt103": wt103.recipe}


@dataclass(frozen=True, kw_only=True)
class EverythingArgs(CorpusArgs):
    """`parts.NAME` are the settings of each corpus; without a path of its own it is in the folder `path/NAME`."""

    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        return [path for name in _RECIPES for path in _with_path(self, name).sources]


def recipe(args: EverythingArgs) -> Recipe:
    if args.cleaning != Cleaning():
        raise UserError(
            "Everything's sentences are cleaned as those of its parts: give, for example, corpus.parts.ptb.max_words "
            "instead of corpus.max_words"
        )
    inputs: list[Input] = []
    draws: dict[str, dict[str, Amount]] = {}
    cleaning: dict[str, Cleaning] = {}
    notes: list[str] = []
    expected: dict[str, int] = {}
    for name, make in _RECIPES.items():
        part = make(_with_path(args, name))
        for each in part.inputs:
            inputs.append(replace(each, pool=f"{name}/{each.pool}", labels={"source": name}))
        draws |= {f"{name}/{pool}": dict(amounts) for pool, amounts in part.draws.items()}
        cleaning |= {f"{name}/{pool}": each for pool, each in part.cleaning.items()}
        notes += [f"{name}: {note}" for note in part.notes]
        for split, size in part.expected.items():
            expected[split] = expected.get(split, 0) + size
    return Recipe(
        inputs=tuple(inputs),
        draws=draws,
        cleaning=cleaning,
        label_columns=("source",),
        expected=expected,
        notes=tuple(notes),
    )


def _with_path(args: EverythingArgs, name: str) -> CorpusArgs:
    part = replace(config.make(CorpusArgs, DictConfig(args.parts[name]), f"corpus.parts.{name}"), seed=args.seed)
    if part.path is not None:
        return part
    [folder] = args.given_paths("FOLDER with the folders ptb, yahoo, yelp15 and wt103")
    return replace(part, path=str(Path(folder) / name))
