"""`smim prepare`, `train` and `evaluate`: from your own text to a model and its report, with Hydra's KEY=VALUE."""

import sys
from importlib import import_module
from typing import Annotated

import typer

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
