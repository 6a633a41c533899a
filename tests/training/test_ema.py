import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from smim.training.ema import WeightAverage


def averaged(values: list[float], *, decay: float) -> WeightAverage:
    """The average after the weight took these values."""
    average = WeightAverage(decay)
    for value in values:
        average.update([("weight", nn.Parameter(torch.full((2, 3), value)))])
    return average


def test_an_average_is_the_sum_with_weights_that_decay_after_the_warm_up():
    values = torch.linspace(-1, 1, 400, dtype=torch.float64)
    # d = 0.5 holds from n = 8 on, where (1 + n) / (10 + n) is 0.5; what came before weighs 0.5^390.
    powers = 0.5 ** torch.arange(399, -1, -1, dtype=torch.float64)
    expected = float((values * powers).sum() * 0.5)
    assert averaged(values.tolist(), decay=0.5).weights["weight"][0, 0].item() == pytest.approx(expected, abs=1e-6)


def test_the_first_random_weights_are_soon_forgotten():
    average = averaged([1.0, *[0.0] * 100], decay=0.999)
    # Without a warm-up it would be 0.999^100 = 0.905.
    assert average.weights["weight"].max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_is_no_view_of_the_weights_and_is_in_fp32(dtype):
    weight = nn.Parameter(torch.ones(3, dtype=dtype))
    average = WeightAverage(0.9)
    average.update([("weight", weight)])
    with torch.no_grad():
        weight += 5
    assert average.weights["weight"].dtype == torch.float32
    assert average.weights["weight"].tolist() == [1, 1, 1]


def test_an_average_goes_on_from_a_file_as_if_it_had_not_stopped():
    values = torch.randn(60, generator=torch.Generator().manual_seed(0)).tolist()
    resumed = WeightAverage(0.9)
    resumed.load(load(save(averaged(values[:30], decay=0.9).state())))
    for value in values[30:]:
        resumed.update([("weight", nn.Parameter(torch.full((2, 3), value)))])
    assert torch.equal(resumed.weights["weight"], averaged(values, decay=0.9).weights["weight"])
