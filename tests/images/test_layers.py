"""Gated and masked layers: what a pixel depends on, and the scale of what comes out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smim.images.layers import MaskedConv2d, gated_conv, gated_linear
from smim.images.pixel import PixelCNN

HEIGHT, WIDTH = 4, 5


def influences(function, image: Tensor) -> Tensor:
    """Whether output number i depends on input number j, [outputs, inputs], by gradients."""
    jacobian = torch.autograd.functional.jacobian(lambda flat: function(flat.view_as(image)).flatten(), image.flatten())
    return jacobian != 0


def order_of(colours: int, channels: int) -> Tensor:
    """The place of each number of an image [channels, H, W] in the order of pixels, and of colours within a pixel."""
    pixel = torch.arange(HEIGHT * WIDTH).view(1, HEIGHT, WIDTH)
    colour = torch.arange(channels).view(-1, 1, 1) * colours // channels
    return (pixel * colours + colour).flatten()


def test_a_gated_layer_is_the_product_of_a_layer_and_a_gate():
    layer, x = gated_linear(6, 4), torch.randn(3, 6)
    h, g = F.linear(x, layer[0].weight, layer[0].bias).split(4, -1)
    torch.testing.assert_close(layer(x), h * torch.sigmoid(g))


@pytest.mark.parametrize(("stride", "size"), [(1, (7, 5)), (2, (4, 3))])
def test_a_gated_convolution_keeps_or_halves_the_image(stride, size):
    layer, image = gated_conv(2, 3, 5, stride=stride), torch.randn(4, 2, 7, 5)
    h, g = F.conv2d(image, layer[0].weight, layer[0].bias, stride=stride, padding=2).split(3, 1)
    assert layer(image).shape == (4, 3, *size)
    torch.testing.assert_close(layer(image), h * torch.sigmoid(g))


def test_gated_layers_keep_the_variance_of_their_input():
    x = torch.randn(2000, 200)
    for _ in range(5):
        x = gated_linear(200, 200)(x)
    assert 0.7 < x.var() < 1.4


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("sees_itself", [False, True])
def test_a_masked_convolution_sees_what_is_before_its_pixel_within_its_reach(sees_itself, colours, gated):
    layer = MaskedConv2d(colours, 2 * colours, 3, colours=colours, sees_itself=sees_itself, gated=gated)
    image = torch.randn(1, colours, HEIGHT, WIDTH)
    seen = influences(layer, image)
    before = order_of(colours, 2 * colours)[:, None] - order_of(colours, colours)[None, :]
    rows, columns = (torch.arange(HEIGHT * WIDTH) // WIDTH, torch.arange(HEIGHT * WIDTH) % WIDTH)
    near = ((rows[:, None] - rows).abs() <= 1) & ((columns[:, None] - columns).abs() <= 1)
    near = near.repeat(2 * colours, colours)
    assert torch.equal(seen, near & (before >= (0 if sees_itself else 1)))


@pytest.mark.parametrize("colours", [1, 3])
def test_no_number_of_a_pixelcnn_sees_itself_or_a_later_one(colours):
    network = PixelCNN(colours=colours, num_features=2, num_parameters=2, channels=6, num_layers=6).double()
    image, features = torch.randn(1, colours, HEIGHT, WIDTH).double(), torch.randn(1, 2, HEIGHT, WIDTH).double()
    seen = influences(lambda x: network(x, features)[:, 0], image)
    order = order_of(colours, colours)
    before = order[:, None] > order[None, :]
    assert not seen[~before].any()
    # All but a blind spot: what is above and further to the right than rows away (van den Oord et al. 2016, figure 1).
    pixel = torch.arange(HEIGHT * WIDTH).repeat(colours)
    rows, columns = pixel // WIDTH, pixel % WIDTH
    away = (columns[None, :] - columns[:, None]) > (rows[:, None] - rows[None, :])
    assert torch.equal(seen, before & ~away)


def test_every_number_depends_on_all_features_near_it():
    network = PixelCNN(colours=1, num_features=2, num_parameters=1, channels=4, num_layers=2).double()
    image = torch.randn(1, 1, HEIGHT, WIDTH).double()
    seen = influences(lambda features: network(image, features), torch.randn(1, 2, HEIGHT, WIDTH).double())
    assert seen[0].view(2, HEIGHT, WIDTH)[:, :2, :2].all()  # also to the right and below


@pytest.mark.parametrize("colours", [1, 3])
def test_images_are_drawn_with_the_parameters_that_the_whole_network_gives(colours):
    """Parts of the image are enough: the parameters are those of a pass over the whole, drawn image."""
    network = PixelCNN(colours=colours, num_features=1, num_parameters=2, channels=6, num_layers=2).double()
    features = torch.randn(5, 1, 6, 7).double()
    image, parameters = network.sample(
        features, lambda given: given[:, 0] + given[:, 1].exp() * torch.randn(5).double()
    )
    assert parameters.shape == (5, 2, colours, 6, 7) and image.std() > 0.1
    torch.testing.assert_close(parameters, network(image, features))
