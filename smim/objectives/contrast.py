"""The contrastive term of cMIM (Livne 2025, arXiv 2502.19642 and 2509.21511), which needs no augmentations.

Shapes: B codes, N others, D dimensions.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from smim.objectives.draw import Addition, Draw, Terms
from smim.schema import bounded


@dataclass(frozen=True)
class Contrast(Addition):
    """The term -log p(k=1|x, z) in nats: how badly z identifies x among the observations of a process's batch.

    It is `discrimination` of the cosines between the codes z. The only positive of x is x itself, with a cosine of 1.
    So the term increases the angles between codes, but does not use their meaning.

    cMIM is A-MIM with `weight` = 1. The equation and the `temperature` are those of `compute_cmim_loss` in NVIDIA's
    KERMT. Its paper, arXiv 2606.11508, and cMIM's have an author in common.
    """

    temperature: float = bounded(0.1, above=0)

    def terms(self, draw: Draw) -> Terms:
        return {"contrast": discrimination(cosines(draw.z, draw.z), self.temperature)}


def cosines(one_BD: Tensor, other_ND: Tensor) -> Tensor:
    """Compute the cosine of each pair, [B, N], in fp32 even under autocast."""
    with torch.autocast(one_BD.device.type, enabled=False):
        return F.normalize(one_BD.float(), dim=-1) @ F.normalize(other_ND.float(), dim=-1).T


def discrimination(cosines_BB: Tensor, temperature: float) -> Tensor:
    """Compute -log e^(s_ii / t) / (e^(s_ii / t) + mean_j!=i e^(s_ij / t)) for each row [B]; 0 for a single row.

    InfoNCE has a sum over negatives. With the mean, the value depends little on their number.
    """
    if len(cosines_BB) == 1:
        return torch.zeros_like(cosines_BB[0])
    logits_BB = cosines_BB / temperature
    negatives_B = off_diagonal(logits_BB).logsumexp(-1) - math.log(len(logits_BB) - 1)
    return F.softplus(negatives_B - logits_BB.diagonal())


def off_diagonal(matrix_BB: Tensor) -> Tensor:
    """Remove the diagonal from each row, [B, B - 1]."""
    num = len(matrix_BB)
    # Without the first number, each run of `num` + 1 numbers ends with one of the diagonal.
    return matrix_BB.flatten()[1:].view(num - 1, num + 1)[:, :-1].reshape(num, num - 1)
