"""`smim tzk images ...`: labels over images, whose density is learned by a Glow."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smim.cli.shared import (
    CodeDim,
    CodeLayers,
    DrawT,
    GibbsSteps,
    Json,
    LearnedSplit,
    OptimizerSteps,
    Rate,
    Seed,
    check_new,
    show,
)
from smim.errors import UserError
from smim.tzk.args import IMAGE_FIT, IMAGE_LABEL, IMAGE_LABEL_FIT, GlowArgs

if TYPE_CHECKING:
    from smim.tzk import ImageTzK

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Sample, classify and rank images by labels (TzK).")

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="A directory made by `smim tzk images fit`, such as tzk/mnist.")
]
Corpora = Annotated[
    list[Path],
    typer.Argument(metavar="CORPUS...", help="One or several prepared corpora of images, such as data/mnist."),
]
Picture = Annotated[Path, typer.Option("--output", "-o", help="The picture to write, such as samples.png.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="column=value, such as digit=3; if repeated, all must hold.")
]
EachLabel = Annotated[
    list[str] | None, typer.Option("--label", help="column=value, such as digit=3; may be repeated. By default all.")
]
Split = Annotated[str, typer.Option(help="The split of the images.")]
Rows = Annotated[str, typer.Option(help="Row numbers of the split, from 0, such as 3,7,11.")]
HiddenDim = Annotated[int, typer.Option(help="Channels of each hidden layer.")]
BatchSize = Annotated[int, typer.Option(help="Images per optimizer step.")]


@app.command("fit")
def fit(
    corpus: Corpora,
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to make, such as tzk/mnist.")],
    label: Annotated[
        list[str] | None, typer.Option("--label", help="column=value to learn jointly with p(t); may be repeated.")
    ] = None,
    split: LearnedSplit = "train",
    num_scales: Annotated[int, typer.Option(help="Scales of the Glow.")] = GlowArgs.num_scales,
    num_coupling_layers: Annotated[
        int, typer.Option(help="Coupling layers of each scale.")
    ] = GlowArgs.num_coupling_layers,
    hidden_dim: HiddenDim = GlowArgs.hidden_dim,
    num_optimizer_steps: OptimizerSteps = IMAGE_FIT.num_optimizer_steps,
    batch_size: BatchSize = IMAGE_FIT.batch_size,
    learning_rate: Rate = IMAGE_FIT.learning_rate,
    code_dim: CodeDim = IMAGE_LABEL.code_dim,
    num_code_layers: CodeLayers = IMAGE_LABEL.num_code_layers,
    draw_t: DrawT = False,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing directory and its labels.")] = False,
) -> None:
    """Learn the density of images with a Glow, the t-flow.

    Without --label this step does not use labels. --code-dim, --num-code-layers and --draw-t are settings of labels.

    Example: smim tzk images fit data/mnist data/omniglot -o tzk/both
    """
    check_new(output, force=force)
    from smim.tzk import FitArgs, fit_image_tzk

    args = GlowArgs(num_scales, num_coupling_layers, hidden_dim)
    settings = FitArgs(
        num_optimizer_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, draw_t=draw_t
    )
    knowledge = replace(IMAGE_LABEL, code_dim=code_dim, num_code_layers=num_code_layers)
    tzk = fit_image_tzk(
        _corpora(corpus), output, split=split, args=args, fit=settings, labels=label or [],
        knowledge=None if knowledge == IMAGE_LABEL else knowledge,
    )  # fmt: skip
    training = tzk.card.training
    print(
        f"{output}: p(t) of {training['images']:,} images, {training['valid_bits_per_dimension']:.3f} bits a dimension "
        "on those held out"
    )


@app.command("add")
def add(
    directory: Directory,
    corpus: Corpora,
    label: Annotated[list[str], typer.Option("--label", help="column=value, such as digit=3; may be repeated.")],
    split: LearnedSplit = "train",
    code_dim: CodeDim = IMAGE_LABEL.code_dim,
    num_code_layers: CodeLayers = IMAGE_LABEL.num_code_layers,
    num_coupling_layers: Annotated[
        int, typer.Option(help="Coupling layers of each z-flow.")
    ] = IMAGE_LABEL.num_coupling_layers,
    hidden_dim: HiddenDim = IMAGE_LABEL.hidden_dim,
    num_optimizer_steps: OptimizerSteps = IMAGE_LABEL_FIT.num_optimizer_steps,
    batch_size: BatchSize = IMAGE_LABEL_FIT.batch_size,
    learning_rate: Rate = IMAGE_LABEL_FIT.learning_rate,
    draw_t: DrawT = False,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace existing labels.")] = False,
) -> None:
    """Learn labels one after another, with the t-flow fixed.

    Each label is learned from the images with and without it. Every image has the label corpus=NAME.

    Example: smim tzk images add tzk/both data/mnist data/omniglot --label corpus=mnist
    """
    from smim.tzk import FitArgs, KnowledgeArgs, open_image_tzk

    args = KnowledgeArgs(code_dim, num_coupling_layers, hidden_dim, num_code_layers)
    settings = FitArgs(
        num_optimizer_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, draw_t=draw_t
    )
    tzk = open_image_tzk(directory)
    if there := [each for each in label if each in tzk.labels and not force]:
        raise UserError(f"{directory} already has the label {there[0]}; replace it with --force")
    opened = _corpora(corpus)
    tzk.check(opened, label, split=split)
    for each in label:
        knowledge = tzk.add(opened, each, split=split, args=args, fit=settings)
        print(f"{each}: {knowledge.frequency:.1%} of the images with a value")


@app.command("sample")
def sample(
    directory: Directory,
    output: Picture,
    label: Labels = None,
    num: Annotated[int, typer.Option(help="The number of images.")] = 64,
    gibbs_steps: GibbsSteps = None,
    seed: Seed = 0,
) -> None:
    """Draw images for one label, or several at once, and write them as one picture.

    Without a label, they are drawn from the density of all images.

    Example: smim tzk images sample tzk/both --label digit=3 -o threes.png
    """
    from smim.tzk import open_image_tzk, write_grid

    tzk = _writing(open_image_tzk(directory), output)
    write_grid(tzk.sample(num, label or [], seed=seed, gibbs_steps=gibbs_steps), output)
    print(f"{output}: {num} images")


@app.command("classify")
def classify(
    directory: Directory,
    corpus: Corpora,
    rows: Rows,
    label: EachLabel = None,
    split: Split = "test",
    as_json: Json = False,
) -> None:
    """Print the probability of each label for some images of a corpus.

    The most probable label comes first. Columns: probability, label, row, and the corpus's labels.

    Example: smim tzk images classify tzk/both data/mnist --rows 0,1,2
    """
    from smim.tzk import open_image_tzk

    tzk, opened, numbers = open_image_tzk(directory), _corpora(corpus), _rows(rows)
    labels = label or tzk.labels
    probabilities = tzk.classify(opened, numbers, labels, split=split).tolist()
    found = [sorted(zip(labels, row, strict=True), key=lambda pair: -pair[1]) for row in probabilities]
    own = tzk.images(opened, split).labels(numbers)
    if as_json:
        images = [
            {"row": row, "labels": dict(pairs), "columns": its}
            for row, its, pairs in zip(numbers, own, found, strict=True)
        ]
        print(json.dumps({"images": images}))
        return
    lines = [
        [f"{p:.3f}", name, str(row), *_own(its)]
        for row, its, pairs in zip(numbers, own, found, strict=True)
        for name, p in pairs
    ]
    show(lines, header=["probability", "label", "row", *own[0]])


@app.command("rank")
def rank(
    directory: Directory,
    corpus: Corpora,
    label: Labels = None,
    k: Annotated[int, typer.Option("-k", help="The number of images.")] = 10,
    split: Split = "test",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write them as a picture.")] = None,
    as_json: Json = False,
) -> None:
    """Print the images for which a label is most probable.

    Several labels must hold together. Columns: rank, probability, row, and the corpus's labels.

    Example: smim tzk images rank tzk/both data/mnist --label digit=3 -k 16 -o threes.png
    """
    if not label:
        raise UserError("give at least one label to rank by: --label column=value")
    from smim.tzk import open_image_tzk, write_grid

    tzk, opened = open_image_tzk(directory), _corpora(corpus)
    if output is not None:
        _writing(tzk, output)
    ranked = tzk.rank(opened, label, k, split=split)
    images, numbers = tzk.images(opened, split), [each.row for each in ranked]
    own = images.labels(numbers)
    if output is not None:
        write_grid(images.pictures(numbers), output)
    if as_json:
        print(json.dumps({"ranked": [{**asdict(each), "columns": its} for each, its in zip(ranked, own, strict=True)]}))
        return
    lines = [
        [str(place), f"{each.probability:.3f}", str(each.row), *_own(its)]
        for place, (each, its) in enumerate(zip(ranked, own, strict=True), 1)
    ]
    show(lines, header=["rank", "probability", "row", *own[0]])


@app.command("interpolate")
def interpolate(
    directory: Directory,
    corpus: Corpora,
    rows: Rows,
    output: Picture,
    num: Annotated[int, typer.Option(help="Images along each side of the square.")] = 7,
    split: Split = "test",
) -> None:
    """Interpolate between four images in the base of the t-flow, and write a square of images.

    --rows: the images at the corners above left, above right, below left and below right.

    Example: smim tzk images interpolate tzk/both data/mnist --rows 0,1,2,3 -o between.png
    """
    from smim.tzk import open_image_tzk, write_grid

    tzk = _writing(open_image_tzk(directory), output)
    write_grid(tzk.interpolate(_corpora(corpus), _rows(rows), num, split=split), output, columns=num)
    print(f"{output}: {num * num} images")


@app.command("report")
def report(
    directory: Directory,
    corpus: Corpora,
    label: EachLabel = None,
    split: Split = "test",
    num: Annotated[int, typer.Option(help="The most images per figure.")] = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure the density of held-out images in bits per dimension, and the labels.

    Columns: label, images that have it, p(t), p(t|e = 1), the gain of the second over the first, p(t|e = 1, c) at a c
    drawn from the image, and the AUC.

    Example: smim tzk images report tzk/both data/mnist data/omniglot
    """
    from smim.tzk import open_image_tzk

    reports = open_image_tzk(directory).measure(_corpora(corpus), label, split=split, num=num, seed=seed)
    if as_json:
        print(json.dumps({"labels": [asdict(each) for each in reports]}))
        return
    cells = [
        [
            each.label or "all",
            f"{each.num_images:,}",
            *map(_cell, (each.prior, each.conditional, each.gain, each.one_code)),
            "" if each.auc is None else f"{each.auc:.3f}",
        ]
        for each in reports
    ]
    show(cells, header=["label", "images", "p(t)", "p(t|e=1)", "gain", "p(t|e=1,c)", "AUC"])


def _cell(value: tuple[float, float] | None) -> str:
    return "" if value is None else "{:.3f} ± {:.3f}".format(*value)


def _own(labels: dict[str, str | None]) -> list[str]:
    return [value or "" for value in labels.values()]


def _rows(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise UserError(f"--rows is {text!r}; give row numbers with commas, such as 3,7,11") from None


def _writing(tzk: "ImageTzK", output: Path) -> "ImageTzK":
    """Check, before the work, that images of a TzK can be written as a picture."""
    from smim.tzk.pictures import check_picture

    check_picture(output, tzk.card.shape[0])
    return tzk


def _corpora(directories: list[Path]) -> list[Any]:
    from smim.vectors.corpus import VectorCorpus

    return [VectorCorpus.open(directory) for directory in directories]
