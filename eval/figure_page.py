"""The content of a figure: means and standard deviations over seeds, a check of published orders, and a page."""

import statistics
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, product
from typing import Any

from smim.evaluation.groups import definition
from smim.evaluation.markup import code, literal, prose, table, with_error

# One training of a figure, and means by metric, method and value, as in figures.json.
Entry = dict[str, Any]
Points = dict[str, dict[str, list[dict[str, Any]]]]

# Reference lines: a metric's value for a model that knows the data, or its maximum.
REFERENCES = {
    "marginal_nll": ("data_nll", "true density of the data"),
    "mutual_information": ("mutual_information_cap", "largest measurable value"),
}

_PUBLISHED = "published"


def title_of(metric: str) -> str:
    """The name of a metric in a picture, with its unit."""
    defined = definition(metric)
    return ", ".join(filter(None, [defined.title or metric, defined.unit if defined.unit == "nats" else ""]))


def orders(given: Sequence[Any]) -> list[list[str]]:
    """The published orders of methods in a figure's `above`: a list of names is one, a list of lists several."""
    return [[*given]] if all(isinstance(each, str) for each in given) else [[*each] for each in given]


def points_of(trainings: Sequence[Entry]) -> Points:
    """Mean, standard deviation (None for one) and number of the finished trainings, for each metric."""
    found: dict[str, dict[str, dict[Any, list[float]]]] = {}
    for training in trainings:
        for metric, value in training.get("metrics", {}).items():
            by_value = found.setdefault(metric, {}).setdefault(training["method"], {})
            by_value.setdefault(training["value"], []).append(value)
    return {
        metric: {method: [_point(*item) for item in by_value.items()] for method, by_value in methods.items()}
        for metric, methods in found.items()
    }


def _point(value: Any, measured: list[float]) -> dict[str, Any]:
    stdev = statistics.stdev(measured) if len(measured) > 1 else None
    return {"value": value, "mean": statistics.fmean(measured), "stdev": stdev, "n": len(measured)}


def as_markdown(content: dict[str, Any]) -> str:
    """Make the page of a figure, from the content of its figures.json and the picture beside it."""
    figure = content["figure"]
    blocks = [
        f"# {prose(figure['title'])}",
        *([] if figure["kind"] == "table" else [f"![{literal(figure['name'])}]({figure['name']}.png)"]),
        f"The models were trained with {figure['seeds']} seed(s) on {literal(content['corpus']['name'])} and measured "
        f"on its test split. The band, and the number after ±, is the standard deviation over seeds.",
        *filter(None, [prose(figure["note"])]),
        *_statements(content),
        *_tables(content),
        *_failures(content["trainings"]),
        "## Provenance",
        _provenance(content),
    ]
    return "\n\n".join(blocks) + "\n"


def _statements(content: dict[str, Any]) -> Iterator[str]:
    """For each published order of a pair, state at which values it holds here, and by how much."""
    lines = []
    for metric, given in content["figure"]["above"].items():
        for above, below in chain.from_iterable(pairwise(order) for order in orders(given)):
            differences = _differences(content["points"].get(metric, {}), above, below)
            holds = sum(difference > 0 for difference in differences.values())
            listed = "; ".join(f"{_at(value)}{difference:+.3g}" for value, difference in differences.items())
            lines.append(
                f"- {literal(above)} above {literal(below)} in {code(metric)}: at {holds} of {len(differences)} "
                f"({literal(listed)})"
            )
    if lines:
        yield "## Published orders, and whether they hold here"
        yield "\n".join(lines)


def _differences(methods: dict[str, list[dict[str, Any]]], above: str, below: str) -> dict[Any, float]:
    means = {name: {point["value"]: point["mean"] for point in methods.get(name, [])} for name in (above, below)}
    return {value: mean - means[below][value] for value, mean in means[above].items() if value in means[below]}


def _at(value: Any) -> str:
    return "" if value is None else f"{value}: "


def _tables(content: dict[str, Any]) -> Iterator[str]:
    figure, points = content["figure"], content["points"]
    methods, metrics = list(figure["methods"]), figure["metrics"]
    yield "## Numbers"
    if figure["models"]:
        yield from _tables_of_models(figure, points)
        return
    if figure["vary"] is None:
        rows = [[literal(method), *[_cell(points, metric, method, None) for metric in metrics]] for method in methods]
        yield table(["method", *[prose(title_of(metric)) for metric in metrics]], rows)
        return
    for metric in metrics:
        yield f"### {prose(title_of(metric))}"
        rows = [[str(value), *[_cell(points, metric, m, value) for m in methods]] for value in figure["values"]]
        yield table([code(figure["vary"]), *map(literal, methods)], rows)


def _tables_of_models(figure: dict[str, Any], points: Points) -> Iterator[str]:
    """Make a table for each two metrics: a row for each model and method, with the published numbers beside ours."""
    for first in range(0, len(figure["metrics"]), 2):
        metrics = figure["metrics"][first : first + 2]
        header = ["model", "method", *chain.from_iterable((prose(title_of(each)), _PUBLISHED) for each in metrics)]
        rows = []
        for model, method in product(figure["models"], figure["methods"]):
            ours = [_cell(points, metric, method, model) for metric in metrics]
            published = [figure["published"].get(metric, {}).get(model, {}).get(method, "") for metric in metrics]
            if any(ours):
                cells = chain.from_iterable(zip(ours, map(str, published), strict=True))
                rows.append([literal(model), literal(method), *cells])
        yield table(header, rows, optional=[_PUBLISHED])


def _cell(points: Points, metric: str, method: str, value: Any) -> str:
    found = [point for point in points.get(metric, {}).get(method, []) if point["value"] == value]
    return with_error(found[0]["mean"], found[0]["stdev"]) if found else ""


def _failures(trainings: Sequence[Entry]) -> Iterator[str]:
    failed = [training for training in trainings if "failed" in training]
    if failed:
        yield f"## {len(failed)} of {len(trainings)} trainings failed and are left out"
        yield "\n".join(
            f"- {literal(training['method'])} {_at(training['value'])}seed {training['seed']}: "
            f"{literal(training['failed'])}"
            for training in failed
        )


def _provenance(content: dict[str, Any]) -> str:
    figure, environment = content["figure"], content["environment"]
    facts = {
        "command": environment["command"],
        "corpus": _listed(content["corpus"]["source"]),
        **{name: _listed(settings) for name, settings in {**figure["models"], **figure["methods"]}.items()},
        "model": _listed({name: value for name, value in content["model"].items() if name != figure["vary"]}),
        "training": _listed(content["train"]),
        "measurement": _listed(content["measure"]),
        "time": f"{sum(training['seconds'] for training in content['trainings']):.0f} s of one core for "
        f"{len(content['trainings'])} trainings",
        "machine": environment["machine"],
        "versions": _listed(environment["versions"]),
    }
    return table(["what", "value"], [[literal(name), literal(fact)] for name, fact in facts.items()])


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
