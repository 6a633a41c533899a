"""Whether codes tell sentences apart: log p(x_i|z_j) and log q(z_i|x_j) for i = j and i != j (Figure 7.1).

Every sentence i gets one other sentence j, the next in a random circle through all of them.
"""

from pathlib import Path

import numpy as np
import torch

from smim.evaluation import plots
from smim.evaluation.job import Job, log_prob_64, select
from smim.evaluation.section import Definition, Section, measure

_TITLE = "Posterior overlap"


# Of the log densities p and q, each of all i = j and of all i != j, [N].
METRICS = [
    Definition("overlap_log_p_own", "nats", "mean log p(x_i|z_i)", lambda pairs: pairs["p"][0], better="higher"),
    Definition("overlap_log_p_other", "nats", "mean log p(x_i|z_j), i != j", lambda pairs: pairs["p"][1]),
    Definition("overlap_auc_p", "", "share of pairs with log p(x_i|z_i) > log p(x_i|z_j)",
               lambda pairs: pairs["p"][0] > pairs["p"][1], better="higher"),
    Definition("overlap_log_q_own", "nats", "mean log q(z_i|x_i)", lambda pairs: pairs["q"][0]),
    Definition("overlap_log_q_other", "nats", "mean log q(z_i|x_j), i != j", lambda pairs: pairs["q"][1]),
    Definition("overlap_auc_q", "", "share of pairs with log q(z_i|x_i) > log q(z_i|x_j)",
               lambda pairs: pairs["q"][0] > pairs["q"][1], better="higher"),
]  # fmt: skip


def evaluate(job: Job, plots_dir: Path) -> Section:
    """Densities of sentences and codes under their own counterpart and under another's, and how they overlap."""
    if len(job.split) < 2:
        return Section(_TITLE, notes=["Not evaluated: it takes two sentences."])
    log_p, log_q = np.split(pair_log_probs(job).T, 2)
    pairs = {"p": log_p} if job.model.deterministic else {"p": log_p, "q": log_q}
    if job.is_main:
        names = {"p": "log p(x_i|z_j)", "q": "log q(z_i|x_j)"}
        panels = {names[kind]: {"i = j": own, "i ≠ j": other} for kind, (own, other) in pairs.items()}
        plots.histograms(panels, plots_dir / "overlap.png", xlabel="nats")
    note = (
        "A code that holds its sentence makes it far likelier than another sentence's code does. If the histograms "
        "overlap, codes are interchangeable: the posterior has collapsed. `<eos>` is left out of log p."
    )
    return Section(_TITLE, measure(METRICS, pairs), [note], plots={"overlap.png": "As Figure 7.1"})


@torch.no_grad()
def pair_log_probs(job: Job) -> np.ndarray:
    """log p(x_i|z_i), log p(x_i|z_j), log q(z_i|x_i), log q(z_i|x_j) in nats, fp64 [N, 4]."""
    partner = other_sentence(len(job.split), seed=job.seed)
    posteriors, rows, values = job.posterior(), [], []
    for batch, posterior in job.batches("overlap"):
        others = partner[batch.rows.cpu().numpy()]
        other_posterior = select(posteriors, others, posterior.mean.device)
        z, other_z = job.draw(posterior, batch.rows, number=0), job.draw(other_posterior, others, number=0)
        log_p = [job.model.autoencoder.log_prob(batch, code).words.double() for code in (z, other_z)]
        rows.append(batch.rows)
        values.append(torch.stack([*log_p, log_prob_64(posterior, z), log_prob_64(other_posterior, z)], dim=-1))
    return job.gather(rows, values, total=len(job.split))


def other_sentence(num: int, *, seed: int) -> np.ndarray:
    """For each of `num` sentences another one, each of them once; int64 [N]."""
    circle = np.random.default_rng([seed, 1]).permutation(num)
    partner = np.empty(num, np.int64)
    partner[circle] = np.roll(circle, -1)
    return partner
