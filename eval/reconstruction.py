"""How well a sentence comes back from its code: BLEU-1, corpus BLEU-4, exact matches.

The reconstruction of each sentence starts from a draw z ~ q(z|x) (the mean for an autoencoder) and is
decoded twice: by drawing each word at temperature 1, as in the thesis, and greedily.
"""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from eval.gather import concatenate, gather_values
from smim.generation import SentenceModel, decode_ids
from smim.model import noise
from smim.progress import track
from smim.text.batches import evaluation_batches
from smim.text.corpus import Split


@dataclass(frozen=True)
class Reconstructions:
    """Sentence BLEU-1 in [0, 1], fp64 [N, R], and the greedy reconstructions of the first run, by row."""

    sampled: np.ndarray
    greedy: np.ndarray
    references: list[str]
    hypotheses: list[str]


def sentence_bleu1(reference: list[str], hypothesis: list[str]) -> float:
    """NLTK's sentence BLEU with weights (1, 0, 0, 0), brevity penalty included; 0 for no words."""
    from nltk.translate.bleu_score import sentence_bleu

    return float(sentence_bleu([reference], hypothesis, weights=(1.0,))) if hypothesis else 0.0


@torch.no_grad()
def reconstruct(
    model: SentenceModel, split: Split, *, accelerator: Accelerator, num_runs: int, seed: int, max_length: int
) -> Reconstructions:
    """Reconstructs every sentence `num_runs` times, decoding at most `max_length` tokens."""
    rows, scores, texts = [], [], []
    rank, world_size = accelerator.process_index, accelerator.num_processes
    batches = list(evaluation_batches(split, rank=rank, world_size=world_size))
    for batch in track(batches, "reconstruction", visible=accelerator.is_main_process):
        on_device = batch.to(model.autoencoder.device)
        posterior = model.autoencoder.posterior(on_device)
        references = [model.tokenizer.decode(ids).split() for ids in split.ids(batch.rows.numpy())]
        runs = []
        for run in range(num_runs):
            z = model.draw(posterior, noise.normal(seed, batch.rows, run, model.latent_dim))
            uniform = noise.uniform(seed, batch.rows, run, max_length)
            for draws in (uniform, None):
                decoded = decode_ids(model.autoencoder, z, max_length, uniform=draws)
                words = [model.tokenizer.decode(ids).split() for ids in decoded]
                runs.append([sentence_bleu1(*pair) for pair in zip(references, words, strict=True)])
            if run == 0:
                joined = [(" ".join(r), " ".join(w)) for r, w in zip(references, words, strict=True)]
                texts += list(zip(batch.rows.tolist(), joined, strict=True))
        rows.append(batch.rows)
        scores.append(torch.tensor(runs).T)
    gathered = gather_values(
        accelerator, concatenate(rows, like=()), concatenate(scores, like=(2 * num_runs,)), total=len(split)
    )
    pairs = dict(gather_object(texts))
    return Reconstructions(
        sampled=gathered[:, 0::2],
        greedy=gathered[:, 1::2],
        references=[pairs[i][0] for i in range(len(split))],
        hypotheses=[pairs[i][1] for i in range(len(split))],
    )


def summarize(reconstructions: Reconstructions) -> dict[str, np.ndarray]:
    """Mean sentence BLEU-1 of each run, fp64 [R]; corpus BLEU-4 (in [0, 1]) and exact matches of the first, [1]."""
    from sacrebleu.metrics import BLEU

    corpus = BLEU(tokenize="none", force=True).corpus_score(reconstructions.hypotheses, [reconstructions.references])
    pairs = zip(reconstructions.references, reconstructions.hypotheses, strict=True)
    return {
        "bleu1_sampled": reconstructions.sampled.mean(0),
        "bleu1_greedy": reconstructions.greedy.mean(0),
        "bleu4_corpus_greedy": np.array([corpus.score / 100]),
        "exact_match_greedy": np.array([np.mean([reference == hypothesis for reference, hypothesis in pairs])]),
    }
