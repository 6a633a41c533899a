"""Whether codes distinguish sentences: log p(x_i|z_j) and log q(z_i|x_j) for i = j and for i != j (Figure 7.1).

Each sentence i is paired with another sentence j, the next one in a random circle through all sentences.
"""

from pathlib import Path

import numpy as np
import torch

from smim.evaluation import plots
from smim.evaluation.job import Job, log_prob_64, select
from smim.evaluation.section import Definition, Section, measure

_TITLE = "Posterior overlap"


# The input: log densities by "p" and "q", each for all i = j and for all i != j, [N].
METRICS = [
    Definition("overlap_log_p_own", "nats", "mean log p(x_i|z_i): a sentence, given its own code",
               lambda pairs: pairs["p"][0], better="higher"),
    Definition("overlap_log_p_other", "nats", "mean log p(x_i|z_j), i != j: a sentence, given another sentence's code",
               lambda pairs: pairs["p"][1]),
    Definition("overlap_auc_p", "",
               "share of sentences with log p(x_i|z_i) > log p(x_i|z_j): 1/2 if codes are interchangeable",
               lambda pairs: pairs["p"][0] > pairs["p"][1], better="higher"),
    Definition("overlap_log_q_own", "nats", "mean log q(z_i|x_i): a code under its own sentence's posterior",
               lambda pairs: pairs["q"][0]),
    Definition("overlap_log_q_other", "nats",
               "mean log q(z_i|x_j), i != j: a code under another sentence's posterior",
               lambda pairs: pairs["q"][1]),
    Definition("overlap_auc_q", "",
               "share of codes with log q(z_i|x_i) > log q(z_i|x_j): 1/2 if codes are interchangeable",
               lambda pairs: pairs["q"][0] > pairs["q"][1], better="higher"),
]  # fmt: skip


def evaluate(job: Job, plots_dir: Path) -> Section:
    """Compute how the densities of own and of other pairs of sentence and code overlap. All processes must call it."""
    if len(job.split) < 2:
        return Section(_TITLE, notes=["Not evaluated: at least two sentences are needed."])
    log_p, log_q = np.split(pair_log_probs(job).T, 2)
    pairs = {"p": log_p} if job.model.deterministic else {"p": log_p, "q": log_q}
    if job.is_main:
        names = {"p": "log p(x_i|z_j)", "q": "log q(z_i|x_j)"}
        panels = {names[kind]: {"i = j": own, "i ≠ j": other} for kind, (own, other) in pairs.items()}
        plots.histograms(panels, plots_dir / "overlap.png", xlabel="nats")
    note = (
        "Each sentence x_i with code z_i is paired with another random sentence x_j. If a code represents its "
        "sentence, the sentence is far more probable with its own code than with another. If the two histograms "
        "coincide, codes are interchangeable: the posterior has collapsed. log p leaves out `<eos>`."
    )
    return Section(
        _TITLE,
        measure(METRICS, pairs),
        [note],
        plots={"overlap.png": "Log densities of own pairs (i = j) and of other pairs (i ≠ j), as in Figure 7.1"},
    )


@torch.no_grad()
def pair_log_probs(job: Job) -> np.ndarray:
    """Compute log p(x_i|z_i), log p(x_i|z_j), log q(z_i|x_i) and log q(z_i|x_j) in nats, fp64 [N, 4]."""
    partner = other_sentence(len(job.split), seed=job.seed)
    posteriors, rows, values = job.posterior(), [], []
    for batch, posterior in job.batches("overlap"):
        others = partner[batch.rows.cpu().numpy()]
        other_posterior = select(posteriors, others, posterior.mean.device)
        z, other_z = job.draw(posterior, batch.rows, number=0), job.draw(other_posterior, others, number=0)
        with job.decoding():
            log_p = [job.model.autoencoder.log_prob(batch, code).words.double() for code in (z, other_z)]
        rows.append(batch.rows)
        values.append(torch.stack([*log_p, log_prob_64(posterior, z), log_prob_64(other_posterior, z)], dim=-1))
    return job.gather(rows, values, total=len(job.split))


def other_sentence(num: int, *, seed: int) -> np.ndarray:
    """Choose another sentence for each of `num` sentences, so that each is chosen once; int64 [N]."""
    circle = np.random.default_rng([seed, 1]).permutation(num)
    partner = np.empty(num, np.int64)
    partner[circle] = np.roll(circle, -1)
    return partner
