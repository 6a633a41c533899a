"""Measure how many sentences are decoded exactly from their codes, and the time per sentence.

    python benchmarks/decoding.py share english-small tatoeba-heldout.txt
    python benchmarks/decoding.py checked english-small stsb-dev.tsv.gz

`share` works with any model, and compares words as the model's tokenizer splits them. `checked` needs a superposition.
If greedy decoding does not reproduce a sentence, it searches with a beam of 4, 8 and 16 hypotheses. It also measures
the time for codes midway between two sentences. No sentence has such a code, so each search fails.
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
    file: Annotated[Path, typer.Argument(help="A file with one sentence per line.")],
    count: Annotated[int, typer.Option(help="Number of sentences, drawn at random.")] = 1000,
) -> None:
    """Measure the share of a file's sentences that are decoded exactly from their codes, token by token."""
    opened, lines = smim.load(model), file.read_text(encoding="utf-8").splitlines()
    texts = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))[:count]]
    again = opened.reconstruct(texts, allow_unknown=True)
    same = [opened.tokenizer.encode(back) == own for back, own in zip(again, opened.token_ids(texts), strict=True)]
    print(f"{np.mean(same):.3f} of {len(texts)} come back")


def checked(
    model: Path,
    sets: Annotated[list[Path], typer.Argument(help="Judged sets of meaning, whose dev sentences are decoded.")],
    count: Annotated[int, typer.Option(help="Number of distinct sentences, drawn at random.")] = 500,
    beams: Annotated[list[int], typer.Option(help="Number of hypotheses; may be repeated.")] = [4, 8, 16],  # noqa: B006
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
