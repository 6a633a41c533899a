"""What an objective is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from smim.model.autoencoder import SentenceAutoencoder
from smim.model.distributions import DiagonalGaussian
from smim.text.batches import Batch

# Named per-sentence values, each fp32 [B]. All have `loss`, `reconstruction`, `kl` and `clamped`.
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Objective(ABC):
    """A loss for one sentence autoencoder; its fields are its settings under `objective.`."""

    name: str

    def prepare(self, model: SentenceAutoencoder) -> None:  # noqa: B027
        """Called once before training: freezes parameters that the loss does not depend on, which DDP refuses."""

    @abstractmethod
    def terms(
        self, model: SentenceAutoencoder, batch: Batch, *, step: int | None, noise: Tensor | None = None
    ) -> Terms:
        """The loss and its parts for each sentence, in nats, [B] each.

        `step` counts optimizer steps for annealed weights; None, as in validation, means their final
        value. `noise` ~ N(0, I) [B, D] makes the latent draw reproducible.
        """


def collapse_terms(posterior: DiagonalGaussian, min_log_variance: float) -> Terms:
    """What the collapse monitor watches: KL(q(z|x) || N(0, I)) and the share of clamped dimensions."""
    with torch.no_grad():
        clamped = (posterior.log_variance <= min_log_variance).float().mean(-1)
        return {"kl": posterior.kl_to_standard_normal(), "clamped": clamped}
