"""`smim teach`: compute a teacher's vectors for a corpus."""

from pathlib import Path
from typing import Annotated

import typer

from smim.cli.shared import Filter, parse_filter
from smim.errors import UserError


def teach(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A prepared corpus, such as data/ptb.")],
    teacher: Annotated[str, typer.Option(help="A sentence-transformers model: a directory, or a name on the hub.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The directory for the vectors; CORPUS-teacher by default.")
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(help="A file of sentences to leave out, such as an evaluation set; may be repeated."),
    ] = None,
    sentences: Annotated[
        int | None, typer.Option(min=1, help="The most distinct sentences, drawn at random; default: all.")
    ] = None,
    where: Filter = None,
    precision: Annotated[str, typer.Option(help="The teacher's precision: auto, bf16 or fp32.")] = "auto",
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes, each with its share of the threads.")] = None,
    address: Annotated[str | None, typer.Option(help="HOST:PORT of a running Ray cluster.")] = None,
) -> None:
    """Compute a teacher's vectors for a prepared corpus.

    The vectors say which sentences have the same meaning. Training reads them with corpus.teacher=DIR.

    After an interruption, the same command continues. Sentences of `--without` are compared by their letters and
    digits.

    \b
    Examples:
      smim teach data/mine --teacher sentence-transformers/all-MiniLM-L6-v2
      smim teach data/english --teacher MODEL --sentences 150000 --where '{"form": "written"}'
    """
    try:
        from smim.teaching import TeachArgs
        from smim.teaching import teach as run
    except ModuleNotFoundError as error:
        raise UserError(f"smim teach needs {error.name}; install it with `pip install 'smim[pipeline,hub]'`") from None
    args = TeachArgs(precision=precision, engine=engine, workers=workers, address=address)
    run(
        corpus,
        teacher=teacher,
        output=output,
        without=without or (),
        sentences=sentences,
        where=parse_filter(where),
        args=args,
    )
