"""A teacher's vector as a second view y of a sentence: what z says of y too.

Shapes: B sentences, M dimensions of the meaning part, V of the teacher.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.contrast import cosines, off_diagonal
from smim.objectives.draw import Addition, Critic, Draw, Terms
from smim.schema import bounded

_HEAD_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class SecondView(Addition):
    """-log p(y|z) of a teacher's vector y, but for constants.
    """

    loss: str = bounded("similarities", among=["similarities", "cosines", "vector", "head"])
    temperature: float = bounded(0.1, above=0)

    @property
    def has_head(self) -> bool:
        return self.weight > 0 and self.loss == "head"

    def make_head(self, model: LatentVariableModel) -> Critic | None:
        """The free linear map of `head`, with an Adam of its own; None of the other losses."""
        if not self.has_head:
            return None
        network = torch.nn.Linear(model.meaning_dim, model.meaning_dim)
        return Critic(network, torch.optim.Adam(network.parameters(), lr=_HEAD_LEARNING_RATE))

    def lacks(self, batch: Any) -> str | None:
        return None if batch.view is not None else "a teacher's vectors: make them with `smim teach`, and give corpus.teacher=DIR"

    def terms(self, draw: Draw) -> Terms:
        meaning_BM, view_BV = draw.meaning, draw.batch.view
        if self.loss == "similarities":
            return {"second_view": of_similarities(meaning_BM, view_BV, self.temperature)}
        if self.loss == "cosines":
            s, t = (off_diagonal(cosines(each, each)) for each in (meaning_BM, view_BV))
            return {"second_view": 0.5*((s - t)/self.temperature).square().mean(-1)}
        if self.loss == "head":
            assert draw.critic
            with torch.autocast(meaning_BM.device.type, enabled=False):
                meaning_BM = draw.critic(meaning_BM.float())
        return {"second_view": of_vectors(meaning_BM, view_BV, self.temperature)}


def of_similarities(meaning_BM, view_BV, temperature):
    if len(view_BV) == 1:
        return view_BV.new_zeros(1)
    ours, theirs = (
        (off_diagonal(cosines(each, each)) / temperature).log_softmax(-1) for each in (meaning_BM, view_BV)
    )
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)


def of_vectors(meaning_BM, view_BV, temperature):
    M, V = meaning_BM.shape[1], view_BV.shape[1]
    target = F.pad(view_BV[:, :M], (0, max(0, M - V)))
    return (1 - F.cosine_similarity(meaning_BM.float(), target, dim=-1)) / temperature
