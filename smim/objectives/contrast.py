"""cMIM (Livne 2025, arXiv 2502.19642 and 2509.21511): contrast between the codes of a batch, without augmentations.

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
    """-log p(k=1|x, z): the nats by which z does not tell x from the other observations that a process sees at once.

    See `discrimination`, of the cosines of the codes z with one another. A code's own cosine is 1: there is no positive
    but the observation itself, so that the term drives codes apart in angle and knows nothing of meaning.

    cMIM is A-MIM with a `weight` of 1. The equation is that of NVIDIA's KERMT (`compute_cmim_loss`), whose paper, arXiv
    2606.11508, shares its author with cMIM's; `temperature` is the one there.
    """

    temperature: float = bounded(0.1, above=0)

    def terms(self, draw: Draw) -> Terms:
        return {"contrast": discrimination(cosines(draw.z, draw.z), self.temperature)}


def cosines(one_BD: Tensor, other_ND: Tensor) -> Tensor:
    """The cosine of each pair, [B, N], in fp32 under autocast too."""
    with torch.autocast(one_BD.device.type, enabled=False):
        return F.normalize(one_BD.float(), dim=-1) @ F.normalize(other_ND.float(), dim=-1).T


def discrimination(cosines_BB: Tensor, temperature: float) -> Tensor:
    """-log e^(s_ii / t) / (e^(s_ii / t) + mean_j!=i e^(s_ij / t)) of each row [B]; 0 of one row alone.

    The mean over negatives in the place of InfoNCE's sum: the value depends little on their number.
    """
    if len(cosines_BB) == 1:
        return torch.zeros_like(cosines_BB[0])
    logits_BB = cosines_BB / temperature
    negatives_B = off_diagonal(logits_BB).logsumexp(-1) - math.log(len(logits_BB) - 1)
    return F.softplus(negatives_B - logits_BB.diagonal())


def off_diagonal(matrix_BB: Tensor) -> Tensor:
    """The rows without what stands on the diagonal, [B, B - 1]."""
    num = len(matrix_BB)
    # After the first number, what stands on the diagonal ends each row of `num` + 1.
    return matrix_BB.flatten()[1:].view(num - 1, num + 1)[:, :-1].reshape(num, num - 1)
