"""Export a model for sentence-transformers, or push it to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from smim.cli.shared import Model
from smim.errors import UserError


def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write.")],
    similarity: Annotated[
        str | None, typer.Option(help="euclidean, cosine, dot or manhattan; the model's by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing directory.")] = False,
) -> None:
    """Write a model for sentence-transformers.

    There it gives the same codes.

    Example: smim export runs/ptb_smim_512/model -o exported
    """
    if output.exists() and not force:
        raise UserError(f"{output} exists; replace it with --force, or give another --output")
    from smim import sentence_transformer

    sentence_transformer.export(model, output, similarity=similarity)
    print(f"written to {output}: SentenceTransformer('{output}', trust_remote_code=True)")


def push(
    model: Model,
    name: Annotated[str, typer.Argument(metavar="ORGANISATION/NAME", help="The model's repository on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
) -> None:
    """Upload a model to the Hugging Face hub.

    `smim.from_hub("ORGANISATION/NAME")` loads it.

    Example: smim push runs/ptb_smim_512/model our-team/ptb-smim
    """
    from smim.hub import push_to_hub

    print(push_to_hub(model, name, private=not public))
