"""A term that trains the codes to predict a teacher's vector, a second view y of the sentence.

Shapes: B sentences, M dimensions of the meaning part, V dimensions of the teacher's vectors.
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
    """The term -log p(y|z), up to constants, of a teacher's unit vector y given the meaning part m of z.

    It is 0 for a sentence without a vector. `loss`: `similarities` predicts the cosines of y with the other vectors of
    a process's batch (`of_similarities`). `vector` predicts the first M numbers of y, its principal axes. It uses the
    von Mises-Fisher density C e^(s(m, y) / t) of a direction, with s the cosine and t the `temperature`. `head` is the
    same with W m + b instead of m, for comparison. W and b are learned, which does not constrain the codes' geometry.

    `epochs_alone`: epochs with this term alone, over the sentences with a teacher's vector, before training starts.
    `hold`: keep the meaning part fixed after them, or, without them, as it is in the initial model.
    """

    loss: str = bounded("similarities", among=["similarities", "vector", "head"])
    temperature: float = bounded(0.05, above=0)
    epochs_alone: int = bounded(0, least=0)
    hold: bool = False

    @property
    def has_head(self) -> bool:
        return self.weight > 0 and self.loss == "head"

    def make_head(self, model: LatentVariableModel) -> Critic | None:
        """Make the linear map of `head`, with its own Adam optimizer; None for the other losses."""
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
        # Sentences without a teacher's vector have zeros in its place.
        taught_B = view_BV.any(-1)
        value_B = torch.zeros_like(view_BV[:, 0])
        value_B[taught_B] = self.of(meaning_BM[taught_B], view_BV[taught_B])
        return {"second_view": value_B}

    def of(self, meaning_BM: Tensor, view_BV: Tensor) -> Tensor:
        """Compute -log p(y|z) of each sentence [B], without a head. All of them must have a teacher's vector."""
        term = of_similarities if self.loss == "similarities" else of_directions
        return term(meaning_BM, view_BV, self.temperature)


def of_similarities(meaning_BM: Tensor, view_BV: Tensor, temperature: float) -> Tensor:
    """Compute KL(P_i || Q_i) + mean_j!=i (s(y_i, y_j) - s(m_i, m_j))^2 / 2 t^2 per sentence [B]; 0 for a single one.

    P_i(j) is proportional to e^(s(y_i, y_j) / t); Q_i is the same for the meaning parts. The first summand is the cost
    in nats, up to the entropy of P_i, of predicting which neighbour j of i is drawn from P_i. The second is the cost of
    the cosines themselves, as Gaussians with standard deviation t. The first alone does not determine a constant per
    row; the second alone gives little weight to the few close neighbours.
    """
    if len(view_BV) < 2:
        return torch.zeros_like(view_BV[:, 0])
    theirs, ours = (off_diagonal(cosines(each, each)) / temperature for each in (view_BV, meaning_BM))
    which_B = F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    return which_B + 0.5 * (theirs - ours).square().mean(-1)


def of_directions(meaning_BM: Tensor, view_BV: Tensor, temperature: float) -> Tensor:
    """Compute (1 - s(m, y)) / t per sentence [B], with the first M numbers of y, padded with zeros if it has fewer."""
    width = meaning_BM.shape[1]
    target_BM = F.pad(view_BV[:, :width], (0, max(0, width - view_BV.shape[1])))
    return (1 - F.cosine_similarity(meaning_BM, target_BM, dim=-1)) / temperature
