"""The deterministic autoencoder, AE of section 7.5."""

from dataclasses import dataclass

from torch import Tensor

from smim.model.autoencoder import SentenceAutoencoder
from smim.objectives.base import Objective, Terms, collapse_terms
from smim.text.batches import Batch


@dataclass(frozen=True)
class Autoencoder(Objective):
    """-log p(x|z) with z the posterior's mean; the variance is never trained."""

    name: str = "autoencoder"

    def prepare(self, model: SentenceAutoencoder) -> None:
        model.to_log_variance.requires_grad_(False)

    def terms(
        self, model: SentenceAutoencoder, batch: Batch, *, step: int | None, noise: Tensor | None = None
    ) -> Terms:
        posterior = model.posterior(batch)
        reconstruction = -model.log_prob(batch, posterior.mean).with_eos
        return {
            "loss": reconstruction,
            "reconstruction": reconstruction,
            **collapse_terms(posterior, model.args.min_log_variance),
        }
