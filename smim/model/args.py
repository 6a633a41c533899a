"""The settings of a model: those of its latent space, and those of its encoder and decoder."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from smim.errors import refuse
from smim.schema import bounded, out_of_bounds


@dataclass(frozen=True)
class PartArgs:
    """The settings of an encoder or a decoder of the kind `name`.

    `unit`: what it reads or produces, "sentence" or "vector". `family`: the kind of model that it is a part of,
    "sentence", "vector" or "image". `takes_scale_out`: it normalises its input embeddings. `own_embedding_dim`: the
    number of extra embedding columns, the last ones, that only this part reads.
    """

    unit: ClassVar[str] = "sentence"
    family: ClassVar[str] = "sentence"
    takes_scale_out: ClassVar[bool] = False
    name: str

    @property
    def own_embedding_dim(self) -> int:
        return 0

    def problems(self, at: str, model: Any) -> list[str]:
        """Return a message for each wrong setting. `at`: the section (`model.encoder`). `model`: all settings."""
        return out_of_bounds(self, at)

    def make(self, model: Any, encoder: Any = None) -> Any:
        """Make the encoder, or the decoder that belongs to `encoder`, of a model with random weights."""
        raise NotImplementedError


@dataclass(frozen=True)
class ModelArgs:
    """The settings that decide the shape of any model: `encoder` and `decoder`, q(z|x) and p(z).

    `posterior`: `gaussian` is a diagonal Gaussian. The model predicts its log variance, and `min_log_variance` clamps
    it from below. sMIM drives nearly every dimension to the clamp, so `min_log_variance` sets the noise of the codes.
    `sampled_variance` predicts none (see `SampledVariance`), and `max_log_variance` is the upper end of its range.

    `prior`: `standard_normal`, or a learned `gaussian_mixture` or `vamp` with `num_prior_components` components.

    Raises `UserError` that names each wrong setting.
    """

    unit: ClassVar[str]
    family: ClassVar[str]
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
                f"model.max_log_variance is {self.max_log_variance}, but it must be at least model.min_log_variance, "
                f"{self.min_log_variance}"
            )
        for at, part in (("model.encoder", self.encoder), ("model.decoder", self.decoder)):
            problems += part.problems(at, self)
        refuse(problems + self.more_problems())

    def more_problems(self) -> list[str]:
        """Return a message for each wrong setting that only this kind of model has."""
        return []

    @property
    def clamp(self) -> float:
        """The lower limit of the predicted log variance; minus infinity if none is predicted."""
        return self.min_log_variance if self.posterior == "gaussian" else -math.inf

    @property
    def kind(self) -> str:
        """The encoder and the decoder by name, such as "gru" or "superposition and gru"."""
        return " and ".join(dict.fromkeys([self.encoder.name, self.decoder.name]))

    @property
    def token_limit(self) -> int | None:
        """The largest number of tokens in a sentence; None for models of vectors."""
        return None

    def for_corpus(self, corpus: Any) -> "ModelArgs":
        """Return these settings with what they take from the corpus, such as the shape of its images."""
        return self

    def check_split(self, split: Any, *, cut: int | None) -> None:
        """Raise `UserError` if the model cannot use a split whose sentences are truncated to `cut` tokens."""
