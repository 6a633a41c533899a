"""Compute BLEU-1 as the authors' demo does, beside ours.

    python benchmarks/demo_bleu.py data/ptb runs/ptb_smim_512/model

Their references end in `<pad>` and their hypotheses in `<eos>`, which never match. The script prints the score of a
perfect reconstruction of the test split, then that of each model, with its standard error. A model draws z and the
words for each sentence, at most 100 tokens.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import estimate, main
from smim import generation
from smim.evaluation.reconstruction import sentence_bleu1
from smim.generation import DECODED_LENGTH
from smim.model import noise
from smim.text.corpus import Corpus


def compare(corpus: Path, models: Annotated[list[Path] | None, typer.Argument()] = None) -> None:
    opened = Corpus.open(corpus)
    ids = (split := opened.split("test")).ids(range(len(split)))
    # Unknown words are `<unk>`, as in decoded sentences.
    references = [opened.tokenizer.decode(each).split() for each in ids]
    show("a perfect reconstruction", references, references)
    for path in models or []:
        model = generation.load(path)
        if model.tokenizer.hash != opened.tokenizer.hash:
            raise SystemExit(f"{path} was trained with another vocabulary than that of {corpus}")
        z = model.draw(model.posterior_of_ids(ids), noise.normal(0, range(len(ids)), 0, model.latent_dim))
        decoded = model.decode(z, sample=True, max_length=DECODED_LENGTH, allow_unknown=True)
        show(str(path), references, [text.split() for text in decoded])


def show(name: str, references: list[list[str]], hypotheses: list[list[str]]) -> None:
    pairs = list(zip(references, hypotheses, strict=True))
    ours = [sentence_bleu1(*pair) for pair in pairs]
    demo = [
        sentence_bleu1([*reference, "<pad>"], hypothesis + ["<eos>"] * (len(hypothesis) < DECODED_LENGTH))
        for reference, hypothesis in pairs
    ]
    for way, scores in (("ours", ours), ("the demo's way", demo)):
        print("{}: {} {value:.4f} ± {error:.4f}".format(name, way, **estimate(scores)))


if __name__ == "__main__":
    main(__doc__, compare)
