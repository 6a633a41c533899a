"""Sentences that are decoded from their codes: how many come back, and what it costs.

    python benchmarks/decoding.py share english-small tatoeba-heldout.txt
    python benchmarks/decoding.py checked english-small stsb-dev.tsv.gz

`share` is of any model, and compares words as the model's tokenizer has them. `checked` is of a superposition: a
sentence that the likeliest words do not give back is looked for by a beam of 4, 8 and 16 hypotheses. The same codes
moved midway to another sentence's are no sentence's: there each is looked for in vain.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import smim
from benchmarks.common import main
from smim.evaluation.semantic_sets import read_sets
from smim.generation import DECODED_LENGTH, SentenceModel
from smim.model.decoding import decode_ids
from smim.model.nearest import nearest_ids


def share(
    model: Path,
    file: Annotated[Path, typer.Argument(help="Sentences, one a line.")],
    count: Annotated[int, typer.Option(help="So many of them, drawn at random.")] = 1000,
) -> None:
    """The share of sentences of a file that come back from their codes, token by token."""
    opened, lines = smim.load(model), file.read_text(encoding="utf-8").splitlines()
    texts = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))[:count]]
    again = opened.reconstruct(texts, allow_unknown=True)
    same = [opened.tokenizer.encode(back) == own for back, own in zip(again, opened.token_ids(texts), strict=True)]
    print(f"{np.mean(same):.3f} of {len(texts)} come back")


def checked(
    model: Path,
    sets: Annotated[list[Path], typer.Argument(help="Sets of meaning; the dev sentences of each are decoded.")],
    count: Annotated[int, typer.Option(help="Distinct sentences, drawn at random.")] = 500,
    beams: Annotated[list[int], typer.Option(help="Hypotheses; may be given again.")] = [4, 8, 16],  # noqa: B006
) -> None:
    opened = smim.load(model)
    found = list(dict.fromkeys(text for each in read_sets(sets, "dev") for text in each.texts))
    texts = [found[i] for i in np.random.default_rng(0).permutation(len(found))[:count]]
    ids = [list(sentence) for sentence in opened.token_ids(texts)]
    codes = torch.as_tensor(opened.encode(texts))
    started = time.perf_counter()
    likeliest = decode_ids(opened.autoencoder, codes, DECODED_LENGTH)
    seconds = time.perf_counter() - started
    wrong = [i for i, own in enumerate(ids) if likeliest[i] != own]
    share = 1 - len(wrong) / len(ids)
    print(f"likeliest words   {share:7.1%} of {len(ids)} come back  {1000 * seconds / len(ids):7.1f} ms a sentence")
    for beam in beams:
        again, seconds = _looked_for(opened, codes[wrong], beam)
        right = share + sum(again[row] == ids[i] for row, i in enumerate(wrong)) / len(ids)
        print(f"beam of {beam:<3}       {right:7.1%}  {1000 * seconds / len(wrong):7.1f} ms a sentence of {len(wrong)}")
    midway = torch.as_tensor(
        np.stack([opened.combined([0.5, 0.5], [codes[i], codes[i - 1]]) for i in range(min(64, len(codes)))])
    )
    for beam in beams:
        _, seconds = _looked_for(opened, midway, beam)
        print(f"beam of {beam:<3}  midway between two, in vain  {1000 * seconds / len(midway):7.1f} ms a code")


def _looked_for(model: SentenceModel, codes: torch.Tensor, beam: int) -> tuple[list[list[int]], float]:
    started = time.perf_counter()
    found, _ = nearest_ids(model.autoencoder, codes, DECODED_LENGTH, hypotheses=beam)
    return found, time.perf_counter() - started


if __name__ == "__main__":
    main(__doc__, share, checked)
