"""A PixelCNN: the distribution of an image as a product over its pixels, each given the pixels before it.

Shapes: B images, C colours, H height, W width, F features, P parameters of a number's distribution.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from smim.images.layers import MaskedConv2d

_KERNEL_SIZE = 3


class PixelCNN(nn.Module):
    """`num_layers` masked gated convolutions with `channels` each (van den Oord et al. 2016, with gates).

    The order is row by row; the colours of a pixel come one after the other. All pixels depend on all features. Tomczak
    and Welling (2017) concatenate features and pixels. Here a convolution without a mask reads the features. They
    normalise over batches. Here the layers are residual, so that images in a batch do not depend on each other.
    """

    def __init__(self, *, colours: int, num_features: int, num_parameters: int, channels: int, num_layers: int) -> None:
        super().__init__()
        self.colours, self.num_parameters, self.reach = colours, num_parameters, num_layers * (_KERNEL_SIZE // 2)
        self.condition = nn.Conv2d(num_features, 2 * channels, _KERNEL_SIZE, padding=_KERNEL_SIZE // 2)
        self.first = MaskedConv2d(colours, channels, _KERNEL_SIZE, colours=colours, sees_itself=False, gated=True)
        self.layers = nn.ModuleList(
            MaskedConv2d(channels, channels, _KERNEL_SIZE, colours=colours, sees_itself=True, gated=True)
            for _ in range(num_layers - 1)
        )
        self.last = MaskedConv2d(channels, colours * num_parameters, 1, colours=colours, sees_itself=True)

    def forward(self, image_BCHW: Tensor, features_BFHW: Tensor) -> Tensor:
        """Compute the parameters of each number, given the numbers before it and all features, [B, P, C, H, W]."""
        return self._given(image_BCHW, self.condition(features_BFHW))

    def _given(self, image_BCHW: Tensor, condition: Tensor) -> Tensor:
        hidden = self.first(image_BCHW, condition)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.last(hidden).unflatten(1, (self.colours, self.num_parameters)).transpose(1, 2)

    @torch.no_grad()
    def sample(self, features_BFHW: Tensor, draw: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Draw images number by number. Return them [B, C, H, W], and the parameters of their numbers [B, P, C, H, W].

        `draw` maps parameters [B, P] to numbers [B]. This takes H W C passes over the part of the image on which a
        pixel depends: slow, so objectives that sample from the decoder in each step are better avoided.
        """
        condition = self.condition(features_BFHW)
        num, _, height, width = features_BFHW.shape
        image = condition.new_zeros(num, self.colours, height, width)
        parameters = condition.new_zeros(num, self.num_parameters, self.colours, height, width)
        for row in range(height):
            for column in range(width):
                top, left = max(0, row - self.reach), max(0, column - self.reach)
                part = (..., slice(top, row + 1), slice(left, column + self.reach + 1))
                for colour in range(self.colours):
                    given = self._given(image[part], condition[part])[:, :, colour, -1, column - left]
                    parameters[:, :, colour, row, column] = given
                    image[:, colour, row, column] = draw(given)
        return image, parameters
