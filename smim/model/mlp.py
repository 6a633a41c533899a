"""The autoencoder of vectors (sections 4.2 and 5.3): fully connected, with a diagonal Gaussian posterior.

Shapes: B vectors, X their dimensions, H hidden, D latent, K pseudo-inputs of a prior.
"""

from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from smim.errors import UserError
from smim.model.args import ModelArgs, PartArgs
from smim.model.distributions import DiagonalGaussian
from smim.model.latent_space import make_log_variance, make_prior
from smim.model.likelihoods import bernoulli
from smim.model.vectors import PSEUDO_INPUT_MARGIN, VectorLatentVariableModel
from smim.schema import bounded
from smim.vectors.batch import VectorBatch

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


@dataclass(frozen=True)
class MLPArgs(PartArgs):
    """The settings of fully connected layers: `num_layers` hidden layers with `hidden_dim` units each."""

    unit: ClassVar[str] = "vector"
    family: ClassVar[str] = "vector"
    name: str = "mlp"
    hidden_dim: int = bounded(20, least=1)
    num_layers: int = bounded(2, least=1)
    activation: str = bounded("tanh", among=list(ACTIVATIONS))

    def layers(self, input_dim: int) -> nn.Sequential:
        """Make the layers, from `input_dim` numbers to `hidden_dim`, with random weights."""
        widths = pairwise([input_dim, *[self.hidden_dim] * self.num_layers])
        pairs = ([nn.Linear(before, after), ACTIVATIONS[self.activation]()] for before, after in widths)
        return nn.Sequential(*chain.from_iterable(pairs))


@dataclass(frozen=True)
class MLPDecoderArgs(MLPArgs):
    """The settings of a fully connected decoder.

    `likelihood`: `gaussian` is a diagonal Gaussian with a learned variance, whose log variance
    `min_decoder_log_variance` clamps from below; `bernoulli` is for x in [0, 1].
    """

    likelihood: str = bounded("gaussian", among=["gaussian", "bernoulli"])
    min_decoder_log_variance: float = -10.0


@dataclass(frozen=True)
class VectorArgs(ModelArgs):
    """The settings that decide the shape of a model of vectors. Defaults are the thesis's (section 5.3.1)."""

    unit: ClassVar[str] = "vector"
    family: ClassVar[str] = "vector"
    encoder: MLPArgs = field(default_factory=MLPArgs)
    decoder: MLPDecoderArgs = field(default_factory=MLPDecoderArgs)
    latent_dim: int = bounded(2, least=1)

    def check_split(self, split: Any, *, cut: int | None) -> None:
        """Raise `UserError` if a Bernoulli p(x|z) gets numbers outside [0, 1]."""
        lowest, highest = split.vectors.min(), split.vectors.max()
        if self.decoder.likelihood == "bernoulli" and (lowest < 0 or highest > 1):
            raise UserError(
                f"split {split.name!r} holds numbers from {lowest:.3g} to {highest:.3g}, but "
                f"model.likelihood=bernoulli needs numbers in [0, 1]; use model.likelihood=gaussian"
            )


class VectorAutoencoder(VectorLatentVariableModel):
    """An autoencoder with fully connected q(z|x) and p(x|z), for vectors of `dimension` numbers."""

    def __init__(self, args: VectorArgs, dimension: int) -> None:
        super().__init__()
        self.args: VectorArgs = args
        self.input_size = self.summary_dim = dimension
        self.reparameterized = args.decoder.likelihood == "gaussian"
        self.encoder = args.encoder.layers(dimension)
        self.to_mean = nn.Linear(args.encoder.hidden_dim, args.latent_dim)
        self.to_log_variance = make_log_variance(args, args.encoder.hidden_dim)
        self.decoder = args.decoder.layers(args.latent_dim)
        self.to_vector = nn.Linear(args.decoder.hidden_dim, dimension)
        self.to_vector_log_variance = nn.Linear(args.decoder.hidden_dim, dimension) if self.reparameterized else None
        self.prior = make_prior(
            args,
            pseudo_input_shape=(dimension,),
            posterior=self._pseudo_posterior,
            as_pseudo_inputs=self._as_pseudo_inputs,
        )

    def posterior(self, batch: VectorBatch) -> DiagonalGaussian:
        """Compute q(z|x) for each vector, with fields fp32 [B, D]."""
        return self.posterior_of_state(self.encoder(batch.vectors))

    def _pseudo_posterior(self, pseudo_inputs_KX: Tensor) -> DiagonalGaussian:
        """Compute q(z|u) of pseudo-inputs: vectors, or the logits of vectors in [0, 1]."""
        vectors_KX = pseudo_inputs_KX if self.reparameterized else torch.sigmoid(pseudo_inputs_KX)
        return self.posterior_of_state(self.encoder(vectors_KX))

    def _as_pseudo_inputs(self, batch: VectorBatch) -> Tensor:
        return batch.vectors if self.reparameterized else torch.logit(batch.vectors, eps=PSEUDO_INPUT_MARGIN)

    def decode(self, z_BD: Tensor) -> DiagonalGaussian | Independent:
        """Compute p(x|z), a Gaussian or a Bernoulli for each number, with parameters fp32 [B, X]."""
        hidden_BH = self.decoder(z_BD)
        center_BX = self.to_vector(hidden_BH).float()
        if self.to_vector_log_variance is None:
            return bernoulli(center_BX)
        log_variance = (
            self.to_vector_log_variance(hidden_BH).float().clamp(min=self.args.decoder.min_decoder_log_variance)
        )
        return DiagonalGaussian(mean=center_BX, log_variance=log_variance)

    def mean(self, z_BD: Tensor) -> Tensor:
        """Compute E[x|z], fp32 [B, X]."""
        return self.decode(z_BD).mean

    def log_likelihood(self, batch: VectorBatch, z_BD: Tensor) -> Tensor:
        return self.decode(z_BD).log_prob(batch.vectors)

    def draw(self, z_BD: Tensor) -> Tensor:
        """Draw x ~ p(x|z) for each z, fp32 [B, X]. A Gaussian is reparameterised."""
        return self.decode(z_BD).sample()

    @property
    def numbers_per_vector(self) -> int:
        return max(self.input_size, self.args.encoder.hidden_dim, self.args.decoder.hidden_dim)
