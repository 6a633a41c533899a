"""`smim search`: the sentences of an index nearest to a query."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

import smim
from smim.cli.shared import Filter, IndexDir, MovedModel, parse_filter, show
from smim.errors import UserError

if TYPE_CHECKING:
    from smim.search import Index


def search(
    index: IndexDir,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The sentence to find others like.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many sentences to find, or all where they are fewer.")] = 5,
    like: Annotated[int | None, typer.Option(help="The id of a sentence to find others like, instead of TEXT.")] = None,
    toward: Annotated[str | None, typer.Option(help="Search on the line from TEXT to this sentence.")] = None,
    at: Annotated[
        float | None, typer.Option(help="Where on that line: 0 is TEXT, 1 the other; 0.5 if left out.")
    ] = None,
    plus: Annotated[list[str] | None, typer.Option(help="A sentence whose code is added to TEXT's.")] = None,
    minus: Annotated[list[str] | None, typer.Option(help="A sentence whose code is taken from TEXT's.")] = None,
    where: Filter = None,
    offset: Annotated[int, typer.Option(help="How many of the nearest to pass over.")] = 0,
    max_distance: Annotated[float | None, typer.Option(help="Find none that are farther.")] = None,
    model: MovedModel = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Also print query and hits as their codes decode.")] = False,
    score: Annotated[bool, typer.Option("--score", help="Also print log q(hit|query), in nats.")] = False,
) -> None:
    """Find the sentences of an index whose codes are nearest to a sentence's.

    Columns: rank, id, distance (the smaller, the nearer), sentence, and the corpus's labels.

    Example: smim search indexes/yelp "the food was cold" -k 3 --where '{"stars": {"$gte": 4}}'
    """
    if (text is None) == (like is None) or (like is not None and (toward or plus or minus)):
        raise UserError("what is to be found? give a sentence (with --toward, or --plus and --minus), or --like ID")
    if toward is not None and (plus or minus):
        raise UserError("--toward and --plus or --minus exclude each other")
    if at is not None and toward is None:
        raise UserError("--at is a place on the line to another sentence: give that with --toward")
    from smim.search import open_index
    from smim.search.labels import jsonable

    opened = open_index(index, model=smim.load(model) if model else None)
    options: dict[str, Any] = {"where": parse_filter(where), "offset": offset, "max_distance": max_distance}
    if like is not None:
        [hits] = opened.more_like([like], k, reconstruct=decode, score=score, **options)
        code = opened.codes([like]) if decode and opened.manifest.metric != "cosine" else None
        query = opened.get([like])[0]["text"]
    else:
        assert text is not None
        query = text
        code = _code(opened, text, toward, 0.5 if at is None else at, plus or [], minus or [])
        queries = [text] if code is None else code
        [hits] = opened.search(queries, k, reconstruct=decode, score=score, **options)
    decoded = None
    if decode:
        [decoded] = opened.model.reconstruct([query]) if code is None else opened.model.decode(code)
    if as_json:
        shown: dict[str, Any] = {"query": query, "hits": [hit.as_dict() for hit in hits]}
        found = jsonable(shown | ({"decoded": decoded} if decode else {}))
        print(json.dumps(found, allow_nan=False))
        return
    labels = list(hits[0].labels) if hits else []
    extra = ["decoded"] * decode + ["score"] * score
    rows = [] if decoded is None else [["query", "", "", query, *[""] * len(labels), decoded, *[""] * score]]
    for rank, hit in enumerate(hits, start=1):
        found = [str(rank), str(hit.id), f"{hit.distance:.4f}", hit.text]
        cells = [*found, *["" if value is None else str(value) for value in hit.labels.values()]]
        cells += [] if hit.reconstruction is None else [hit.reconstruction]
        cells += [] if hit.score is None else [f"{hit.score:.1f}"]
        rows.append(cells)
    show(rows, header=["rank", "id", "distance", "text", *labels, *extra])


def _code(opened: "Index", text: str, toward: str | None, at: float, plus: list[str], minus: list[str]) -> Any:
    """The code [1, D] to search with where the query is more than a sentence; else None."""
    if toward is not None:
        start, end = opened.model.encode([text, toward], allow_unknown=False)
        return (start + at * (end - start))[None]
    return opened.model.arithmetic([text, *plus], minus)[None] if plus or minus else None
