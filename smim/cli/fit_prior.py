"""`smim fit-prior`: fit the prior of a trained model to its own codes."""

from pathlib import Path
from typing import Annotated

import typer

from smim.cli.shared import Filter, Model, Seed, parse_filter


def fit_prior(
    model: Model,
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="The prepared corpus that it was trained on.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the model is written; in place by default.")
    ] = None,
    components: Annotated[
        int,
        typer.Option(help="The number of train sentences whose codes are the centres; the corpus needs as many."),
    ] = 500,
    spread: Annotated[
        float,
        typer.Option(help="Spread around the centres, in standard deviations of all codes; lower: closer to them."),
    ] = 0.4,
    where: Filter = None,
    seed: Seed = 0,
) -> None:
    """Fit a trained model's prior to its codes.

    `smim sample` then draws codes from the region of real sentences. The corpus needs at least 500 sentences in its
    train split, or as many as --components says.

    The codes of sentences do not change, but the result counts as another model: build indexes after this, not before.

    Example: smim fit-prior runs/mine/model data/mine --where '{"source": "reviews"}'
    """
    from smim.fitted_prior import fit_prior as fit
    from smim.text.corpus import Corpus

    fit(model, Corpus.open(corpus), output, components=components, spread=spread, where=parse_filter(where), seed=seed)
    print(f"written to {output or model}; `smim sample {output or model}` draws from its prior")
