"""A small Glow: an invertible map of images at several scales (Kingma and Dhariwal 2018; sections 8.4.1 and G.1).

Shapes: B images, T = C H W numbers of an image, C channels, H rows, W columns. An image is a row of its numbers [B, T],
channel first, as in a corpus. Its value z in the base has T numbers too, of the shape `z_shape`.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.tzk.flows import Steps, bounded

Shape = tuple[int, int, int]

_LEAST_DEVIATION = 1e-4  # of a channel whose values are all equal in the first batch


def z_shape(shape: Shape, num_scales: int) -> Shape:
    """The shape of z: the rows and columns of the last scale, and as many numbers as the image."""
    channels, rows, columns = shape
    factor = 2**num_scales
    return channels * factor * factor, rows // factor, columns // factor


def convolution(inputs: int, outputs: int, *, width: int = 3, stride: int = 1, zero: bool = False) -> nn.Conv2d:
    """Make a convolution that keeps the size for a stride of 1. `zero`: its initial output is zero."""
    layer = nn.Conv2d(inputs, outputs, width, stride=stride, padding=width // 2)
    if zero:
        nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class GlowStep(nn.Module):
    """One step of Glow on images [B, C, H, W]: ActNorm, an invertible 1x1 convolution, an affine coupling.

    ActNorm is an affine map of each channel. With `fitting`, a call of `to_base` first sets it so that its output has
    mean 0 and variance 1. The convolution is a fixed shuffle, then a matrix L U (eq. 10 of Kingma and Dhariwal).
    Initially L U is the identity, so the convolution is the fixed shuffle of section 8.4.1. The coupling is as in
    `smim.tzk.flows.Step`, with a network of three convolutions.
    """

    order: Tensor

    def __init__(self, channels: int, hidden_dim: int) -> None:
        super().__init__()
        self.kept, self.fitting = channels // 2, False
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        # L below the diagonal, whose own diagonal is one; U above it, with the diagonal exp(mixing_log_scale).
        self.mixing = nn.Parameter(torch.zeros(channels, channels))
        self.mixing_log_scale = nn.Parameter(torch.zeros(channels))
        self.coupling = nn.Sequential(
            *(convolution(self.kept, hidden_dim), nn.SiLU()),
            *(convolution(hidden_dim, hidden_dim, width=1), nn.SiLU()),
            convolution(hidden_dim, 2 * (channels - self.kept), zero=True),
        )
        self.register_buffer("order", torch.randperm(channels))

    def to_base(self, t_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        if self.fitting:
            self._fit(t_BCHW)
        normal = (t_BCHW - _channels(self.shift)) * torch.exp(-_channels(self.log_scale))
        lower, upper = self._factors()
        mixed = F.conv2d(normal[:, self.order], (lower @ upper)[:, :, None, None])
        kept, changed = mixed[:, : self.kept], mixed[:, self.kept :]
        log_scale, shift = self._regress(kept)
        z = torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], 1)
        per_pixel = (bounded(self.mixing_log_scale) - self.log_scale).sum()
        return z, per_pixel * t_BCHW[0, 0].numel() - log_scale.flatten(1).sum(-1)

    def from_base(self, z_BCHW: Tensor) -> Tensor:
        kept, changed = z_BCHW[:, : self.kept], z_BCHW[:, self.kept :]
        log_scale, shift = self._regress(kept)
        mixed = torch.cat([kept, changed * torch.exp(log_scale) + shift], 1)
        lower, upper = self._factors()
        solved = torch.linalg.solve_triangular(lower, mixed.flatten(2), upper=False, unitriangular=True)
        normal = torch.linalg.solve_triangular(upper, solved, upper=True).unflatten(2, mixed.shape[2:])
        return normal[:, torch.argsort(self.order)] * torch.exp(_channels(self.log_scale)) + _channels(self.shift)

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.mixing), dtype=self.mixing.dtype, device=self.mixing.device)
        return self.mixing.tril(-1) + identity, self.mixing.triu(1) + bounded(self.mixing_log_scale).exp().diag()

    def _regress(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.coupling(kept).chunk(2, 1)
        return bounded(log_scale), shift

    @torch.no_grad()
    def _fit(self, t_BCHW: Tensor) -> None:
        deviation, mean = torch.std_mean(t_BCHW, (0, 2, 3))
        self.shift.copy_(mean)
        self.log_scale.copy_(deviation.clamp(min=_LEAST_DEVIATION).log())


class Scale(nn.Module):
    """A scale of Glow: squeeze, steps, and a split whose halves go to the next scale, and to a Gaussian.

    The mean and deviation of the Gaussian are regressed from the other half. The last scale does not split.
    """

    def __init__(self, channels: int, *, num_scales: int, num_layers: int, hidden_dim: int) -> None:
        super().__init__()
        channels *= 4
        self.steps = Steps(GlowStep(channels, hidden_dim) for _ in range(num_layers))
        self.next, self.gaussian = None, None
        if num_scales > 1:
            self.next = Scale(channels // 2, num_scales=num_scales - 1, num_layers=num_layers, hidden_dim=hidden_dim)
            self.gaussian = convolution(channels // 2, channels, zero=True)

    def to_base(self, t_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z in the shape of the last scale, and the log determinant in nats [B]."""
        h, log_det_B = self.steps.to_base(F.pixel_unshuffle(t_BCHW, 2))
        if self.next is None or self.gaussian is None:
            return h, log_det_B
        kept, out = h.chunk(2, 1)
        shift, log_scale = self._regress(kept)
        out = (out - shift) * torch.exp(-log_scale)
        rest, log_det_of_rest_B = self.next.to_base(kept)
        out = F.pixel_unshuffle(out, out.shape[-1] // rest.shape[-1])
        return torch.cat([rest, out], 1), log_det_B + log_det_of_rest_B - log_scale.flatten(1).sum(-1)

    def from_base(self, z_BCHW: Tensor) -> Tensor:
        h = z_BCHW
        if self.next is not None:
            rest, out = z_BCHW.chunk(2, 1)
            kept = self.next.from_base(rest)
            shift, log_scale = self._regress(kept)
            out = F.pixel_shuffle(out, kept.shape[-1] // out.shape[-1])
            h = torch.cat([kept, out * torch.exp(log_scale) + shift], 1)
        return F.pixel_shuffle(self.steps.from_base(h), 2)

    def _regress(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        assert self.gaussian is not None
        shift, log_scale = self.gaussian(kept).chunk(2, 1)
        return shift, bounded(log_scale)


class Glow(nn.Module):
    """The map f_t of images, with the interface of `smim.tzk.flows.Flow`. `num_layers`: coupling layers per scale."""

    def __init__(self, shape: Shape, *, num_scales: int, num_layers: int, hidden_dim: int) -> None:
        super().__init__()
        self.shape, self.z_shape = shape, z_shape(shape, num_scales)
        self.scale = Scale(shape[0], num_scales=num_scales, num_layers=num_layers, hidden_dim=hidden_dim)

    def to_base(self, t_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z = f^-1(t) [B, T], and log |det dz/dt| in nats [B]."""
        z, log_det_B = self.scale.to_base(t_BT.unflatten(1, self.shape))
        return z.flatten(1), log_det_B

    def from_base(self, z_BT: Tensor) -> Tensor:
        """Compute t = f(z) [B, T]."""
        return self.scale.from_base(z_BT.unflatten(1, self.z_shape)).flatten(1)

    @torch.no_grad()
    def initialize(self, t_BT: Tensor) -> None:
        """Set all ActNorms by a first batch (section 3.1 of Kingma and Dhariwal)."""
        steps = [module for module in self.modules() if isinstance(module, GlowStep)]
        for step in steps:
            step.fitting = True
        self.to_base(t_BT)
        for step in steps:
            step.fitting = False


class ImageFlow(nn.Module):
    """Steps of Glow at one scale, for the z-flow of a label (section 8.4.4). Initially it is a shuffle."""

    def __init__(self, shape: Shape, *, num_layers: int, hidden_dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.steps = Steps(GlowStep(shape[0], hidden_dim) for _ in range(num_layers))

    def to_base(self, t_BT: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det_B = self.steps.to_base(t_BT.unflatten(1, self.shape))
        return z.flatten(1), log_det_B

    def from_base(self, z_BT: Tensor) -> Tensor:
        return self.steps.from_base(z_BT.unflatten(1, self.shape)).flatten(1)


class OfLast(nn.Module):
    """A network of rows [B, X] that takes any number of axes before the last."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def image_regressor(shape: Shape, hidden_dim: int, output_dim: int) -> nn.Module:
    """Make a network of images [B, T] with three convolutions that halve the size (G.1). Its initial output is zero."""
    channels, rows, columns = shape
    size = hidden_dim * math.ceil(rows / 8) * math.ceil(columns / 8)
    last = nn.Linear(size, output_dim)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    widths = [channels, hidden_dim, hidden_dim, hidden_dim]
    layers = [(convolution(*pair, stride=2), nn.SiLU()) for pair in pairwise(widths)]
    return OfLast(nn.Unflatten(-1, shape), *(each for pair in layers for each in pair), nn.Flatten(), last)


def image_decoder(code_dim: int, hidden_dim: int, z_shape: Shape) -> nn.Module:
    """Make a network from c [..., C] to the mean and log scale of z [..., 2 T] (G.1). Its initial output is zero."""
    channels, rows, columns = z_shape
    return OfLast(
        *(nn.Linear(code_dim, hidden_dim * rows * columns), nn.Unflatten(-1, (hidden_dim, rows, columns)), nn.SiLU()),
        *(convolution(hidden_dim, hidden_dim), nn.SiLU()),
        *(convolution(hidden_dim, 2 * channels, zero=True), nn.Flatten()),
    )


def _channels(values_C: Tensor) -> Tensor:
    return values_C[:, None, None]
