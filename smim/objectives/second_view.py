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
    """-log p(y|z) of a teacher's unit vector y, but for constants, by the meaning part m of z; 0 where there is none.

    `loss`: `similarities`: the cosines of y with the other vectors that a process sees at once (`of_similarities`).
    `vector`: y itself, by its first M numbers, which are its principal axes: the von Mises-Fisher density
    C e^(s(m, y) / t) of a direction, with s the cosine and t the `temperature`. `head`: the same with W m + b in the
    place of m, where W and b are learned beside the model, which leaves the geometry of codes open: for comparison.

    `epochs_alone`: over the sentences that the teacher has read, by this term alone, before the training begins.
    `hold`: whether the meaning part stays then as it is, or as the model has it that the training begins with.
    """

    loss: str = bounded("similarities", among=["similarities", "vector", "head"])
    temperature: float = bounded(0.05, above=0)
    epochs_alone: int = bounded(0, least=0)
    hold: bool = False

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
        if batch.view is not None:
            return None
        return "a teacher's vectors: make them with `smim teach`, and give corpus.teacher=DIR"

    def terms(self, draw: Draw) -> Terms:
        meaning_BM, view_BV = draw.meaning, draw.batch.view
        if self.has_head:
            assert draw.critic
            with torch.autocast(meaning_BM.device.type, enabled=False):
                meaning_BM = draw.critic(meaning_BM)
        # A sentence that was left out of the teaching has a vector of zeros.
        taught_B = view_BV.any(-1)
        value_B = torch.zeros_like(view_BV[:, 0])
        value_B[taught_B] = self.of(meaning_BM[taught_B], view_BV[taught_B])
        return {"second_view": value_B}

    def of(self, meaning_BM: Tensor, view_BV: Tensor) -> Tensor:
        """-log p(y|z) of each sentence [B], without a head; the teacher has read all of them."""
        term = of_similarities if self.loss == "similarities" else of_directions
        return term(meaning_BM, view_BV, self.temperature)


def of_similarities(meaning_BM: Tensor, view_BV: Tensor, temperature: float) -> Tensor:
    """KL(P_i || Q_i) + mean_j!=i (s(y_i, y_j) - s(m_i, m_j))^2 / 2 t^2 of each sentence [B]; 0 of one sentence alone.

    The neighbour j of i is drawn from P_i(j), which is proportional to e^(s(y_i, y_j) / t), and Q_i is the same of
    the meaning parts: up to the entropy of P_i the nats to say which it is. The second summand is those to say how
    near the others are, as Gaussians of standard deviation t. The first alone leaves a constant of each row open; the
    second alone sees little of the few that are near.
    """
    if len(view_BV) < 2:
        return torch.zeros_like(view_BV[:, 0])
    theirs, ours = (off_diagonal(cosines(each, each)) / temperature for each in (view_BV, meaning_BM))
    which_B = F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    return which_B + 0.5 * (theirs - ours).square().mean(-1)


def of_directions(meaning_BM: Tensor, view_BV: Tensor, temperature: float) -> Tensor:
    """(1 - s(m, y)) / t of each sentence [B], y by its first M numbers, and 0 where it has fewer."""
    width = meaning_BM.shape[1]
    target_BM = F.pad(view_BV[:, :width], (0, max(0, width - view_BV.shape[1])))
    return (1 - F.cosine_similarity(meaning_BM, target_BM, dim=-1)) / temperature
