"""`smim encode`: write a corpus's codes to disk."""

from pathlib import Path
from typing import Annotated

import typer

from smim.cli.shared import Model


def encode(
    model: Model,
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A prepared corpus, such as data/ptb.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory of the codes, such as latents/ptb.")],
    split: Annotated[str, typer.Option(help="The split to encode.")] = "train",
    dtype: Annotated[str, typer.Option(help="The stored type: fp32 or fp16.")] = "fp32",
    log_variance: Annotated[bool, typer.Option("--log-variance", help="Store the log variances too.")] = False,
) -> None:
    """Encode a split of a prepared corpus into arrays.

    `smim index build` and other programs can read them.

    After an interruption, the same command continues. For several processes or machines: smim/search/encode.py.

    Example: smim encode runs/ptb_smim_512/model data/ptb -o latents/ptb --dtype fp16
    """
    from smim.search.encode import EncodeArgs, encode_corpus

    args = EncodeArgs(split=split, dtype=dtype, log_variance=log_variance)
    encode_corpus(model, corpus, output, args=args)
