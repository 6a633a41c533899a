"""Whether codes tell sentences apart: log p(x_i|z_j) and log q(z_i|x_j) for i = j and i != j (Figure 7.1).

Every sentence i gets one other sentence j, the next in a random circle through all of them.
"""

from pathlib import Path

import numpy as np
import torch

from smim.evaluation import plots
from smim.evaluation.job import Job, log_prob_64, select
from smim.evaluation.section import Section, mean

_COLUMNS = ("log_p_own", "log_p_other", "log_q_own", "log_q_other")


def evaluate(job: Job, plots_dir: Path) -> Section:
    """Densities of sentences and codes under their own counterpart and under another's, and how they overlap."""
    if len(job.split) < 2:
        return Section("Posterior overlap", notes=["Not evaluated: it takes two sentences."])
    columns = dict(zip(_COLUMNS, pair_log_probs(job).T, strict=True))
    kinds = {"p": "log p(x_i|z_j)"} if job.model.deterministic else {"p": "log p(x_i|z_j)", "q": "log q(z_i|x_j)"}
    figures, pairs = {}, {}
    for kind, name in kinds.items():
        own, other = columns[f"log_{kind}_own"], columns[f"log_{kind}_other"]
        figures[f"overlap_log_{kind}_own"] = mean(f"overlap_log_{kind}_own", own)
        figures[f"overlap_log_{kind}_other"] = mean(f"overlap_log_{kind}_other", other)
        figures[f"overlap_auc_{kind}"] = mean(f"overlap_auc_{kind}", own > other)
        pairs[name] = (own, other)
    if job.is_main:
        plots.overlap(pairs, plots_dir / "overlap.png")
    note = (
        "A code that holds its sentence makes it far likelier than another sentence's code does. Where the histograms "
        "lie on each other, codes are interchangeable: the posterior has collapsed. `<eos>` is left out of log p."
    )
    return Section("Posterior overlap", figures=figures, notes=[note], plots={"overlap.png": "As Figure 7.1"})


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
    return job.gather_parts(rows, values, width=4)


def other_sentence(num: int, *, seed: int) -> np.ndarray:
    """For each of `num` sentences another one, each of them once; int64 [N]."""
    circle = np.random.default_rng([seed, 1]).permutation(num)
    partner = np.empty(num, np.int64)
    partner[circle] = np.roll(circle, -1)
    return partner
