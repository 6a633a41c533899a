"""`smim fit-prior`: a prior of a trained model's own codes."""

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
    components: Annotated[int, typer.Option(help="Sentences of its train split, around whose codes is drawn.")] = 500,
    spread: Annotated[
        float, typer.Option(help="How far around them, in standard deviations of all codes; lower: more like them.")
    ] = 0.4,
    where: Filter = None,
    seed: Seed = 0,
) -> None:
    """Fit a trained model's prior to its codes.

    Then `smim sample` draws codes from where sentences lie.

    Codes of sentences stay what they are, but it is another model: build indexes after this, not before.

    Example: smim fit-prior runs/mine/model data/mine --where '{"source": "reviews"}'
    """
    from smim.fitted_prior import fit_prior as fit
    from smim.text.corpus import Corpus

    fit(model, Corpus.open(corpus), output, components=components, spread=spread, where=parse_filter(where), seed=seed)
    print(f"written to {output or model}; smim sample {output or model} draws from its prior")
