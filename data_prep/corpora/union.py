"""Unions of corpora with one vocabulary. The column `source` names a sentence's corpus."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from smim import config
from smim.preparation.args import CorpusArgs, as_paths
from smim.preparation.cleaning import Cleaning
from smim.preparation.recipe import Amount, Input, Recipe

# By name: the settings of a part, and the function that makes a recipe from them.
Parts = Mapping[str, tuple[type[CorpusArgs], Callable[[Any], Recipe]]]


@dataclass(frozen=True, kw_only=True)
class UnionArgs(CorpusArgs):
    """The settings of a union. `parts.NAME`: the settings of each corpus, whose default folder is `path/NAME`."""

    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        return [path for name in self.parts for path in as_paths(self.path_of(name))]

    def path_of(self, name: str) -> Any:
        """Return the path of a part, or None if neither its own path nor the common one is given."""
        own = self.parts[name]["path"]
        return str(Path(self.path) / name) if own is None and self.path is not None else own

    def part(self, name: str, args_class: type[CorpusArgs]) -> Any:
        """Return the settings of a part, with the common random seed."""
        part = config.make(args_class, DictConfig(self.parts[name]), f"corpus.parts.{name}")
        return replace(part, seed=self.seed, path=self.path_of(name))


def union(args: UnionArgs, parts: Parts) -> Recipe:
    """Make the recipe of all parts, each with its own pools."""
    inputs: list[Input] = []
    draws: dict[str, Mapping[str, Amount]] = {}
    cleaning: dict[str, Cleaning] = {}
    notes: list[str] = []
    expected: dict[str, int] = {}
    for name, (args_class, make) in parts.items():
        part = make(args.part(name, args_class))
        for each in part.inputs:
            inputs.append(replace(each, pool=f"{name}/{each.pool}", labels={"source": name}))
        draws |= {f"{name}/{pool}": amounts for pool, amounts in part.draws.items()}
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
