"""The metric groups by name, in the order of a report, and the definitions of their metrics."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smim.evaluation import (
    answering,
    examples,
    generativity,
    information,
    likelihood,
    overlap,
    reconstruction,
    representation,
    semantics,
    vectors,
    written,
)
from smim.evaluation.section import Definition, Section


@dataclass(frozen=True)
class Group:
    """A metric group. `evaluate(job, settings, plots)` computes its section; without settings `evaluate(job, plots)`.

    `files`: a function from the settings to further files on which the metrics depend. `asked_for`: the group needs
    such files, so it runs only if the user names it.
    """

    evaluate: Callable[..., Section]
    metrics: Sequence[Definition] = ()
    settings: type | None = None
    files: Callable[[Any], list[Path]] = lambda settings: []
    asked_for: bool = False


GROUPS = {
    "likelihood": Group(likelihood.evaluate, likelihood.METRICS, likelihood.LikelihoodArgs),
    "reconstruction": Group(reconstruction.evaluate, reconstruction.METRICS),
    "information": Group(information.evaluate, information.METRICS, information.InformationArgs),
    "overlap": Group(overlap.evaluate, overlap.METRICS),
    "answering": Group(answering.evaluate, answering.METRICS, answering.AnsweringArgs),
    "representation": Group(representation.evaluate, representation.METRICS, representation.RepresentationArgs),
    "semantics": Group(
        semantics.evaluate, semantics.ALL_METRICS, semantics.SemanticsArgs, files=semantics.files, asked_for=True
    ),
    "examples": Group(examples.evaluate, settings=examples.ExamplesArgs),
    "generativity": Group(
        generativity.evaluate,
        written.METRICS,
        generativity.GenerativityArgs,
        files=generativity.files,
        asked_for=True,
    ),
    "vectors": Group(vectors.evaluate, vectors.METRICS, vectors.VectorsArgs),
}
OF_SENTENCES = [name for name in GROUPS if name != "vectors"]
BY_DEFAULT = [name for name in OF_SENTENCES if not GROUPS[name].asked_for]


def definitions() -> dict[str, Definition]:
    """All metrics of reports, by name, in the order of the groups. Groups that share a metric share its definition."""
    return {each.name: each for group in GROUPS.values() for each in group.metrics}


def definition(name: str) -> Definition:
    """Return a metric's definition. For label columns, the name ends in `:LABEL`. Raises KeyError if unknown."""
    kind, _, label = name.partition(":")
    return definitions()[kind].for_label(label)


def headlines(names: Iterable[str]) -> list[Definition]:
    """Select the definitions of the named metrics that have a title, in the order of the groups."""
    named = sorted({*names})
    titled = [kind for kind, each in definitions().items() if each.title]
    return [definition(name) for kind in titled for name in named if name.partition(":")[0] == kind]
