"""The command `smim`: train models of sentences, search with them, reconstruct and generate.

Importing torch and FAISS takes seconds. Each command imports only what it needs, so that `--help` answers at once.
"""

import sys
from typing import Annotated

import typer

import smim
from smim.cli import (
    adapt,
    corpus,
    doctor,
    encode,
    fit_prior,
    generate,
    index,
    judge,
    pipeline,
    search,
    serve,
    share,
    teach,
    tzk,
)
from smim.errors import reported_to_user
from smim.waiting import starting

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(index.app, name="index")
app.add_typer(corpus.app, name="corpus")
app.add_typer(tzk.app, name="tzk")
app.add_typer(judge.app, name="judge")
for job in (pipeline.prepare, pipeline.train, pipeline.evaluate):
    app.command(context_settings={"ignore_unknown_options": True})(job)  # Hydra parses the options
for command in (
    pipeline.pipeline,
    search.search,
    serve.serve,
    encode.encode,
    teach.teach,
    adapt.adapt,
    fit_prior.fit_prior,
    generate.reconstruct,
    generate.interpolate,
    generate.perturb,
    generate.arithmetic,
    generate.sample,
    generate.answer,
    share.export,
    share.push,
    doctor.doctor,
):
    app.command()(command)


def main() -> None:
    """Run the command line; a mistake of the user ends with one line on stderr and exit status 2."""
    if not ("-" in sys.argv and sys.stdin.isatty()):  # no message while the user types sentences
        starting(" ".join(["smim", *sys.argv[1:2], "is working"]))
    with reported_to_user():
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
