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
from smim.model.distributions import DiagonalGaussian, GaussianMixtures
from smim.model.latent_space import make_log_variance, make_prior
from smim.model.likelihoods import bernoulli
from smim.model.vectors import PSEUDO_INPUT_MARGIN, VectorLatentVariableModel
from smim.schema import bounded
from smim.vectors.batch import VectorBatch

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "swish": nn.SiLU,
}


@dataclass(frozen=True)
class MLPArgs(PartArgs):
    """The settings of fully connected layers: `num_layers` hidden layers with `hidden_dim` units each.

    `num_components`: the number of diagonal Gaussians in the mixture that they predict, q(z|x) or p(x|z) (thesis,
    appendix B.1). The mixture is for few dimensions (`GaussianMixtures`).
    """

    unit: ClassVar[str] = "vector"
    family: ClassVar[str] = "vector"
    name: str = "mlp"
    hidden_dim: int = bounded(20, least=1)
    num_layers: int = bounded(2, least=1)
    activation: str = bounded("tanh", among=list(ACTIVATIONS))
    num_components: int = bounded(1, least=1)

    def problems(self, at: str, model: Any) -> list[str]:
        """Return a message for each wrong setting, and for what a mixture q(z|x) does not support."""
        problems = super().problems(at, model)
        if self is model.encoder and self.num_components > 1:
            problems += [
                f"{at}.num_components={self.num_components} needs model.{name}={needed}; use 1, or that setting"
                for name, needed in (("posterior", "gaussian"), ("prior", "standard_normal or gaussian_mixture"))
                if getattr(model, name) not in needed
            ]
        return problems

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

    def problems(self, at: str, model: Any) -> list[str]:
        """Return a message for each wrong setting, and for a mixture of bits."""
        problems = super().problems(at, model)
        if self.num_components > 1 and self.likelihood != "gaussian":
            problems.append(f"{at}.num_components={self.num_components} needs {at}.likelihood=gaussian; use 1, or that")
        return problems


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
        num_codes, num_vectors = args.encoder.num_components, args.decoder.num_components
        self.to_mean = nn.Linear(args.encoder.hidden_dim, num_codes * args.latent_dim)
        if num_codes == 1:
            self.to_log_variance, self.to_weights = make_log_variance(args, args.encoder.hidden_dim), None
        else:
            self.to_log_variance = nn.Linear(args.encoder.hidden_dim, num_codes * args.latent_dim)
            self.to_weights = nn.Linear(args.encoder.hidden_dim, num_codes)
        self.decoder = args.decoder.layers(args.latent_dim)
        size = num_vectors * dimension
        self.to_vector = nn.Linear(args.decoder.hidden_dim, size)
        self.to_vector_log_variance = nn.Linear(args.decoder.hidden_dim, size) if self.reparameterized else None
        self.to_vector_weights = nn.Linear(args.decoder.hidden_dim, num_vectors) if num_vectors > 1 else None
        self.prior = make_prior(
            args,
            pseudo_input_shape=(dimension,),
            posterior=self._pseudo_posterior,
            as_pseudo_inputs=self._as_pseudo_inputs,
        )

    def posterior(self, batch: VectorBatch) -> DiagonalGaussian | GaussianMixtures:
        """Compute q(z|x) for each vector: a Gaussian with fields fp32 [B, D], or a mixture of them."""
        state_BH = self.encoder(batch.vectors)
        return _components(self.posterior_of_state(state_BH), self.to_weights, state_BH)

    def inference_parameters(self) -> list[nn.Parameter]:
        return [*super().inference_parameters(), *(self.to_weights.parameters() if self.to_weights else [])]

    def _pseudo_posterior(self, pseudo_inputs_KX: Tensor) -> DiagonalGaussian:
        """Compute q(z|u) of pseudo-inputs: vectors, or the logits of vectors in [0, 1]."""
        vectors_KX = pseudo_inputs_KX if self.reparameterized else torch.sigmoid(pseudo_inputs_KX)
        return self.posterior_of_state(self.encoder(vectors_KX))

    def _as_pseudo_inputs(self, batch: VectorBatch) -> Tensor:
        return batch.vectors if self.reparameterized else torch.logit(batch.vectors, eps=PSEUDO_INPUT_MARGIN)

    def decode(self, z_BD: Tensor) -> DiagonalGaussian | GaussianMixtures | Independent:
        """Compute p(x|z), a Gaussian or a Bernoulli for each number, with parameters fp32 [B, X], or a mixture."""
        hidden_BH = self.decoder(z_BD)
        center_BX = self.to_vector(hidden_BH).float()
        if self.to_vector_log_variance is None:
            return bernoulli(center_BX)
        log_variance = (
            self.to_vector_log_variance(hidden_BH).float().clamp(min=self.args.decoder.min_decoder_log_variance)
        )
        gaussians = DiagonalGaussian(mean=center_BX, log_variance=log_variance)
        return _components(gaussians, self.to_vector_weights, hidden_BH)

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


def _components(
    gaussians: DiagonalGaussian, to_weights: nn.Linear | None, hidden_BH: Tensor
) -> DiagonalGaussian | GaussianMixtures:
    """Make mixtures of K Gaussians from one with K times as many dimensions; without weights, return it unchanged."""
    if to_weights is None:
        return gaussians
    log_weights_BK = torch.log_softmax(to_weights(hidden_BH).float(), -1)
    shape = (*log_weights_BK.shape, -1)
    return GaussianMixtures(log_weights_BK, gaussians.mean.view(shape), gaussians.log_variance.view(shape))
