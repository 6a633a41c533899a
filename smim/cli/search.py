"""`smim search`: find the sentences of an index nearest to a query."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import smim
from smim.cli.shared import Filter, Gpu, IndexDir, Json, MovedModel, parse_filter, show
from smim.errors import refuse_if
from smim.progress import track
from smim.search.query import Hit, Line, Options, Query, Sum

_TOLD = {name: field.metadata["description"] for name, field in Options.__dataclass_fields__.items()}


def search(
    index: IndexDir,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The sentence to search for.")] = None,
    k: Annotated[int, typer.Option("-k", help=_TOLD["k"])] = Options.k,
    like: Annotated[int | None, typer.Option(help="Search for sentences similar to this id, instead of TEXT.")] = None,
    toward: Annotated[str | None, typer.Option(help="Search at a point between TEXT and this sentence.")] = None,
    at: Annotated[
        float | None, typer.Option(help="That point: 0 is TEXT, 1 is the other sentence; 0.5 by default.")
    ] = None,
    plus: Annotated[list[str] | None, typer.Option(help="A sentence whose code is added to TEXT's code.")] = None,
    minus: Annotated[
        list[str] | None, typer.Option(help="A sentence whose code is subtracted from TEXT's code.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="A file of sentences to search for, one per line (-: standard input); prints JSON lines."),
    ] = None,
    where: Filter = None,
    offset: Annotated[int, typer.Option(help=_TOLD["offset"])] = Options.offset,
    fold: Annotated[str | None, typer.Option(metavar="none|row|text|words", help=_TOLD["fold"])] = Options.fold,
    mode: Annotated[str | None, typer.Option(metavar="dense|sparse|hybrid", help=_TOLD["mode"])] = Options.mode,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Same as --mode hybrid: compare codes and words.")] = False,
    max_distance: Annotated[float | None, typer.Option(help=_TOLD["max_distance"])] = None,
    least_similarity: Annotated[float | None, typer.Option(help=_TOLD["least_similarity"])] = None,
    rerank: Annotated[int, typer.Option(help=_TOLD["rerank"])] = Options.rerank,
    reranker: Annotated[
        str | None, typer.Option(help="The cross-encoder (sentence-transformers) for --rerank: a directory or a name.")
    ] = None,
    model: MovedModel = None,
    gpu: Gpu = False,
    as_json: Json = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="Also print what the codes of query and hits decode to.")
    ] = False,
    literal: Annotated[float | None, typer.Option(help=_TOLD["literal"])] = None,
    score: Annotated[bool, typer.Option("--score", help="Also print log q(hit|query), in nats.")] = False,
) -> None:
    """Find the sentences of an index nearest to a sentence.

    Columns: rank, id, distance (smaller is nearer), similarity (0 to 1), sentence, and the corpus's labels.

    \b
    Examples:
      smim search indexes/yelp "the food was cold" -k 3 --where '{"stars": {"$gte": 4}}'
      smim search indexes/yelp "gluten free pizza" --hybrid
      smim search indexes/yelp "how do I cook rice" --rerank 50 --reranker cross-encoder/ms-marco-MiniLM-L6-v2
      smim search indexes/yelp --queries questions.txt -k 10 > found.jsonl
    """
    refuse_if({
        "give one of these: a sentence (perhaps with --toward, or --plus and --minus), --like ID, or --queries FILE":
            [text, like, queries].count(None) != 2 or (text is None and bool(toward or plus or minus)),
        "--decode does not work with --queries; leave it out": queries is not None and decode,
        "--toward does not work with --plus or --minus; leave one of them out": toward is not None and (plus or minus),
        "--reranker needs the number of hits to rerank; give it with --rerank N": reranker is not None and not rerank,
        "--hybrid does not work with --mode; leave one of them out": hybrid and mode not in (None, "hybrid"),
        "--at needs another sentence; give it with --toward": at is not None and toward is None,
    })  # fmt: skip
    from smim.search import open_index
    from smim.search.labels import jsonable
    from smim.search.rerank import cross_encoder
    from smim.search.sentences import Columns, read_sentences

    by = cross_encoder(reranker) if reranker else None
    opened = open_index(index, model=smim.load(model) if model else None, reranker=by, gpu=gpu)
    told: dict[str, Any] = {"reconstruct": decode, "score": score, "decode": decode, "literal": literal, "fold": fold}
    told |= {"mode": "hybrid" if hybrid else mode, "rerank": rerank}
    options = Options(k, offset, parse_filter(where), max_distance, least_similarity, **told)
    if queries is not None:
        sentences = read_sentences([queries], columns=Columns(known=())).texts
        found = opened.stream(sentences, **{name: each for name, each in vars(options).items() if name != "settings"})
        for sentence, hits in zip(sentences, track(found, "searching", total=len(sentences)), strict=True):
            print(json.dumps(jsonable({"query": sentence, "hits": [hit.as_dict() for hit in hits]}), allow_nan=False))
        return
    if like is not None:
        query = Query(id=like)
    elif toward is not None:
        query = Query(line=Line(text or "", toward, Line.at if at is None else at))
    elif plus or minus:
        query = Query(sum=Sum([text or "", *(plus or [])], minus or []))
    else:
        query = Query(text=text)
    [result] = opened.results([query], options)
    named = opened.get([like])[0].text if like is not None else text
    if as_json:
        answer = {"query": named, "hits": [hit.as_dict() for hit in result.hits]}
        print(json.dumps(jsonable(answer | ({"decoded": result.decoded} if decode else {})), allow_nan=False))
        return
    labels = list(result.hits[0].labels) if result.hits else []
    rows: list[list[Any]] = [["query", "", "", "", named, *[""] * len(labels), result.decoded, ""]] if decode else []
    for rank, hit in enumerate(result.hits, start=1):
        worth = hit.score if hit.relevance is None else hit.relevance
        extra = [
            hit.reconstruction,
            "" if worth is None else f"{worth:.1f}" if hit.relevance is None else f"{worth:.3f}",
        ]
        near = [f"{hit.distance:.4f}", f"{hit.similarity:.2f}"]
        rows.append([rank, hit.id, *near, _marked(hit), *hit.labels.values(), *extra])
    header = ["rank", "id", "distance", "similarity", "text", *labels, "decoded", "score"]
    shown = [*range(5 + len(labels)), *[-2] * decode, *[-1] * bool(score or rerank)]
    plain = [[each if isinstance(each, Text) else "" if each is None else str(each) for each in row] for row in rows]
    show([[row[i] for i in shown] for row in plain], header=[header[i] for i in shown])


def _marked(hit: Hit) -> Text:
    """A hit's text with the query's words in bold on a terminal, and the number of equal texts."""
    from smim.search.words import spans_of

    text = Text(hit.text + (f" ({hit.count:,} times)" if (hit.count or 1) > 1 else ""))
    for start, end in spans_of(hit.text, hit.words or ()):
        text.stylize("bold", start, end)
    return text
