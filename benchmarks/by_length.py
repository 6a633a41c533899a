"""Measure how well models reconstruct sentences of different lengths.

    python benchmarks/by_length.py data/yelp runs/gru/model runs/transformer/model --plot docs/by_length.png

For each model and range of lengths (in tokens, of the test split), it prints three metrics with standard errors:

- -log p(x|z) in nats per token, with one draw of the sentence's own z
- the same with the z of another sentence
- BLEU-1 of the greedy reconstruction from the draw

The difference between the first two is the information about the sentence in z. Each further model is also compared
with the first one sentence by sentence: the mean difference of -log p(x|z) in nats per sentence, with its standard
error.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import torch
import typer

from benchmarks.common import estimate, main
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


def compare(
    corpus: Path,
    models: list[Path],
    borders: Annotated[list[int], typer.Option(help="May be repeated.")] = [0, 40, 80, 120, 160, 200],  # noqa: B006
    last: Annotated[bool, typer.Option("--last", help="Use the run's newest weights, not the best on valid.")] = False,
    plot: Path | None = None,
) -> None:
    split = Corpus.open(corpus).split("test")
    rows = np.flatnonzero((split.lengths > borders[0]) & (split.lengths <= borders[-1]))
    curves, first = {}, None
    for path in models:
        model = generation.load(path)
        if last:
            newest = checkpoint.list_checkpoints(path.parent / "checkpoints")[-1]
            model.autoencoder.load_state_dict(checkpoint.load_tensors(newest, "model"))
        curves[path.parent.name], own = by_length(model, split, rows, borders)
        print(path.parent.name)
        for i, (low, high) in enumerate(pairwise(borders)):
            metrics = "  ".join(f"{name} {values[i]:.3f}" for name, values in curves[path.parent.name].items())
            if first is not None:
                inside = (split.lengths[rows] > low) & (split.lengths[rows] <= high)
                metrics += "  to the first {value:+.2f} ± {error:.2f}".format(**estimate((own - first)[inside]))
            print(f"  {low + 1:4} to {high:4} tokens  {metrics}", flush=True)
        first = own if first is None else first
    if plot:
        draw(curves, borders, plot)


@torch.no_grad()
def by_length(
    model: SentenceModel, split: Split, rows: np.ndarray, borders: list[int]
) -> tuple[dict[str, list[float]], np.ndarray]:
    """Compute the metrics of each range of lengths, and each row's -log p(x|z) from its own z."""
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
    decoded = decode_ids(model.autoencoder, z, borders[-1], allow_unknown=True)
    pairs = zip(ids, decoded, strict=True)
    bleu = np.array([sentence_bleu1(decode(x.tolist()).split(), decode(y).split()) for x, y in pairs])
    curve: dict[str, list[float]] = {"sentences": [], "own": [], "other": [], "bleu1": [], "bleu1_stderr": []}
    for low, high in pairwise(borders):
        inside = (lengths > low) & (lengths <= high)
        tokens, score = lengths[inside].sum(), estimate(bleu[inside])
        row = (int(inside.sum()), own[inside].sum() / tokens, other[inside].sum() / tokens, *score.values())
        for column, value in zip(curve.values(), row, strict=True):
            column.append(value)
    return curve, own


def draw(curves: dict[str, dict[str, list[float]]], borders: list[int], path: Path) -> None:
    picture, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    middles = [(low + high) / 2 for low, high in pairwise(borders)]
    for name, curve in curves.items():
        [line] = left.plot(middles, curve["own"], "o-", label=name)
        left.plot(middles, curve["other"], ":", color=line.get_color())
        right.errorbar(middles, curve["bleu1"], curve["bleu1_stderr"], fmt="o-", color=line.get_color(), label=name)
    left.set(xlabel="tokens", ylabel="nats a token (dotted: with another sentence's z)")
    right.set(xlabel="tokens", ylabel="BLEU-1, greedy")
    right.legend()
    picture.tight_layout()
    picture.savefig(path, dpi=120)


if __name__ == "__main__":
    main(__doc__, compare)
