"""Arguments and output shared by the commands."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smim.errors import UserError

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model directory, such as runs/NAME/model, or english-small.")
]
Seed = Annotated[int, typer.Option(help="The random seed.")]
GibbsSteps = Annotated[int | None, typer.Option(help="Steps of block Gibbs sampling, instead of rejection.")]
AllowUnknown = Annotated[bool, typer.Option("--allow-unknown", help="Allow `<unk>` among the words.")]
IndexDir = Annotated[Path, typer.Argument(metavar="INDEX", help="An index, such as indexes/ptb.")]
MovedModel = Annotated[Path | None, typer.Option("--model", help="Where the index's model is now, if it was moved.")]
Gpu = Annotated[bool, typer.Option("--gpu", help="Run FAISS on a GPU; needs faiss-gpu.")]
LearnedSplit = Annotated[str, typer.Option("--split", help="The split to learn from.")]
OptimizerSteps = Annotated[int, typer.Option(help="Optimizer steps (Adam).")]
Rate = Annotated[float, typer.Option(help="The highest learning rate.")]
CodeDim = Annotated[int, typer.Option(help="Dimensions of a label's own code.")]
CodeLayers = Annotated[int, typer.Option(help="Coupling layers of p(c) and p(c|e, t); 0: Gaussians.")]
DrawT = Annotated[bool, typer.Option("--draw-t", help="Draw t from the label's decoder too (eq. G.1).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Filter = Annotated[
    str | None,
    typer.Option("--where", help="""A filter on labels, as JSON: '{"stars": {"$gte": 4}, "topic": ["a", "b"]}'."""),
]


def parse_filter(where: str | None) -> Any:
    try:
        return None if where is None else json.loads(where)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f'--where is not valid JSON ({error}); write for example \'{{"stars": {{"$gte": 4}}}}\''
        ) from None


def check_new(directory: Path, *, force: bool) -> None:
    """Raise `UserError` if a TzK directory exists and may not be replaced."""
    if directory.exists() and not force:
        raise UserError(f"{directory} exists; replace it and its labels with --force, or give another --output")


def print_lines(lines: list[str]) -> None:
    for line in lines:
        print(line)


def show(rows: Sequence[Sequence[str | Text]], *, header: list[str] | None = None) -> None:
    """Print a table on a terminal; otherwise print tab-separated lines without the header, for other programs."""
    console = Console(markup=False, highlight=False, emoji=False)  # brackets in a sentence are not markup
    if not console.is_terminal:
        breaks = str.maketrans("\t\r\n", "   ")
        print_lines(["\t".join(str(cell).translate(breaks) for cell in row) for row in rows])
        return
    table = Table(*(header or []), show_header=header is not None, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table, "")
