"""The warm-up of MIM and A-MIM (chapter 4 of the thesis)."""

from dataclasses import dataclass

import torch

from smim.objectives.base import Objective
from smim.objectives.draw import Draw, Terms
from smim.schema import bounded


@dataclass(frozen=True)
class WithWarmup(Objective):
    """An objective with a warm-up: beta, the weight of log q(z|x) q(x), grows linearly from 0 to 1.

    `warmup_steps`: the number of optimizer steps for it; 0 means none. Validation always uses beta = 1.
    """

    warmup_steps: int = bounded(0, least=0)

    def weight(self, step: int | None) -> float:
        return 1.0 if step is None or self.warmup_steps == 0 else min(1.0, step / self.warmup_steps)

    def terms_of(self, draw: Draw) -> Terms:
        terms = super().terms_of(draw)
        if self.warmup_steps:
            terms["warmup_weight"] = torch.full_like(terms["loss"], self.weight(draw.step))
        return terms
