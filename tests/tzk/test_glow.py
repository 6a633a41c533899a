"""The Glow of images can be undone, and its log determinant is that of its Jacobian."""

import pytest
import torch
from torch import Tensor, nn

from smim.tzk.glow import Glow, GlowStep, ImageFlow, Scale, image_decoder, image_regressor, z_shape
from tests.tzk.densities import randomize

SHAPES = [(1, 8, 8), (3, 4, 8)]


@pytest.fixture(params=SHAPES, ids=str)
def glow(request: pytest.FixtureRequest) -> Glow:
    glow = Glow(request.param, num_scales=2, num_layers=3, hidden_dim=8)
    randomize(glow, 0.1)
    return glow


def images(glow: Glow, num: int) -> Tensor:
    return torch.randn(num, torch.Size(glow.shape).numel(), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_glow_is_undone_by_its_inverse(glow: Glow) -> None:
    t = images(glow, 20)
    z, _ = glow.to_base(t)
    assert z.shape == t.shape and (z.sort(-1).values - t.sort(-1).values).abs().max() > 0.1
    torch.testing.assert_close(glow.from_base(z), t, rtol=0, atol=1e-5)


@pytest.mark.parametrize("z_flow", [False, True], ids=["glow", "z-flow"])
def test_log_determinant_is_that_of_autograds_jacobian(glow: Glow, z_flow: bool) -> None:
    flow: nn.Module = ImageFlow(glow.z_shape, num_layers=3, hidden_dim=8) if z_flow else glow
    randomize(flow, 0.1, seed=1)
    flow.double()
    t = images(glow, 2).double()
    with torch.no_grad():
        _, log_det = flow.to_base(t)
    for point, value in zip(t, log_det, strict=True):
        jacobian = torch.func.jacrev(lambda x: flow.to_base(x[None])[0][0])(point)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, value)


@torch.no_grad()
def test_actnorms_normalise_the_first_batch_and_then_stay_as_they_are(glow: Glow) -> None:
    batch = 0.2 * images(glow, 50) + 3
    glow.initialize(batch)
    steps = [module for module in glow.modules() if isinstance(module, GlowStep)]
    assert len(steps) == 6
    seen: list[Tensor] = []
    hooks = [step.coupling.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for step in steps]
    for step in steps:  # without the mixing, a network sees the ActNorm's output
        step.mixing.zero_()
        step.mixing_log_scale.zero_()
    glow.initialize(batch)
    for hook in hooks:
        hook.remove()
    for kept in seen:
        torch.testing.assert_close(kept.mean((0, 2, 3)), torch.zeros(kept.shape[1]), rtol=0, atol=1e-4)
        torch.testing.assert_close(kept.std((0, 2, 3)), torch.ones(kept.shape[1]), rtol=0, atol=1e-4)
    before = {name: value.clone() for name, value in glow.state_dict().items()}
    glow.to_base(images(glow, 50))
    assert all(torch.equal(before[name], value) for name, value in glow.state_dict().items())


@torch.no_grad()
def test_half_of_each_scale_is_standardised_by_a_gaussian_of_the_other_half() -> None:
    scale = Scale(1, num_scales=2, num_layers=0, hidden_dim=4)
    assert scale.gaussian is not None and scale.gaussian.bias is not None
    scale.gaussian.bias.copy_(torch.tensor([0.5, -0.5, 0.3, 0.1]))  # two shifts and two log scales
    t = torch.randn(2, 1, 4, 4)
    z, log_det = scale.to_base(t)
    kept, out = torch.nn.functional.pixel_unshuffle(t, 2).chunk(2, 1)
    bounded = 2 * torch.tanh(torch.tensor([0.3, 0.1]) / 2)
    standardised = (out - torch.tensor([0.5, -0.5])[:, None, None]) * torch.exp(-bounded)[:, None, None]
    expected = torch.cat([kept, standardised], 1)
    torch.testing.assert_close(z.flatten(1).sort().values, expected.flatten(1).sort().values)
    torch.testing.assert_close(log_det, (-4 * bounded.sum()).expand(2))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_networks_of_images_begin_at_zero_and_take_any_leading_axes(shape: tuple[int, int, int]) -> None:
    size, z = torch.Size(shape).numel(), z_shape(shape, 2)
    assert torch.Size(z).numel() == size
    encoder, decoder = image_regressor(shape, 8, 6), image_decoder(4, 8, z)
    assert not encoder(torch.randn(5, size)).any() and not decoder(torch.randn(2, 5, 4)).any()
    randomize(encoder, 0.1)
    randomize(decoder, 0.1)
    c = torch.randn(2, 5, 4)
    found = decoder(c)
    assert found.shape == (2, 5, 2 * size) and encoder(torch.randn(5, size)).shape == (5, 6)
    torch.testing.assert_close(found[1], decoder(c[1]))
