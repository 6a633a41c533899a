"""The settings of a model: its latent space, and an encoder and a decoder that own theirs."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from smim.errors import refuse
from smim.schema import bounded, out_of_bounds


@dataclass(frozen=True)
class PartArgs:
    """The settings of an encoder or a decoder; `name` says of which kind.

    `unit`: what it reads or makes. `takes_scale_out`: whether it normalises the embeddings that it reads.
    `own_embedding_dim`: how much wider embeddings are for its sake; the last so many columns are read by it alone.
    """

    unit: ClassVar[str] = "sentence"
    takes_scale_out: ClassVar[bool] = False
    name: str

    @property
    def own_embedding_dim(self) -> int:
        return 0

    def problems(self, at: str, model: Any) -> list[str]:
        """A message for each wrong setting. `at`: where they are, such as `model.encoder`; `model`: all settings."""
        return out_of_bounds(self, at)

    def make(self, model: Any, encoder: Any = None) -> Any:
        """The encoder, or the decoder that goes with `encoder`, of a model of these settings, with random weights."""
        raise NotImplementedError


@dataclass(frozen=True)
class ModelArgs:
    """What decides the shape of a model, whatever it reads: `encoder` and `decoder`, and what q(z|x) and p(z) are.

    `posterior`: a diagonal `gaussian`, whose log variance is predicted and clamped from below by `min_log_variance`; or
    `sampled_variance`, which predicts none: see `SampledVariance`, `max_log_variance` is the upper end of its range.
    sMIM drives nearly every dimension onto the clamp, so `min_log_variance` sets the code's noise.

    `prior`: `standard_normal`, or learned, of `num_prior_components`: `gaussian_mixture` or `vamp`.

    Raises `UserError` that names each wrong setting.
    """

    unit: ClassVar[str]
    encoder: PartArgs
    decoder: PartArgs
    latent_dim: int = bounded(512, least=1)
    posterior: str = bounded("gaussian", among=["gaussian", "sampled_variance"])
    min_log_variance: float = -10.0
    max_log_variance: float = 0.0
    prior: str = bounded("standard_normal", among=["standard_normal", "gaussian_mixture", "vamp"])
    num_prior_components: int = bounded(100, least=1)

    def __post_init__(self) -> None:
        problems = out_of_bounds(self, "model")
        if self.posterior == "sampled_variance" and self.max_log_variance < self.min_log_variance:
            problems.append(
                f"model.max_log_variance is {self.max_log_variance}, below model.min_log_variance "
                f"({self.min_log_variance}); log variances are drawn between them"
            )
        for at, part in (("model.encoder", self.encoder), ("model.decoder", self.decoder)):
            problems += part.problems(at, self)
        refuse(problems)

    @property
    def clamp(self) -> float:
        """The log variance at which a predicted one is clamped; minus infinity where none is predicted."""
        return self.min_log_variance if self.posterior == "gaussian" else -math.inf

    @property
    def kind(self) -> str:
        """The encoder and the decoder by name, such as "gru" or "superposition and gru"."""
        return " and ".join(dict.fromkeys([self.encoder.name, self.decoder.name]))

    @property
    def token_limit(self) -> int | None:
        """The most tokens that a sentence may have; None of what are no sentences."""
        return None

    def check_split(self, split: Any, *, cut: int | None) -> None:
        """Raises `UserError` for a split that such a model cannot hold; `cut`: tokens that sentences are cut to."""
