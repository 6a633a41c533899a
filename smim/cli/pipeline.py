"""`smim prepare`, `train` and `evaluate` with Hydra's KEY=VALUE, and `smim pipeline`: from text to an index."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from smim.engine import EngineArgs
from smim.errors import UserError

Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings. `--cfg job` prints all of them, with their values."),
]


def prepare(settings: Settings = None) -> None:
    """Prepare a corpus of your own text.

    It reads files of the usual formats, or a dataset of the Hugging Face hub.

    After an interruption, the same command continues.

    \b
    Examples:
      smim prepare corpus.name=reviews corpus.path=reviews.csv corpus.text_column=review
      smim prepare corpus.path=texts/ corpus.tokenizer.kind=unigram output=data/texts
      smim prepare corpus=gmm output=data/gmm
    """
    _run("prepare", "build", "smim.preparation.build", settings)


def train(settings: Settings = None) -> None:
    """Train a model on a prepared corpus, in one process.

    Ctrl-C saves a checkpoint; the same command with train.resume=auto continues from it.

    \b
    Examples:
      smim train experiment=own_small corpus.dir=data/reviews run.dir=runs/reviews
      smim train corpus.dir=data/reviews model.latent_dim=128 run.dir=runs/reviews
      smim train corpus.dir=data/reviews model=transformer objective=mim train.max_steps=20000
    In many processes, on GPUs:
      accelerate launch --num_processes 8 -m smim.train corpus.dir=data/reviews run.dir=runs/reviews
    """
    _run("train", "train", "smim.train", settings)


def evaluate(settings: Settings = None) -> None:
    """Evaluate a trained model, and write a report.

    After an interruption, the same command continues behind the last finished metric group.

    \b
    Examples:
      smim evaluate model.dir=runs/reviews/model corpus.dir=data/reviews
      smim evaluate model.dir=runs/reviews/model corpus.dir=data/reviews eval.metrics=[likelihood] output=report
    In many processes, on GPUs:
      accelerate launch --num_processes 8 -m smim.evaluation.run model.dir=runs/reviews/model corpus.dir=data/reviews
    """
    _run("evaluate", "evaluate", "smim.evaluation.run", settings)


def _run(command: str, config_name: str, module: str, settings: list[str] | None) -> None:
    """Run the `main` of a module as its script does, with its `expand` if it has one."""
    try:
        from smim import config

        job = import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"smim {command} needs {error.name}; install it with `pip install 'smim[pipeline]'`") from None
    sys.argv = [f"smim {command}", *(settings or [])]
    config.run(config_name, job.main, expand=getattr(job, "expand", None))


def pipeline(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file of the stages and their settings.")],
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="The last stage: prepare, train, encode, index or report.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the stages, their states and commands.")] = False,
    free_inputs: Annotated[
        bool,
        typer.Option("--free-inputs", help="Remove corpus, latents and checkpoints once the index is verified."),
    ] = False,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Where prepare, encode and index run.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes of a stage, or Ray tasks at a time.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="A running Ray cluster; default: start one here.")] = None,
) -> None:
    """Run all stages from text to a measured index.

    The stages are prepare, train, encode, index and report. docs/scale.md describes CONFIG. After an interruption, the
    same command continues. The file stages.jsonl gets time, memory and disk space of each stage.

    \b
    Examples:
      smim pipeline mine.yaml --dry-run
      smim pipeline mine.yaml --workers 8 --free-inputs
      smim pipeline mine.yaml --engine ray --ray-address 10.0.0.1:6379
    """
    try:
        from smim import pipeline as job
    except ModuleNotFoundError as error:
        raise UserError(f"smim pipeline needs {error.name}; install it with `pip install 'smim[pipeline]'`") from None
    args = job.PipelineArgs.read(config)
    planned = job.until(job.stages(args, EngineArgs(engine, workers, ray_address)), until)
    if dry_run:
        for stage, state in job.states(planned):
            print(f"{stage.name:8} {state:10} {stage.output}\n    {stage.shown}")
    else:
        job.run(planned, Path(args.output), workers=workers, free_inputs=free_inputs)
