"""Gated and masked layers (Tomczak and Welling 2017, "VAE with a VampPrior"; van den Oord et al. 2016, "PixelCNN").

Shapes: B images, C colours, H height, W width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The variance of a weight times its fan-in, with which a gated layer keeps the variance of its input.
_GAIN = 3.0


def gated_linear(input_dim: int, output_dim: int) -> nn.Sequential:
    """Make a layer h(x) * sigmoid(g(x)) with linear h and g, from [..., `input_dim`] to [..., `output_dim`]."""
    return nn.Sequential(scaled(nn.Linear(input_dim, 2 * output_dim)), nn.GLU(-1))


def gated_conv(input_channels: int, output_channels: int, kernel_size: int, *, stride: int = 1) -> nn.Sequential:
    """Make a layer h(x) * sigmoid(g(x)) with convolutions h and g, from [B, `input_channels`, H, W].

    The result is [B, `output_channels`, H / `stride`, W / `stride`], rounded up. `kernel_size` must be odd.
    """
    convolution = nn.Conv2d(input_channels, 2 * output_channels, kernel_size, stride=stride, padding=kernel_size // 2)
    return nn.Sequential(scaled(convolution), nn.GLU(1))


def scaled(layer: nn.Linear | nn.Conv2d, *, fan_in: int | None = None) -> nn.Module:
    """Initialise the layer before a gate. `fan_in`: the number of inputs of its gate, if it reads only a part of them.

    Returns the layer.
    """
    nn.init.normal_(layer.weight, std=math.sqrt(_GAIN / (fan_in or layer.weight[0].numel())))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class MaskedConv2d(nn.Conv2d):
    """A convolution whose output at a pixel depends on the pixels before it: those above, and left in the same row.

    The colours of a pixel are in order too. The channels are divided evenly among them: channel i of N belongs to
    colour i * `colours` // N. In the pixel itself, a channel depends on the channels of earlier colours, and with
    `sees_itself` (type B) also on those of its own. The first layer must not see itself (type A).

    `gated`: the layer is h(x) * sigmoid(g(x)) with two such convolutions.
    """

    mask: Tensor

    def __init__(
        self,
        input_channels: int,
        output_channels: int,
        kernel_size: int,
        *,
        colours: int,
        sees_itself: bool,
        gated: bool = False,
    ) -> None:
        # Rows below the pixel have no weights, so they cost no time.
        super().__init__(input_channels, output_channels * (1 + gated), kernel_size=(kernel_size // 2 + 1, kernel_size))
        self.reach, self.gated = kernel_size // 2, gated
        mask = torch.ones_like(self.weight, requires_grad=False)
        mask[:, :, -1, self.reach + 1 :] = 0
        of_input = torch.arange(input_channels) * colours // input_channels
        of_output = (torch.arange(output_channels) * colours // output_channels).repeat(1 + gated)
        seen = of_output[:, None] >= of_input if sees_itself else of_output[:, None] > of_input
        mask[:, :, -1, self.reach] = seen.to(mask.dtype)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, image_BCHW: Tensor, added: Tensor | None = None) -> Tensor:
        """Compute the output [B, `output_channels`, H, W]. `added` to the convolution's output, before the gate."""
        padded = F.pad(image_BCHW, (self.reach, self.reach, self.reach, 0))
        hidden = F.conv2d(padded, self.weight * self.mask, self.bias)
        if added is not None:
            hidden = hidden + added
        return F.glu(hidden, 1) if self.gated else hidden
