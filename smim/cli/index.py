"""`smim index ...`: build, change and measure indexes."""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import smim
from smim.cli.shared import Filter, Gpu, IndexDir, Json, Model, MovedModel, parse_filter, show
from smim.errors import UserError, refuse_if
from smim.waiting import doing

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build and change indexes of sentence codes.")

Sentences = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="CSV, TSV, Parquet, JSON lines, or one sentence per line, perhaps compressed; -: lines of standard input.",
    ),
]
TextColumn = Annotated[str, typer.Option(help="The column (or JSON key) of the text.")]
IdColumn = Annotated[str, typer.Option(help="The column of ids (whole numbers); '' for none.")]
Label = Annotated[
    list[str] | None, typer.Option(help="A column to keep as a label; may be repeated. Default: all others.")
]
TooLong = Annotated[
    str, typer.Option(metavar="truncate|skip|error", help="What to do with texts above the model's limit.")
]
SplitTexts = Annotated[
    str | None,
    typer.Option(
        metavar="auto|sentences|none|NAME",
        help="For a file: which rows to split into sentences (auto: above 60 tokens). For a corpus: its split (train).",
    ),
]
Empty = Annotated[str, typer.Option(metavar="skip|error", help="What to do with rows without a text.")]


@app.command("build")
def index_build(
    model: Model,
    corpus: Annotated[
        Path,
        typer.Argument(
            metavar="CORPUS", help="A prepared corpus, such as data/ptb, or a file: .csv, .jsonl, .txt, ..."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The index's directory, such as indexes/ptb.")],
    text_column: TextColumn = "text",
    label: Label = None,
    id_column: IdColumn = "id",
    too_long: TooLong = "truncate",
    empty: Empty = "skip",
    split: SplitTexts = None,
    metric: Annotated[str | None, typer.Option(help="l2, inner_product or cosine; the model's by default.")] = None,
    part: Annotated[
        str | None, typer.Option(help="meaning: index only the meaning part of codes; default: all.")
    ] = None,
    factory: Annotated[
        str, typer.Option(help="FAISS index: Flat (exact), IVF1024,Flat, HNSW32, ...; auto chooses by size and memory.")
    ] = "auto",
    latents: Annotated[Path | None, typer.Option(help="The split's codes, if `smim encode` has written them.")] = None,
    segments: Annotated[
        int | None, typer.Option(help="Build in this many parts, to need less memory; default: 1, or one per worker.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="local|ray", help="Build segments in parallel, in processes or on Ray.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes of the engine, or Ray tasks at a time; default: all.")
    ] = None,
    ray_address: Annotated[str | None, typer.Option(help="A running Ray cluster; default: start one here.")] = None,
    store: Annotated[
        str, typer.Option(help="Type of the codes kept beside an approximate index: fp32 or fp16.")
    ] = "fp32",
    memory: Annotated[
        float | None, typer.Option(help="GB that the index may use; default: half of the machine's.")
    ] = None,
    gpu: Gpu = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing index.")] = False,
) -> None:
    """Encode a corpus or a file into an index to search in.

    A file is CSV, TSV, Parquet, JSON lines (objects), or has one text per line. It may be compressed, as .csv.gz.
    A long row is split into sentences under its id. A search finds the row, and shows its nearest sentence.

    \b
    Examples:
      smim index build english-small reviews.csv --text-column review --label stars -o indexes/reviews
      smim index build runs/ptb_smim_512/model data/ptb -o indexes/ptb
      smim index build english-small data/mine -o indexes/mine --engine ray --ray-address 10.0.0.1:6379
    """
    refuse_if({
        f"{output} exists; replace it with --force, or give another --output": output.exists() and not force,
        f"{corpus} does not exist; give a file of sentences, or a prepared corpus: data/ptb": not corpus.exists(),
        "--workers and --ray-address need --engine local or --engine ray": not engine and (workers or ray_address),
        f"--memory is {memory}, but it must be a size in GB above 0": memory is not None and not 0 < memory < math.inf,
    })  # fmt: skip
    from smim.search import build_index, index_texts
    from smim.search.build import BuildArgs
    from smim.search.latents import Latents
    from smim.search.sentences import Columns, read_sentences
    from smim.text.corpus import Corpus

    settings: dict[str, Any] = {
        "model_dir": model,
        "metric": metric,
        "part": part,
        "factory": factory,
        "store": store,
        "memory": None if memory is None else int(memory * 1e9),
        "gpu": gpu,
    }
    for_a_corpus = {"--segments": segments, "--latents": latents, "--engine": engine}
    if corpus.is_file() and (wrong := [name for name, value in for_a_corpus.items() if value is not None]):
        raise UserError(
            f"{corpus} is a file, but {' and '.join(wrong)} works only with a prepared corpus; leave it out"
        )
    doing("reading the sentences and loading the model")
    if corpus.is_file():
        sentences = read_sentences([corpus], columns=Columns(text_column, id_column, label), empty=empty)
        given: dict[str, Any] = {"ids": sentences.ids, "labels": sentences.labels}
        given |= {"too_long": too_long, "empty": empty, "split": split or "auto"}
        with sentences.placed():
            index = index_texts(smim.load(model), sentences.texts, output, **settings, **given)
    else:
        given = {"split": split, "num_segments": segments, "latents": Latents.open(latents) if latents else None}
        given = {name: value for name, value in given.items() if value is not None} | {"too_long": too_long}
        if engine:
            given["engine"] = BuildArgs(engine, workers, ray_address)
        index = build_index(smim.load(model), Corpus.open(corpus), output, **settings, **given)
    of_split = "" if corpus.is_file() else f", from split {split or 'train'} of {corpus}; choose another with --split"
    print(f"{index.manifest.size} in {output}{of_split}")
    _print_measured(index.manifest)


@app.command("add")
def index_add(
    index: IndexDir,
    files: Sentences,
    model: MovedModel = None,
    text_column: TextColumn = "text",
    label: Label = None,
    id_column: IdColumn = "id",
    too_long: TooLong = "truncate",
    empty: Empty = "skip",
) -> None:
    """Add sentences to an index; without ids they get the next ones.

    \b
    Examples:
      smim index add indexes/ptb new.jsonl
      smim index add indexes/reviews more.csv --text-column review --label stars
    """
    columns = {"text": text_column, "id": id_column, "labels": label}
    _put(index, files, model, columns, too_long=too_long, empty=empty, replace=False)


@app.command("upsert")
def index_upsert(
    index: IndexDir,
    files: Sentences,
    model: MovedModel = None,
    text_column: TextColumn = "text",
    label: Label = None,
    id_column: IdColumn = "id",
    too_long: TooLong = "truncate",
    empty: Empty = "skip",
) -> None:
    """Add sentences, and replace those with the same ids.

    Labels that are not given become null.

    Example: smim index upsert indexes/ptb corrected.jsonl
    """
    columns = {"text": text_column, "id": id_column, "labels": label}
    _put(index, files, model, columns, too_long=too_long, empty=empty, replace=True)


@app.command("delete")
def index_delete(
    index: IndexDir,
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID...]", help="Ids, as in the second column of a search.")
    ] = None,
    where: Filter = None,
) -> None:
    """Delete sentences by id or by a filter.

    Example: smim index delete indexes/yelp --where '{"stars": 1}'
    """
    from smim.search import IndexWriter

    with IndexWriter(index) as writer:
        deleted = writer.delete(ids or None, where=parse_filter(where))
        what = "texts" if writer.manifest.is_split else "sentences"
        print(f"{deleted:,} {what} deleted, {writer.manifest.count:,} left")


@app.command("rebuild")
def index_rebuild(
    index: IndexDir,
    model: Annotated[Path, typer.Option(help="The new model's directory, or english-small.")],
    metric: Annotated[str | None, typer.Option(help="l2, inner_product or cosine; the model's by default.")] = None,
    part: Annotated[str | None, typer.Option(help="meaning: index only the meaning part; default: as before.")] = None,
    factory: Annotated[str | None, typer.Option(help="FAISS index, or auto; default: as before.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Type of the stored codes, fp32 or fp16; default: as before.")
    ] = None,
    gpu: Gpu = False,
) -> None:
    """Encode an index's sentences with another model.

    Texts, ids and labels are kept.

    Example: smim index rebuild indexes/yelp --model english-small
    """
    from smim.search import rebuild_index

    settings = {"metric": metric, "part": part, "factory": factory, "store": store}
    rebuilt = rebuild_index(index, smim.load(model), model_dir=model, gpu=gpu, **settings)
    print(f"{rebuilt.manifest.size} in {index}, of {model}")
    _print_measured(rebuilt.manifest)


@app.command("compact")
def index_compact(index: IndexDir, gpu: Gpu = False) -> None:
    """Write an index anew as one segment, without deleted rows.

    Example: smim index compact indexes/ptb
    """
    from smim.search import IndexWriter

    with IndexWriter(index, gpu=gpu) as writer:
        writer.compact()
        print(f"{writer.manifest.size} in {index}")
        _print_measured(writer.manifest)


@app.command("verify")
def index_verify(index: IndexDir) -> None:
    """Read a whole index and compare it with its checksums.

    Opening an index checks only samples.

    Example: smim index verify indexes/ptb
    """
    from smim.search.manifest import Manifest

    manifest = Manifest.read(index)
    for info in manifest.segments:
        for name, file in info.files.items():
            file.check_whole(info.path(index, name))
    print(f"{manifest.size} in {index}, every file as it was written")


@app.command("map")
def index_map(
    index: IndexDir,
    points: Annotated[int, typer.Option(help="The number of sentences, spread evenly over the index.")] = 20_000,
) -> None:
    """Compute the map that the page of `smim serve` shows.

    Without this command, the service computes it at the first request.

    The method is t-SNE, which takes nearly three minutes on one core for 20,000 sentences. The map is stored in the
    index.

    Example: smim index map indexes/ptb
    """
    from smim.progress import console
    from smim.search import map as maps
    from smim.search.snapshot import open_newest

    snapshot, _ = open_newest(index)
    with console.status(f"laying out {min(points, snapshot.manifest.num_sentences):,} sentences"):
        laid_out = maps.lay_out(snapshot, points=points)
    maps.write(laid_out, index / maps.FILE)
    print(f"{len(laid_out.ids_N):,} sentences on the map of {index}, by {laid_out.method}")


@app.command("report")
def index_report(
    index: IndexDir,
    k: Annotated[int, typer.Option("-k", help="The number of neighbours for recall.")] = 10,
    queries: Annotated[int, typer.Option(help="The number of sentences of the index to search with.")] = 200,
    recall: Annotated[float, typer.Option(help="The recall that suggested settings must reach.")] = 0.95,
    apply: Annotated[bool, typer.Option("--apply", help="Store the suggested settings in the index.")] = False,
    gpu: Gpu = False,
    as_json: Json = False,
    model: MovedModel = None,
) -> None:
    """Measure an index against exact search.

    Prints recall, time per query and size, and suggests search settings.

    Exit status 1: --apply was given, but no settings reach the recall.

    Example: smim index report indexes/ptb --recall 0.99
    """
    from smim.search import IndexWriter, open_index
    from smim.search.report import measure

    opened = open_index(index, model=smim.load(model) if model else None, gpu=gpu)
    report = measure(opened, k=k, queries=queries, recall=recall)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        rows = [["now", *_measured(report.current)], *[["", *_measured(each)] for each in report.tried]]
        if report.suggested:
            rows.append([f"fastest of {recall:g}", *_measured(report.suggested)])
        show(rows, header=["", "settings", f"recall@{report.k}", "ms a query"])
        show([[name, f"{size / 1e6:,.1f} MB"] for name, size in report.bytes.items()])
    if report.suggested is None:
        settings, best, _ = _measured(report.best)
        shown = f"no settings reach a recall of {recall:g}; the best reach {best} ({settings})"
        print(shown + "; nothing was applied" * apply, file=sys.stderr)
        if apply:
            raise typer.Exit(1)
    elif apply:
        with IndexWriter(index) as writer:
            writer.set_search(report.suggested.settings)


def _put(
    index: Path, files: list[Path], model: Path | None, columns: dict[str, Any], *, replace: bool, **policies: Any
) -> None:
    from smim.search import IndexWriter
    from smim.search.sentences import Columns, read_sentences

    with IndexWriter(index, model=smim.load(model) if model else None) as writer:
        chosen = Columns(**columns, known=writer.manifest.columns)
        sentences = read_sentences(files, columns=chosen, empty=policies["empty"])
        if replace and sentences.ids is None:
            raise UserError("upsert needs an id for each sentence; add a column id, or name another with --id-column")
        with sentences.placed():
            ids = writer.put(sentences.texts, sentences.ids, sentences.labels, replace=replace, **policies).ids
        what = "texts" if writer.manifest.is_split else "sentences"
        print(f"{len(ids):,} {what} put into {index}, which holds {writer.manifest.size}")


def _print_measured(manifest: Any) -> None:
    """Print the measurements made when the latest approximate segment was written."""
    if found := manifest.measured:
        settings, milliseconds = _settings(manifest.search), 1000 * found["seconds"]
        print(f"recall@{found['k']:g} {found['recall']:.3f}, {milliseconds:.2f} ms a query ({settings})")


def _measured(measured: Any) -> list[str]:
    return [_settings(measured.settings), f"{measured.recall:.3f}", f"{1000 * measured.seconds:.2f}"]


def _settings(settings: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "exact"
