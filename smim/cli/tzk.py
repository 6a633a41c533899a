"""`smim tzk ...`: labels over a trained model's codes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import smim
from smim.cli import tzk_images
from smim.cli.shared import (
    CodeDim,
    CodeLayers,
    DrawT,
    GibbsSteps,
    Json,
    LearnedSplit,
    Model,
    OptimizerSteps,
    Rate,
    Seed,
    check_new,
    print_lines,
    show,
)
from smim.errors import UserError
from smim.tzk.args import FitArgs, KnowledgeArgs, PriorArgs

if TYPE_CHECKING:
    from smim.tzk import LabelReport, TzK

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Sample, classify and rank sentences by labels (TzK)."
)
app.add_typer(tzk_images.app, name="images")

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A directory made by `smim tzk fit`, such as tzk/yelp.")]
CorpusDir = Annotated[Path, typer.Argument(metavar="CORPUS", help="A prepared corpus, such as data/yelp.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="column=value, such as stars=5; if repeated, all must hold.")
]
EachLabel = Annotated[
    list[str] | None, typer.Option("--label", help="column=value, such as stars=5; may be repeated. By default all.")
]
LatentsDir = Annotated[
    Path | None, typer.Option(help="The split's codes with --log-variance, if `smim encode` has written them.")
]
Moved = Annotated[Path | None, typer.Option("--model", help="Where the model is now, if it was moved.")]
CouplingLayers = Annotated[int, typer.Option(help="Coupling layers of each flow.")]
HiddenDim = Annotated[int, typer.Option(help="Units of each hidden layer.")]
BatchSize = Annotated[int, typer.Option(help="Sentences per optimizer step.")]
MaxSentences = Annotated[int, typer.Option(help="The most sentences to learn from, drawn at random.")]


@app.command("fit")
def tzk_fit(
    model: Model,
    corpus: CorpusDir,
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to make, such as tzk/yelp.")],
    split: LearnedSplit = "train",
    latents: LatentsDir = None,
    num_coupling_layers: CouplingLayers = PriorArgs.num_coupling_layers,
    hidden_dim: HiddenDim = PriorArgs.hidden_dim,
    num_optimizer_steps: OptimizerSteps = FitArgs.num_optimizer_steps,
    batch_size: BatchSize = FitArgs.batch_size,
    learning_rate: Rate = FitArgs.learning_rate,
    max_sentences: MaxSentences = FitArgs.max_sentences,
    code_dim: CodeDim = KnowledgeArgs.code_dim,
    num_code_layers: CodeLayers = KnowledgeArgs.num_code_layers,
    draw_t: DrawT = False,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing directory and its labels.")] = False,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="column=value to learn jointly; may be repeated.")
    ] = None,
) -> None:
    """Learn how a model's codes are distributed.

    Without --label, this step does not use labels. Otherwise the labels are learned together with the distribution.
    --code-dim, --num-code-layers and --draw-t are settings of labels.

    Example: smim tzk fit runs/yelp/model data/yelp -o tzk/yelp
    """
    check_new(output, force=force)
    from smim.tzk import fit_tzk

    args = PriorArgs(num_coupling_layers, hidden_dim)
    fit = FitArgs(num_optimizer_steps, batch_size, learning_rate, max_sentences, seed, draw_t)
    knowledge = KnowledgeArgs(code_dim, num_code_layers=num_code_layers)
    tzk = fit_tzk(
        smim.load(model), _corpus(corpus), output, model_dir=model, split=split, latents=_latents(latents),
        args=args, fit=fit, labels=label or [], knowledge=None if knowledge == KnowledgeArgs() else knowledge,
    )  # fmt: skip
    training = tzk.card.training
    print(
        f"{output}: p(t) of {training['sentences']:,} sentences, {training['valid_nll']:.3f} nats a dimension on those "
        f"held out; a Gaussian: {training['valid_nll_gaussian']:.3f}"
    )


@app.command("add")
def tzk_add(
    directory: Directory,
    corpus: CorpusDir,
    label: Annotated[list[str], typer.Option("--label", help="column=value, such as stars=5; may be repeated.")],
    split: LearnedSplit = "train",
    latents: LatentsDir = None,
    code_dim: CodeDim = KnowledgeArgs.code_dim,
    num_code_layers: CodeLayers = KnowledgeArgs.num_code_layers,
    num_coupling_layers: CouplingLayers = KnowledgeArgs.num_coupling_layers,
    hidden_dim: HiddenDim = KnowledgeArgs.hidden_dim,
    num_optimizer_steps: OptimizerSteps = FitArgs.num_optimizer_steps,
    batch_size: BatchSize = FitArgs.batch_size,
    learning_rate: Rate = FitArgs.learning_rate,
    max_sentences: MaxSentences = FitArgs.max_sentences,
    seed: Seed = 0,
    draw_t: DrawT = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing labels.")] = False,
    model: Moved = None,
) -> None:
    """Learn labels one after another.

    Each label is learned from the sentences with and without it.

    Example: smim tzk add tzk/yelp data/yelp --label stars=5 --label stars=1
    """
    args = KnowledgeArgs(code_dim, num_coupling_layers, hidden_dim, num_code_layers)
    fit = FitArgs(num_optimizer_steps, batch_size, learning_rate, max_sentences, seed, draw_t)
    tzk = _open(directory, model)
    if there := [each for each in label if each in tzk.labels and not force]:
        raise UserError(f"{directory} already has the label {there[0]}; replace it with --force")
    opened, codes = _corpus(corpus), _latents(latents)
    tzk.check(opened, label, split=split)
    for each in label:
        knowledge = tzk.add(opened, each, split=split, latents=codes, args=args, fit=fit)
        print(f"{each}: {knowledge.frequency:.1%} of {opened.name} {split}")


@app.command("sample")
def tzk_sample(
    directory: Directory,
    label: Labels = None,
    num: Annotated[int, typer.Option(help="The number of sentences.")] = 5,
    gibbs_steps: GibbsSteps = None,
    seed: Seed = 0,
    model: Moved = None,
) -> None:
    """Decode codes drawn for one label, or several at once.

    Without a label, codes are drawn from the distribution of all codes.

    Example: smim tzk sample tzk/yelp --label stars=5 --label topic=food --num 10
    """
    print_lines(_open(directory, model).sample(num, label or [], seed=seed, gibbs_steps=gibbs_steps))


@app.command("interpolate")
def tzk_interpolate(
    directory: Directory,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Four sentences, each in quotation marks.")],
    num: Annotated[int, typer.Option(help="Sentences along each side of the square.")] = 3,
    model: Moved = None,
) -> None:
    """Print a square of sentences between four, row by row.

    The codes are interpolated in the base of the flow of p(t). The four sentences are the corners above left, above
    right, below left and below right.

    Example: smim tzk interpolate tzk/yelp "i love it ." "i hate it ." "the food was good ." "the food was cold ."
    """
    print_lines([text for row in _open(directory, model).interpolate(texts, num) for text in row])


@app.command("classify")
def tzk_classify(
    directory: Directory,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences, each in quotation marks.")],
    label: EachLabel = None,
    as_json: Json = False,
    model: Moved = None,
) -> None:
    """Print the probability of each label for each sentence.

    The most probable label comes first.

    Columns: probability, label, sentence. Each label is judged alone, so the probabilities need not add up to one.

    Example: smim tzk classify tzk/yelp "the food was cold" --label stars=5
    """
    tzk = _open(directory, model)
    labels = label or tzk.labels
    probabilities = tzk.classify(texts, labels).tolist()
    found = [sorted(zip(labels, row, strict=True), key=lambda pair: -pair[1]) for row in probabilities]
    if as_json:
        sentences = [{"text": text, "labels": dict(pairs)} for text, pairs in zip(texts, found, strict=True)]
        print(json.dumps({"sentences": sentences}))
        return
    rows = [[f"{p:.3f}", name, text] for text, pairs in zip(texts, found, strict=True) for name, p in pairs]
    show(rows, header=["probability", "label", "text"])


@app.command("rank")
def tzk_rank(
    directory: Directory,
    corpus: CorpusDir,
    label: Labels = None,
    k: Annotated[int, typer.Option("-k", help="The number of sentences.")] = 10,
    split: Annotated[str, typer.Option(help="The split whose sentences are ranked.")] = "test",
    latents: LatentsDir = None,
    as_json: Json = False,
    model: Moved = None,
) -> None:
    """Print the sentences for which a label is most probable.

    The sentences come from a corpus; several labels must hold together.

    Columns: rank, probability, sentence, and the corpus's labels.

    Example: smim tzk rank tzk/yelp data/yelp --label stars=5 -k 20
    """
    if not label:
        raise UserError("give at least one label to rank by: --label column=value")
    opened = _corpus(corpus)
    ranked = _open(directory, model).rank(opened, label, k, split=split, latents=_latents(latents))
    rows, sentences = [each.row for each in ranked], opened.split(split)
    texts, columns = sentences.texts(rows), sentences.label_columns
    own = sentences.table.select(columns).take(rows).to_pylist()
    if as_json:
        found = [
            {**asdict(each), "text": text, "columns": its} for each, text, its in zip(ranked, texts, own, strict=True)
        ]
        print(json.dumps({"ranked": found}))
        return
    lines = [
        [str(place), f"{each.probability:.3f}", text, *["" if value is None else str(value) for value in its.values()]]
        for place, (each, text, its) in enumerate(zip(ranked, texts, own, strict=True), 1)
    ]
    show(lines, header=["rank", "probability", "text", *columns])


@app.command("report")
def tzk_report(
    directory: Directory,
    corpus: CorpusDir,
    label: Labels = None,
    split: Annotated[str, typer.Option(help="The split whose sentences are held out.")] = "test",
    num: Annotated[int, typer.Option(help="The number of samples per label.")] = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    model: Moved = None,
) -> None:
    """Measure how well labels were learned.

    By default each label alone; with --label, each given label and all of them together.

    The first table is the share of sentences that a classifier assigns to the label. The second is in nats per
    dimension, for held-out codes with the label. Both have standard errors.

    Example: smim tzk report tzk/yelp data/yelp --label stars=5 --label topic=food
    """
    try:
        from smim.tzk import measure
    except ImportError as error:
        raise UserError(f"the report needs {error.name}; install it with `pip install 'smim[pipeline]'`") from None

    reports = measure(_open(directory, model), _corpus(corpus), label, split=split, num=num, seed=seed)
    if as_json:
        print(json.dumps({"labels": [asdict(report) for report in reports]}))
        return
    kinds = ["unconditioned", "samples", "reconstructions", "sentences"]
    shown = [
        [" ".join(report.labels), by, *[_cell(getattr(report, by).get(kind)) for kind in kinds]]
        for report in reports
        for by in ("codes", "words")
    ]
    show(shown, header=["label", "judged by", *kinds])
    show([_line(report) for report in reports], header=["label", *_COLUMNS])


_NLL = ["gaussian", "prior", "label_gaussian", "label", "gain", "one_code"]
_COLUMNS = [*_NLL, "AUC", "distinct samples", "unconditioned", "held out"]


def _line(report: "LabelReport") -> list[str]:
    return [
        " ".join(report.labels),
        *(_cell((report.nll or {}).get(name)) for name in _NLL),
        "" if report.auc is None else f"{report.auc:.3f}",
        *(f"{share:.3f}" for share in (report.distinct, report.distinct_unconditioned)),
        f"{report.num_sentences:,}",
    ]


def _cell(estimate: Any) -> str:
    return "" if estimate is None else f"{estimate.value:.3f} ± {estimate.standard_error:.3f}"


def _open(directory: Path, model: Path | None) -> "TzK":
    from smim.tzk import open_tzk

    return open_tzk(directory, model=smim.load(model) if model else None)


def _corpus(directory: Path) -> Any:
    from smim.text.corpus import Corpus

    return Corpus.open(directory)


def _latents(directory: Path | None) -> Any:
    from smim.search.latents import Latents

    return None if directory is None else Latents.open(directory)
