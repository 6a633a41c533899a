"""The groups of metrics by name, in the order of a report, and the definitions of their metrics."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from smim.evaluation import (
    answering,
    examples,
    information,
    likelihood,
    overlap,
    reconstruction,
    representation,
    semantics,
    vectors,
)
from smim.evaluation.section import Definition, Section


@dataclass(frozen=True)
class Group:
    """`evaluate(job, settings, plots)` gives the group's section; without `settings` `evaluate(job, plots)` does."""

    evaluate: Callable[..., Section]
    metrics: Sequence[Definition] = ()
    settings: type | None = None


GROUPS = {
    "likelihood": Group(likelihood.evaluate, likelihood.METRICS, likelihood.LikelihoodArgs),
    "reconstruction": Group(reconstruction.evaluate, reconstruction.METRICS),
    "information": Group(information.evaluate, information.METRICS, information.InformationArgs),
    "overlap": Group(overlap.evaluate, overlap.METRICS),
    "answering": Group(answering.evaluate, answering.METRICS, answering.AnsweringArgs),
    "representation": Group(representation.evaluate, representation.METRICS, representation.RepresentationArgs),
    "semantics": Group(semantics.evaluate, semantics.ALL_METRICS, semantics.SemanticsArgs),
    "examples": Group(examples.evaluate, settings=examples.ExamplesArgs),
    "vectors": Group(vectors.evaluate, vectors.METRICS, vectors.VectorsArgs),
}
OF_SENTENCES = [name for name in GROUPS if name != "vectors"]
# Those that need no files beside model and corpus.
BY_DEFAULT = [name for name in OF_SENTENCES if name != "semantics"]


def definitions() -> dict[str, Definition]:
    """All that a report can hold, by name, in the order of the groups; metrics that two share are of one definition."""
    return {each.name: each for group in GROUPS.values() for each in group.metrics}


def definition(name: str) -> Definition:
    """That of a metric; a label column's has the label behind a colon. Raises KeyError for an unknown one."""
    kind, _, label = name.partition(":")
    return definitions()[kind].for_label(label)


def headlines(names: Iterable[str]) -> list[Definition]:
    """Those of the metrics named that have a title, in the order of the groups."""
    named = sorted({*names})
    titled = [kind for kind, each in definitions().items() if each.title]
    return [definition(name) for kind in titled for name in named if name.partition(":")[0] == kind]
