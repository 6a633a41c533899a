"""`smim ...`: search, reconstruct and generate with a trained model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import smim
from smim.errors import UserError, told_to_user

# torch and FAISS take seconds to import: each command imports what it needs, so that --help answers at once.

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
index_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build and change indexes of sentence codes.")
corpus_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at prepared corpora.")
app.add_typer(index_app, name="index")
app.add_typer(corpus_app, name="corpus")

_SAMPLE_SENTENCES = 3
_SHOWN_TOKENS = 20
_COUNTED_TOKENS = 10_000_000

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory, such as runs/NAME/model.")]
Seed = Annotated[int, typer.Option(help="Another seed, other draws.")]
IndexDir = Annotated[Path, typer.Argument(metavar="INDEX", help="An index, such as indexes/ptb.")]
MovedModel = Annotated[Path | None, typer.Option("--model", help="Where the index's model is now, if it was moved.")]
Filter = Annotated[
    str | None,
    typer.Option("--where", help="""A filter on labels, as JSON: '{"stars": {"$gte": 4}, "topic": ["a", "b"]}'."""),
]
Sentences = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="A .jsonl file (objects with text, perhaps id, and labels), or a sentence a line; -: standard input.",
    ),
]


def main() -> None:
    """The console entry: a mistake of the user's ends with one line on stderr and exit status 2."""
    with told_to_user():
        app(prog_name="smim")


def _version(wanted: bool) -> None:
    if wanted:
        print(smim.__version__)
        raise typer.Exit


@app.callback()
def _smim(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sentence codes that can be searched and decoded."""


@index_app.command("build")
def index_build(
    model: Model,
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A prepared corpus, such as data/ptb.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The index's directory, such as indexes/ptb.")],
    split: Annotated[str, typer.Option(help="The split to index.")] = "train",
    metric: Annotated[str, typer.Option(help="l2, inner_product or cosine.")] = "l2",
    factory: Annotated[
        str, typer.Option(help="FAISS's index: Flat (exact), IVF1024,Flat, HNSW32, ..., or auto: by size and memory.")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace an index that is there.")] = False,
) -> None:
    """Encode a split of a prepared corpus into an index to search in.

    Example: smim index build runs/ptb_smim_512/model data/ptb -o indexes/ptb
    """
    if output.exists() and not force:
        raise UserError(f"{output} exists; replace it with --force, or give another --output")
    from smim.search import build_index
    from smim.text.corpus import Corpus

    index = build_index(
        smim.load(model),
        Corpus.open(corpus),
        output,
        model_dir=model,
        split=split,
        metric=metric,
        factory=factory,
    )
    print(f"{len(index):,} sentences in {output}")


@index_app.command("add")
def index_add(index: IndexDir, files: Sentences, model: MovedModel = None) -> None:
    """Add sentences to an index; without ids they get the next ones.

    Example: smim index add indexes/ptb new.jsonl
    """
    _put(index, files, model, replace=False)


@index_app.command("upsert")
def index_upsert(index: IndexDir, files: Sentences, model: MovedModel = None) -> None:
    """Add sentences in the place of those that have their ids.

    Example: smim index upsert indexes/ptb corrected.jsonl
    """
    _put(index, files, model, replace=True)


@index_app.command("delete")
def index_delete(
    index: IndexDir,
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID...]", help="Ids, as a search shows them.")] = None,
    where: Filter = None,
) -> None:
    """Delete sentences by id or by a filter.

    Example: smim index delete indexes/yelp --where '{"stars": 1}'
    """
    from smim.search import IndexWriter

    with IndexWriter(index) as writer:
        print(f"{writer.delete(ids or None, where=_filter(where)):,} sentences deleted, {writer.manifest.count:,} left")


@index_app.command("compact")
def index_compact(index: IndexDir) -> None:
    """Write an index anew as one segment, without what was deleted.

    Example: smim index compact indexes/ptb
    """
    from smim.search import IndexWriter

    with IndexWriter(index) as writer:
        writer.compact()
        print(f"{writer.manifest.count:,} sentences in {index}")


@index_app.command("verify")
def index_verify(index: IndexDir) -> None:
    """Read an index whole and compare it with its checksums; opening one reads only samples.

    Example: smim index verify indexes/ptb
    """
    from smim.search.manifest import Manifest

    manifest = Manifest.read(index)
    for info in manifest.segments:
        for name, file in info.files.items():
            file.check_whole(info.path(index, name))
    print(f"{manifest.count:,} sentences in {index}, every file as it was written")


@index_app.command("report")
def index_report(
    index: IndexDir,
    k: Annotated[int, typer.Option("-k", help="How many neighbours recall is measured on.")] = 10,
    queries: Annotated[int, typer.Option(help="How many sentences of the index to search with.")] = 200,
    recall: Annotated[float, typer.Option(help="The recall that suggested settings must reach.")] = 0.95,
    apply: Annotated[bool, typer.Option("--apply", help="Make the suggested settings the index's own.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    model: MovedModel = None,
) -> None:
    """Measure an index against exact search: recall, latency of a query, size; and suggest search settings.

    Example: smim index report indexes/ptb --recall 0.99
    """
    from smim.search import IndexWriter, open_index
    from smim.search.report import measure

    opened = open_index(index, model=smim.load(model) if model else None)
    report = measure(opened, k=k, queries=queries, recall=recall)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        rows = [["now", *_measured(report.current)], *[["", *_measured(each)] for each in report.tried]]
        if report.suggested:
            rows.append([f"fastest of {recall:g}", *_measured(report.suggested)])
        _show(rows, header=["", "settings", f"recall@{report.k}", "ms a query"])
        _show([[name, f"{size / 1e6:,.1f} MB"] for name, size in report.bytes.items()])
    if apply and report.suggested:
        with IndexWriter(index) as writer:
            writer.set_search(report.suggested.settings)


@app.command()
def search(
    index: IndexDir,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The sentence to find others like.")],
    k: Annotated[int, typer.Option("-k", help="How many sentences to find.")] = 5,
    where: Filter = None,
    offset: Annotated[int, typer.Option(help="How many of the nearest to pass over.")] = 0,
    max_distance: Annotated[float | None, typer.Option(help="Find none that are farther.")] = None,
    model: MovedModel = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Also print the sentence as its code decodes.")] = False,
) -> None:
    """Find the sentences of an index whose codes are nearest to a sentence's.

    Columns: rank, distance (the smaller, the nearer), sentence, and the corpus's labels.

    Example: smim search indexes/yelp "the food was cold" -k 3 --where '{"stars": {"$gte": 4}}'
    """
    from smim.search import open_index

    opened = open_index(index, model=smim.load(model) if model else None)
    [hits] = opened.search([text], k, where=_filter(where), offset=offset, max_distance=max_distance)
    decoded = opened.model.reconstruct([text]) if decode else []
    if as_json:
        shown: dict[str, Any] = {"query": text, "hits": [hit.as_dict() for hit in hits]}
        print(json.dumps(shown | ({"decoded": decoded[0]} if decode else {}), ensure_ascii=False))
        return
    labels = list(hits[0].labels) if hits else []
    rows = [["decoded", "", sentence, *[""] * len(labels)] for sentence in decoded]
    for rank, hit in enumerate(hits, start=1):
        rows.append([str(rank), f"{hit.distance:.4f}", hit.text, *[str(hit.labels[label]) for label in labels]])
    _show(rows, header=["rank", "distance", "text", *labels])


@app.command()
def reconstruct(
    model: Model,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences, each in quotation marks.")],
    sample: Annotated[bool, typer.Option("--sample", help="Draw code and words instead of the likeliest.")] = False,
    seed: Seed = 0,
) -> None:
    """Encode sentences and decode their codes, one line each.

    Example: smim reconstruct runs/ptb_smim_512/model "the company said profit rose"
    """
    _print_lines(smim.load(model).reconstruct(texts, sample=sample, seed=seed))


@app.command()
def interpolate(
    model: Model,
    first: Annotated[str, typer.Argument(metavar="FIRST", help="The sentence to start from.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The sentence to end at.")],
    steps: Annotated[int, typer.Option(help="How many sentences, both ends included.")] = 5,
) -> None:
    """Decode sentences on the straight line between two sentences' codes.

    Example: smim interpolate runs/ptb_smim_512/model "profit rose" "he left the company" --steps 7
    """
    _print_lines(smim.load(model).interpolate(first, second, steps=steps))


@app.command()
def perturb(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The sentence to vary.")],
    num: Annotated[int, typer.Option(help="How many variants.")] = 5,
    scale: Annotated[float, typer.Option(help="How far away, in standard deviations of the code.")] = 10.0,
    seed: Seed = 0,
) -> None:
    """Decode codes near a sentence's.

    Example: smim perturb runs/ptb_smim_512/model "the company said profit rose" --scale 20
    """
    _print_lines(smim.load(model).perturb(text, num=num, scale=scale, seed=seed))


@app.command()
def sample(
    model: Model,
    num: Annotated[int, typer.Option(help="How many sentences.")] = 5,
    standard_deviation: Annotated[float, typer.Option(help="Of the codes; the prior's is 1.")] = 0.1,
    seed: Seed = 0,
) -> None:
    """Decode codes drawn around zero.

    Example: smim sample runs/ptb_smim_512/model --num 10 --seed 1
    """
    _print_lines(smim.load(model).sample(num, standard_deviation=standard_deviation, seed=seed))


@app.command()
def answer(
    model: Model,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    num_words: Annotated[int, typer.Option(help="How many unknown words stand for the answer.")] = 10,
) -> None:
    """Answer a question, with a model that was trained on questions and answers.

    Example: smim answer runs/yahoocqa/model "what is a good name for a cat"
    """
    _print_lines([smim.load(model).answer(question, num_words=num_words)])


@corpus_app.command("show")
def corpus_show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A prepared corpus, such as data/ptb.")],
) -> None:
    """Show what a prepared corpus holds: its source, splits, first sentences and most frequent words.

    Example: smim corpus show data/ptb
    """
    from smim.text.corpus import HISTOGRAM, Corpus

    corpus = Corpus.open(directory)
    card = corpus.card
    facts: dict[str, Any] = {"name": corpus.name, **card["source"], "vocabulary": f"{card['vocabulary_size']:,}"}
    facts |= {"tokenizer": _brief(card["tokenizer"]), "lengths": directory / HISTOGRAM}
    facts |= {f"left out: {name}": f"{count:,}" for name, count in card["left_out"].items()}
    _show([[name, _brief(fact)] for name, fact in facts.items()] + [["note", note] for note in card["notes"]])
    columns = ["sentences", "tokens", "length_mean", "length_std", "length_min", "length_max", "unknown_tokens"]
    columns.append("also_in_train")
    described = [[name, *[str(split.get(column, "")) for column in columns]] for name, split in card["splits"].items()]
    _show([["split", *columns], *described])
    samples = []
    for name in card["splits"]:
        split = corpus.split(name)
        samples += [[name, text] for text in split.texts(range(min(_SAMPLE_SENTENCES, len(split))))]
    _show(samples)
    _show([["token", "count"], *_most_frequent(corpus)])


@corpus_app.command("table")
def corpus_table(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Prepared corpora.")],
) -> None:
    """Compare corpora with Table 7.1 of the thesis: each cell is ours | the thesis's.

    Example: smim corpus table data/ptb data/wt103
    """
    from smim.text.corpus import Corpus

    published = json.loads((Path(smim.__file__).parent / "text" / "table_7_1.json").read_text(encoding="utf-8"))
    rows = []
    for directory in directories:
        card = Corpus.open(directory).card
        theirs = [str(value) for value in published.get(card["name"], ["-"] * 6)]
        splits = [str(card["splits"].get(name, {}).get("sentences", "-")) for name in ("train", "valid", "test")]
        train = card["splits"]["train"]
        ours = [*splits, str(card["vocabulary_size"]), f"{train['length_mean']:.1f} ± {train['length_std']:.1f}"]
        thesis = [*theirs[:4], f"{theirs[4]} ± {theirs[5]}"]
        rows.append([card["name"], *[f"{our} | {their}" for our, their in zip(ours, thesis, strict=True)]])
    _show(rows, header=["corpus", "train", "valid", "test", "vocabulary", "tokens a sentence (train)"])


def _filter(where: str | None) -> Any:
    try:
        return None if where is None else json.loads(where)
    except json.JSONDecodeError as error:
        raise UserError(f'--where is not JSON ({error}); write for example \'{{"stars": {{"$gte": 4}}}}\'') from None


def _put(index: Path, files: list[Path], model: Path | None, *, replace: bool) -> None:
    from smim.search import IndexWriter
    from smim.search.sentences import read_sentences

    with IndexWriter(index, model=smim.load(model) if model else None) as writer:
        sentences = read_sentences(files, columns=writer.manifest.columns)
        if replace and sentences.ids is None:
            raise UserError("upsert needs an id with each sentence: a .jsonl file of objects with id and text")
        options: dict[str, Any] = {"ids": sentences.ids, "labels": sentences.labels}
        put = writer.upsert if replace else writer.add
        ids = put(sentences.texts, **options)
        print(f"{len(ids):,} sentences put into {index}, which holds {writer.manifest.count:,}")


def _measured(measured: Any) -> list[str]:
    settings = ", ".join(f"{name} {value}" for name, value in measured.settings.items()) or "exact"
    return [settings, f"{measured.recall:.3f}", f"{1000 * measured.seconds:.2f}"]


def _most_frequent(corpus: Any) -> list[list[str]]:
    """The tokens seen most often in train, of which no more is read than tells."""
    import numpy as np

    counts = np.zeros(corpus.tokenizer.vocabulary_size, np.int64)
    for chunk in corpus.split("train").table.column("ids").chunks:
        counts += np.bincount(chunk.flatten().to_numpy(), minlength=len(counts))
        if counts.sum() > _COUNTED_TOKENS:
            break
    most = [int(i) for i in np.argsort(-counts, kind="stable")[:_SHOWN_TOKENS] if counts[i]]
    return [[corpus.tokenizer.token(i), f"{counts[i]:,}"] for i in most]


def _brief(fact: Any) -> str:
    """A fact of a corpus's card in one line: files by their names, without their checksums."""
    if isinstance(fact, dict):
        return ", ".join(f"{name} {value}" for name, value in fact.items())
    if isinstance(fact, list):
        return ", ".join(str(item["file"]) if isinstance(item, dict) and "file" in item else str(item) for item in fact)
    return str(fact)


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        print(line)


def _show(rows: list[list[str]], *, header: list[str] | None = None) -> None:
    """A table on a terminal; elsewhere lines of tab-separated cells, without the header, for other programs."""
    console = Console(markup=False, highlight=False, emoji=False)  # brackets in a sentence are not markup
    if not console.is_terminal:
        breaks = str.maketrans("\t\r\n", "   ")
        _print_lines(["\t".join(cell.translate(breaks) for cell in row) for row in rows])
        return
    table = Table(*(header or []), show_header=header is not None, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table, "")
