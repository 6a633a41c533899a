"""Models of images: convHVAE and PixelHVAE of Tomczak and Welling (2017), which section 4.3 of the thesis uses.

An image is a vector of C H W numbers in [0, 1], colour by colour and row by row. With two levels the code is z = [z2,
z1], with half of the dimensions each, q(z|x) = q(z2|x) q(z1|x, z2) and p(z) = p(z2) p(z1|z2).

Differences from the authors' code: pseudo-inputs are logits, where theirs are clipped to [0, 1]. Weights start so that
gated layers keep the variance, and p(z1|z2) as N(0, I). The PixelCNN has no batch normalisation (see `PixelCNN`), and
its grey values have probabilities that add up to 1.

Shapes: B images, X = C H W, C colours, H height, W width, D latent, F features, P parameters of a number, K
pseudo-inputs.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.images.layers import gated_conv, gated_linear, scaled
from smim.images.pixel import PixelCNN
from smim.model.args import ModelArgs, PartArgs
from smim.model.distributions import DiagonalGaussian, Posterior, TwoLevelGaussian
from smim.model.hierarchy import MOST_LOG_VARIANCE, Conditional, TwoLevelPrior
from smim.model.latent_space import make_log_variance, make_prior
from smim.model.likelihoods import LIKELIHOODS, Likelihood, is_grey, make_likelihood
from smim.model.vectors import PSEUDO_INPUT_MARGIN, VectorLatentVariableModel
from smim.schema import bounded
from smim.vectors.batch import VectorBatch

# The encoder's layers: the stride of each, and the kernel sizes of the layers that read x for z2 and for z1.
_STRIDES = (1, 2, 1, 2, 1)
_KERNEL_SIZES = {"z2": (7, 3, 5, 3, 3), "z1": (3, 3, 3, 3, 3)}
_LAST_CHANNELS = 6


@dataclass(frozen=True)
class ConvEncoderArgs(PartArgs):
    """The settings of five gated convolutions, two of which halve the image.

    `channels`: of the first two layers. The next two have twice as many, and the last has 6.
    """

    unit: ClassVar[str] = "vector"
    family: ClassVar[str] = "image"
    name: str = "conv"
    channels: int = bounded(32, least=1)

    def make(self, model: Any, encoder: Any = None) -> "ConvEncoder":
        return ConvEncoder(model)


@dataclass(frozen=True)
class ImageDecoderArgs(PartArgs):
    """The settings of all decoders of images. `channels` and `num_layers`: of the layers over the whole image.

    `likelihood`: `bernoulli` for bits, or for grey values as probabilities of bits; `discretised_logistic` for grey or
    colour values k / 255; `gaussian` is a density. `min_decoder_log_variance` clamps the log variance of the last two.
    """

    unit: ClassVar[str] = "vector"
    family: ClassVar[str] = "image"
    channels: int = bounded(64, least=1)
    num_layers: int = bounded(4, least=1)
    likelihood: str = bounded("bernoulli", among=list(LIKELIHOODS))
    min_decoder_log_variance: float = -10.0


@dataclass(frozen=True)
class ConvDecoderArgs(ImageDecoderArgs):
    """The settings of a decoder of gated convolutions, whose numbers are independent given z."""

    name: str = "conv"

    def make(self, model: Any, encoder: Any = None) -> "ConvDecoder":
        return ConvDecoder(model)


@dataclass(frozen=True)
class PixelDecoderArgs(ImageDecoderArgs):
    """The settings of a PixelCNN: each number depends on z and on the numbers before it.

    Sampling takes a pass for each number. So train with objectives that do not sample from the decoder, such as A-MIM
    (section 3.5.1).
    """

    name: str = "pixel"
    num_layers: int = bounded(8, least=1)

    def make(self, model: Any, encoder: Any = None) -> "PixelDecoder":
        return PixelDecoder(model)


@dataclass(frozen=True)
class ImageArgs(ModelArgs):
    """The settings that decide the shape of a model of images. Defaults are those of Tomczak and Welling (2017).

    `shape`: [C, H, W], by default the corpus's. `levels`: 1 or 2 levels of latent variables; with 2, each has half of
    `latent_dim`. `hidden_dim`: of the fully connected layers. `width`: a factor of all channels and of `hidden_dim`,
    for machines without a GPU.
    """

    unit: ClassVar[str] = "vector"
    family: ClassVar[str] = "image"
    encoder: ConvEncoderArgs = field(default_factory=ConvEncoderArgs)
    decoder: ImageDecoderArgs = field(default_factory=ConvDecoderArgs)
    latent_dim: int = bounded(40, least=1)
    min_log_variance: float = -6.0
    shape: list[int] | None = None
    levels: int = bounded(1, least=1, most=2)
    hidden_dim: int = bounded(300, least=1)
    width: float = bounded(1.0, above=0, most=8)

    def more_problems(self) -> list[str]:
        problems = []
        if self.shape is not None and (len(self.shape) != 3 or min(self.shape) < 1):
            problems.append(f"model.shape is {self.shape}, but it must be three numbers [C, H, W] above 0")
        if self.levels == 2 and self.latent_dim % 2:
            problems.append(f"model.latent_dim is {self.latent_dim}, but it must be even for model.levels=2")
        if self.levels == 2 and self.posterior != "gaussian":
            problems.append(f"model.posterior={self.posterior} is not supported with model.levels=2; use gaussian")
        return problems

    @property
    def level_dim(self) -> int:
        """The latent dimensions of a level."""
        return self.latent_dim // self.levels

    def scaled(self, size: int) -> int:
        """`size` channels or hidden units, times `width`."""
        return max(1, round(self.width * size))

    def for_corpus(self, corpus: Any) -> "ImageArgs":
        """Return these settings with the shape of the corpus's images.

        Raises `UserError` if it has none, or another one than `shape`.
        """
        if corpus.shape is None:
            raise UserError(
                f"{corpus.directory} holds vectors that are no images, which model={self.kind} does not support; "
                "use model=mlp, or a corpus of images"
            )
        shape = list(corpus.shape)
        if self.shape not in (None, shape):
            raise UserError(
                f"model.shape is {self.shape}, but the images of {corpus.directory} have shape {shape}; leave it out"
            )
        return replace(self, shape=shape)

    def check_split(self, split: Any, *, cut: int | None) -> None:
        """Raise `UserError` for numbers outside [0, 1], and if a discretised logistic gets others than k / 255."""
        lowest, highest = split.vectors.min(), split.vectors.max()
        if lowest < 0 or highest > 1:
            raise UserError(
                f"split {split.name!r} holds numbers from {lowest:.3g} to {highest:.3g}, but images need numbers in "
                "[0, 1]; prepare the corpus again"
            )
        if self.decoder.likelihood == "discretised_logistic" and not is_grey(split.vectors):
            raise UserError(
                f"split {split.name!r} holds numbers that are no grey values k / 255, which model.likelihood="
                "discretised_logistic needs; use model.likelihood=bernoulli or gaussian"
            )


def _conv_layers(model: ImageArgs, kernel_sizes: tuple[int, ...]) -> nn.Sequential:
    """Make the encoder's layers, from images [B, C, H, W] to features [B, F]."""
    assert model.shape is not None
    few, many = model.scaled(model.encoder.channels), model.scaled(2 * model.encoder.channels)
    channels = [model.shape[0], few, few, many, many, _LAST_CHANNELS]
    layers = (
        gated_conv(channels[i], channels[i + 1], kernel_sizes[i], stride=stride) for i, stride in enumerate(_STRIDES)
    )
    return nn.Sequential(*layers, nn.Flatten())


class ConvEncoder(nn.Module):
    """The layers of q(z|x), or of q(z2|x) and q(z1|x, z2): F = `output_dim` features of x, H = `hidden_dim`."""

    def __init__(self, model: ImageArgs) -> None:
        super().__init__()
        assert model.shape is not None
        height, width = (math.ceil(size / math.prod(_STRIDES)) for size in model.shape[1:])
        self.output_dim, self.hidden_dim = _LAST_CHANNELS * height * width, model.scaled(model.hidden_dim)
        self.for_z2 = _conv_layers(model, _KERNEL_SIZES["z2"])
        if model.levels == 2:
            # A gated layer of the features of x and of z2 together. Its part of x is computed once for all z2.
            of_features, of_top = (nn.Linear(self.output_dim, 2 * self.hidden_dim, bias=each) for each in (True, False))
            self.for_z1 = _conv_layers(model, _KERNEL_SIZES["z1"])
            self.for_z1.append(scaled(of_features, fan_in=2 * self.output_dim))
            self.of_z2 = nn.Sequential(
                gated_linear(model.level_dim, self.output_dim), scaled(of_top, fan_in=2 * self.output_dim)
            )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the state [B, F] from which z follows, or z2 if there are two levels."""
        return self.for_z2(images_BCHW)

    def given_z2(self, of_x: Tensor, z2: Tensor) -> Tensor:
        """Compute the state [..., H] from which z1 follows, from `for_z1` of x [..., 2 H] and z2 [..., D / 2]."""
        return nn.functional.glu(of_x + self.of_z2(z2), -1)


class ImageDecoder(nn.Module, ABC):
    """A decoder p(x|z) of images."""

    def __init__(self, model: ImageArgs) -> None:
        super().__init__()
        assert model.shape is not None
        self.args, self.shape, self.levels = model.decoder, tuple(model.shape), model.levels
        self.num_parameters = LIKELIHOODS[self.args.likelihood]

    def likelihood(self, parameters_BPX: Tensor) -> Likelihood:
        return make_likelihood(
            self.args.likelihood, parameters_BPX, min_log_variance=self.args.min_decoder_log_variance
        )

    @abstractmethod
    def log_prob(self, x_BX: Tensor, z_BD: Tensor) -> Tensor:
        """Compute log p(x|z) in nats [B]."""

    @abstractmethod
    def draw(self, z_BD: Tensor) -> Tensor:
        """Draw x ~ p(x|z), fp32 [B, X]."""

    @abstractmethod
    def mean(self, z_BD: Tensor) -> Tensor:
        """Compute E[x|z], fp32 [B, X]; see `PixelDecoder.mean` for a model of pixels."""


class ConvDecoder(ImageDecoder):
    """Gated convolutions over an image that fully connected layers compute from z."""

    def __init__(self, model: ImageArgs) -> None:
        super().__init__(model)
        colours, hidden_dim = self.shape[0], model.scaled(model.hidden_dim)
        channels = model.scaled(self.args.channels)
        self.of_levels = nn.ModuleList(gated_linear(model.level_dim, hidden_dim) for _ in range(self.levels))
        self.joint = nn.Sequential(
            gated_linear(self.levels * hidden_dim, math.prod(self.shape)), nn.Unflatten(1, self.shape)
        )
        self.layers = nn.Sequential(
            *(gated_conv(channels if i else colours, channels, 3) for i in range(self.args.num_layers)),
            nn.Conv2d(channels, self.num_parameters * colours, 1),
        )

    def decode(self, z_BD: Tensor) -> Likelihood:
        """Compute p(x|z), with parameters fp32 [B, X]."""
        levels = [layer(z) for layer, z in zip(self.of_levels, z_BD.chunk(self.levels, -1), strict=True)]
        parameters = self.layers(self.joint(torch.cat(levels, -1)))
        return self.likelihood(parameters.view(len(z_BD), self.num_parameters, -1))

    def log_prob(self, x_BX: Tensor, z_BD: Tensor) -> Tensor:
        return self.decode(z_BD).log_prob(x_BX)

    def draw(self, z_BD: Tensor) -> Tensor:
        """Draw x ~ p(x|z), fp32 [B, X]. A Gaussian is reparameterised."""
        return self.decode(z_BD).sample()

    def mean(self, z_BD: Tensor) -> Tensor:
        return self.decode(z_BD).mean


class PixelDecoder(ImageDecoder):
    """A PixelCNN with features of z: an image for each level, which a fully connected layer computes."""

    def __init__(self, model: ImageArgs) -> None:
        super().__init__(model)
        self.of_levels = nn.ModuleList(
            nn.Sequential(gated_linear(model.level_dim, math.prod(self.shape)), nn.Unflatten(1, self.shape))
            for _ in range(self.levels)
        )
        self.network = PixelCNN(
            colours=self.shape[0],
            num_features=self.levels * self.shape[0],
            num_parameters=self.num_parameters,
            channels=model.scaled(self.args.channels),
            num_layers=self.args.num_layers,
        )

    def _features(self, z_BD: Tensor) -> Tensor:
        levels = zip(self.of_levels, z_BD.chunk(self.levels, -1), strict=True)
        return torch.cat([layer(z) for layer, z in levels], 1)

    def log_prob(self, x_BX: Tensor, z_BD: Tensor) -> Tensor:
        parameters = self.network(x_BX.view(-1, *self.shape), self._features(z_BD))
        return self.likelihood(parameters.flatten(2)).log_prob(x_BX)

    @torch.no_grad()
    def _draw(self, z_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Draw images and the parameters of their numbers, [B, X] and [B, P, X]."""
        image, parameters = self.network.sample(
            self._features(z_BD), lambda given: self.likelihood(given[..., None]).sample()[:, 0].to(given.dtype)
        )
        return image.flatten(1).float(), parameters.flatten(2)

    def draw(self, z_BD: Tensor) -> Tensor:
        """Draw x ~ p(x|z) number by number, without a gradient, fp32 [B, X]."""
        return self._draw(z_BD)[0]

    def mean(self, z_BD: Tensor) -> Tensor:
        """Draw an image, and return the mean of each of its numbers given the numbers before it, fp32 [B, X].

        For bits it is the probability of 1 (footnote 4 of section 4.3). Its mean over draws is E[x|z].
        """
        return self.likelihood(self._draw(z_BD)[1]).mean


class ImageAutoencoder(VectorLatentVariableModel):
    """An autoencoder of images with `dimension` numbers, with one or two levels of latent variables."""

    encoder: ConvEncoder
    decoder: ImageDecoder

    def __init__(self, args: ImageArgs, dimension: int) -> None:
        super().__init__()
        if args.shape is None or math.prod(args.shape) != dimension:
            raise UserError(f"model.shape is {args.shape}, but it must be [C, H, W] with a product of {dimension}")
        self.args: ImageArgs = args
        self.input_size = self.summary_dim = dimension
        self.slow_sampling = args.decoder.name == "pixel"
        self.reparameterized = args.decoder.likelihood == "gaussian" and not self.slow_sampling
        self.encoder = args.encoder.make(args)
        self.decoder = args.decoder.make(args, self.encoder)
        prior = make_prior(
            args,
            latent_dim=args.level_dim,
            pseudo_input_shape=(dimension,),
            posterior=self._pseudo_posterior,
            as_pseudo_inputs=lambda batch: torch.logit(batch.vectors, eps=PSEUDO_INPUT_MARGIN),
        )
        if args.levels == 1:
            self.to_mean: nn.Module = nn.Linear(self.encoder.output_dim, args.latent_dim)
            self.to_log_variance = make_log_variance(args, self.encoder.output_dim)
            self.prior = prior
            return
        state_dims = (self.encoder.output_dim, self.encoder.hidden_dim)
        self.to_mean = nn.ModuleList(nn.Linear(each, args.level_dim) for each in state_dims)
        self.to_log_variance = nn.ModuleList(nn.Linear(each, args.level_dim) for each in state_dims)
        conditional = Conditional(
            args.level_dim, hidden_dim=self.encoder.hidden_dim, min_log_variance=args.min_log_variance
        )
        self.prior = TwoLevelPrior(prior, conditional)

    def posterior(self, batch: VectorBatch) -> Posterior:
        """Compute q(z|x) for each image, with `mean` and `log_variance` fp32 [B, D]."""
        images = self._images(batch.vectors)
        if self.args.levels == 1:
            return self.posterior_of_state(self.encoder(images))
        return TwoLevelGaussian(self._top(images), self.encoder.for_z1(images), self._given_top)

    def _images(self, vectors_BX: Tensor) -> Tensor:
        assert self.args.shape is not None
        return vectors_BX.view(-1, *self.args.shape)

    def _top(self, images_BCHW: Tensor) -> DiagonalGaussian:
        """Compute q(z2|x)."""
        return self._gaussian(self.encoder(images_BCHW), level=0)

    def _given_top(self, features: Tensor, z2: Tensor) -> DiagonalGaussian:
        """Compute q(z1|x, z2)."""
        return self._gaussian(self.encoder.given_z2(features, z2), level=1)

    def _gaussian(self, state: Tensor, *, level: int) -> DiagonalGaussian:
        assert isinstance(self.to_mean, nn.ModuleList) and isinstance(self.to_log_variance, nn.ModuleList)
        log_variance = self.to_log_variance[level](state).float()
        log_variance = log_variance.clamp(self.args.min_log_variance, MOST_LOG_VARIANCE)
        return DiagonalGaussian(self.to_mean[level](state).float(), log_variance)

    def _pseudo_posterior(self, pseudo_inputs_KX: Tensor) -> DiagonalGaussian:
        """Compute q(z|u), or q(z2|u) with two levels, of pseudo-inputs, which are the logits of images."""
        images = self._images(torch.sigmoid(pseudo_inputs_KX))
        return self.posterior_of_state(self.encoder(images)) if self.args.levels == 1 else self._top(images)

    def log_likelihood(self, batch: VectorBatch, z_BD: Tensor) -> Tensor:
        return self.decoder.log_prob(batch.vectors, z_BD)

    def mean(self, z_BD: Tensor) -> Tensor:
        return self.decoder.mean(z_BD)

    def draw(self, z_BD: Tensor) -> Tensor:
        return self.decoder.draw(z_BD)

    @property
    def numbers_per_vector(self) -> int:
        assert self.args.shape is not None
        channels = self.args.scaled(max(self.args.encoder.channels, self.args.decoder.channels))
        return 2 * channels * math.prod(self.args.shape[1:])

    def flops_per_token(self, mean_length: float) -> float:
        """FLOPs per image of a training step: 6 for each weight and each pixel that it is applied to. No prior."""
        flops = 0

        def count(layer: Any, _: Any, output: Tensor) -> None:
            nonlocal flops
            flops += 6 * layer.weight.numel() * output[0, 0].numel()

        layers = [layer for layer in self.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        hooks = [layer.register_forward_hook(count) for layer in layers]
        image = VectorBatch(torch.zeros(1, dtype=torch.int64), torch.zeros(1, self.input_size))
        with torch.no_grad():
            self.log_likelihood(image, self.posterior(image).mean)
        for hook in hooks:
            hook.remove()
        return float(flops)
