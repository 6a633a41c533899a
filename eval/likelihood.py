"""Bounds on the negative log likelihood of a set of sentences, in nats.

MELBO (eq. 6.17) takes as prior the aggregate posterior of the evaluated set itself: it measures how
well a code tells the sentences of that set apart, and a perfect autoencoder scores log N whatever the
text. The ELBO takes N(0, I), and charges KL(q(z|x) || N(0, I)) instead of log N.

Shapes: N sentences, R runs.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from eval.gather import concatenate, gather_values
from smim.generation import SentenceModel
from smim.model import noise
from smim.progress import track
from smim.text.batches import evaluation_batches
from smim.text.corpus import Split


@dataclass(frozen=True)
class SentenceLikelihood:
    """For each sentence, means over the latent draws of each run, in nats.

    `words` fp64 [N, R]: -log p(x|z) without `<eos>`; `eos` fp64 [N, R]: -log p(<eos>); `kl` fp64 [N];
    `lengths` int64 [N]: tokens without `<eos>`.
    """

    words: np.ndarray
    eos: np.ndarray
    kl: np.ndarray
    lengths: np.ndarray


@torch.no_grad()
def sentence_likelihood(
    model: SentenceModel, split: Split, *, accelerator: Accelerator, num_runs: int, num_samples: int, seed: int
) -> SentenceLikelihood:
    """Evaluates -log p(x|z) with `num_samples` draws z ~ q(z|x) in each of `num_runs` runs.

    A deterministic autoencoder has z = posterior mean, and runs that do not differ.
    """
    rows, values = [], []
    rank, world_size = accelerator.process_index, accelerator.num_processes
    batches = list(evaluation_batches(split, rank=rank, world_size=world_size))
    for batch in track(batches, "likelihood", visible=accelerator.is_main_process):
        on_device = batch.to(model.autoencoder.device)
        posterior = model.autoencoder.posterior(on_device)
        kl = posterior.kl_to_standard_normal()
        runs = []
        for run in range(num_runs):
            total = torch.zeros(len(batch), 2, device=kl.device)
            for sample in range(num_samples):
                draws = noise.normal(seed, batch.rows, run * num_samples + sample, model.latent_dim)
                z = model.draw(posterior, draws)
                log_prob = model.autoencoder.log_prob(on_device, z)
                total -= torch.stack([log_prob.words, log_prob.eos], dim=-1)
            runs.append(total / num_samples)
        rows.append(batch.rows)
        values.append(torch.cat([torch.cat(runs, dim=-1), kl[:, None]], dim=-1))
    gathered = gather_values(
        accelerator,
        concatenate(rows, like=()),
        concatenate(values, like=(2 * num_runs + 1,)),
        total=len(split),
    )
    return SentenceLikelihood(
        words=gathered[:, 0:-1:2], eos=gathered[:, 1:-1:2], kl=gathered[:, -1], lengths=split.lengths.astype(np.int64)
    )


def summarize(likelihood: SentenceLikelihood, *, deterministic: bool) -> dict[str, np.ndarray]:
    """NLL bounds and perplexities of each run, fp64 [R] each.

    `nll`: MELBO, words only; `ppl` divides by the words, `ppl_thesis` by the words and one `<eos>` a
    sentence, as the thesis's Table 7.2 does. A deterministic autoencoder has no ELBO.
    """
    num_sentences, num_tokens = len(likelihood.lengths), int(likelihood.lengths.sum())
    log_n = math.log(num_sentences)
    reconstruction = likelihood.words.mean(0)
    nll = reconstruction + log_n
    metrics = {
        "nll": nll,
        "nll_with_eos": nll + likelihood.eos.mean(0),
        "ppl": np.exp(num_sentences * nll / num_tokens),
        "ppl_thesis": np.exp(num_sentences * nll / (num_tokens + num_sentences)),
        "reconstruction": reconstruction,
    }
    if not deterministic:
        metrics["nll_elbo"] = reconstruction + likelihood.kl.mean()
    return metrics
