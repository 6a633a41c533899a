"""BLEU-1 as the authors' demo computes it, beside ours.

    python benchmarks/demo_bleu.py data/ptb runs/ptb_smim_512/model

Their references end in `<pad>` and their hypotheses in `<eos>`, which never match. Prints what a perfect reconstruction
of the test split scores, then each model's: a draw of z and of the words for each sentence, at most 100 tokens, with
its standard error.
"""

import argparse
from pathlib import Path

import numpy as np

from smim import generation
from smim.evaluation.reconstruction import sentence_bleu1
from smim.generation import DECODED_LENGTH
from smim.model import noise
from smim.text.corpus import Corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("models", type=Path, nargs="*")
    args = parser.parse_args()
    corpus = Corpus.open(args.corpus)
    split = corpus.split("test")
    # Unknown words are `<unk>`, as they are in what is decoded.
    references = [corpus.tokenizer.decode(ids).split() for ids in split.ids(range(len(split)))]
    show("a perfect reconstruction", references, references)
    for path in args.models:
        model = generation.load(path)
        if model.tokenizer.hash != corpus.tokenizer.hash:
            raise SystemExit(f"{path} was trained for other words than {args.corpus}")
        posterior = model.posterior_of_ids(split.ids(range(len(split))))
        z = model.draw(posterior, noise.normal(0, range(len(split)), 0, model.latent_dim))
        decoded = model.decode(z, sample=True, max_length=DECODED_LENGTH)
        show(str(path), references, [text.split() for text in decoded])


def show(name: str, references: list[list[str]], hypotheses: list[list[str]]) -> None:
    pairs = list(zip(references, hypotheses, strict=True))
    ours = [sentence_bleu1(*pair) for pair in pairs]
    demo = [
        sentence_bleu1([*reference, "<pad>"], hypothesis + ["<eos>"] * (len(hypothesis) < DECODED_LENGTH))
        for reference, hypothesis in pairs
    ]
    for way, scores in (("ours", ours), ("the demo's way", demo)):
        print(f"{name}: {way} {np.mean(scores):.4f} ± {np.std(scores, ddof=1) / len(scores) ** 0.5:.4f}")


if __name__ == "__main__":
    main()
