"""How well models reconstruct sentences of different lengths.

    python benchmarks/by_length.py data/yelp runs/gru/model runs/transformer/model --plot docs/by_length.png

For each model and range of lengths (in tokens, of the test split): nats per token of -log p(x|z) with one draw of the
sentence's own z, the same with the z of another sentence, and BLEU-1 of the greedy reconstruction from the draw, with
its standard error. What z says of a sentence is the difference between the first two. Each model after the first is
also compared with it sentence by sentence: the mean of its -log p(x|z) less the first one's, in nats a sentence, with
its standard error.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import torch

from smim import generation
from smim.evaluation.reconstruction import sentence_bleu1
from smim.generation import SentenceModel
from smim.model import noise
from smim.model.decoding import decode_ids
from smim.text.batch import collate
from smim.text.batches import evaluation_order
from smim.text.corpus import Corpus, Split
from smim.training import checkpoint

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Curve = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--borders", type=int, nargs="+", default=[0, 40, 80, 120, 160, 200])
    parser.add_argument(
        "--last", action="store_true", help="the run's newest weights, not those of the best validation"
    )
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    split = Corpus.open(args.corpus).split("test")
    rows = np.flatnonzero((split.lengths > args.borders[0]) & (split.lengths <= args.borders[-1]))
    curves, first = {}, None
    for path in args.models:
        name = path.parent.name
        model = generation.load(path)
        if args.last:
            newest = checkpoint.list_checkpoints(path.parent / "checkpoints")[-1]
            model.autoencoder.load_state_dict(checkpoint.load_tensors(newest, "model"))
        curves[name], own = by_length(model, split, rows, args.borders)
        print(name)
        for i, (low, high) in enumerate(pairwise(args.borders)):
            figures = "  ".join(f"{figure} {values[i]:.3f}" for figure, values in curves[name].items())
            if first is not None:
                inside = (split.lengths[rows] > low) & (split.lengths[rows] <= high)
                less = (own - first)[inside]
                figures += f"  to the first {less.mean():+.2f} ± {less.std(ddof=1) / len(less) ** 0.5:.2f}"
            print(f"  {low + 1:4} to {high:4} tokens  {figures}", flush=True)
        first = own if first is None else first
    if args.plot:
        plot(curves, args.borders, args.plot)


@torch.no_grad()
def by_length(model: SentenceModel, split: Split, rows: np.ndarray, borders: list[int]) -> tuple[Curve, np.ndarray]:
    """The figures of each range of lengths, and each row's -log p(x|z) from its own z."""
    ids, lengths = split.ids(rows), split.lengths[rows]
    posterior = model.posterior_of_ids(ids)
    z = model.draw(posterior, noise.normal(0, rows, 0, model.latent_dim))
    own, other = np.empty(len(rows)), np.empty(len(rows))
    for part in evaluation_order(lengths, tokens_per_batch=4096):
        batch = collate([ids[i] for i in part], rows[part]).to(model.autoencoder.device)
        # The z of a sentence of about the same length, its neighbour in the batch.
        for values, codes in ((own, z[part]), (other, z[np.roll(part, 1)])):
            values[part] = -model.autoencoder.log_prob(batch, codes.to(batch.tokens.device)).words.cpu().numpy()
    decode = model.tokenizer.decode
    decoded = decode_ids(model.autoencoder, z, borders[-1])
    pairs = zip(ids, decoded, strict=True)
    bleu = np.array([sentence_bleu1(decode(x.tolist()).split(), decode(y).split()) for x, y in pairs])
    curve: Curve = {"sentences": [], "own": [], "other": [], "bleu1": [], "bleu1_stderr": []}
    for low, high in pairwise(borders):
        inside = (lengths > low) & (lengths <= high)
        tokens = lengths[inside].sum()
        curve["sentences"].append(int(inside.sum()))
        curve["own"].append(own[inside].sum() / tokens)
        curve["other"].append(other[inside].sum() / tokens)
        curve["bleu1"].append(bleu[inside].mean())
        curve["bleu1_stderr"].append(bleu[inside].std(ddof=1) / inside.sum() ** 0.5)
    return curve, own


def plot(curves: dict[str, Curve], borders: list[int], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    middles = [(low + high) / 2 for low, high in pairwise(borders)]
    for name, curve in curves.items():
        [line] = left.plot(middles, curve["own"], "o-", label=name)
        left.plot(middles, curve["other"], ":", color=line.get_color())
        right.errorbar(middles, curve["bleu1"], curve["bleu1_stderr"], fmt="o-", color=line.get_color(), label=name)
    left.set(xlabel="tokens", ylabel="nats a token (dotted: with another sentence's z)")
    right.set(xlabel="tokens", ylabel="BLEU-1, greedy")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
