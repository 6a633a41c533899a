"""The distributions of the numbers of a vector."""

import math

import numpy as np
import pytest
import torch

from smim.model.likelihoods import LIKELIHOODS, DiscretisedLogistic, is_grey, make_likelihood
from tests.objectives.checks import check_mean, gaussian

GREY = torch.arange(256) / 255


def logistic(location: float, log_variance: float, num: int = 256) -> DiscretisedLogistic:
    return DiscretisedLogistic(torch.full((num, 1), location), torch.full((num, 1), log_variance))


@pytest.mark.parametrize("location", [-0.5, 0.0, 0.3, 1.7])
@pytest.mark.parametrize("log_variance", [-10.0, -3.0, 1.0])
def test_the_probabilities_of_all_grey_values_add_up_to_one(location, log_variance):
    probability = logistic(location, log_variance).log_prob(GREY[:, None]).double().exp()
    assert float(probability.sum()) == pytest.approx(1, abs=1e-4)
    mean = logistic(location, log_variance, num=1).mean
    assert float(mean) == pytest.approx(float(probability @ GREY.double()), abs=1e-4)


def test_a_grey_value_has_the_probability_of_its_bin():
    log_variance, location, x = -4.0, 0.4, 100 / 255
    scale = math.exp(0.5 * log_variance) * math.sqrt(3) / math.pi
    upper, lower = (1 / (1 + math.exp(-(x + sign / 510 - location) / scale)) for sign in (1, -1))
    found = logistic(location, log_variance, num=1).log_prob(torch.tensor([[x]]))
    assert float(found) == pytest.approx(math.log(upper - lower), rel=1e-4)


def test_far_from_the_location_a_grey_value_is_unlikely_but_possible():
    found = logistic(0.0, -10.0).log_prob(GREY[:, None])
    assert found.isfinite().all() and found[-1] < -250 and (found.diff() < 0).all()


def test_drawn_grey_values_have_the_probabilities():
    drawn = logistic(0.9, -3.0, num=100_000).sample()
    assert is_grey(drawn.numpy()) and drawn.min() >= 0 and drawn.max() == 1
    probability = logistic(0.9, -3.0).log_prob(GREY[:, None]).exp()
    bins = torch.nn.functional.one_hot((drawn[:, 0] * 255).round().long() // 16, 16).float()
    check_mean(bins, probability.view(16, 16).sum(1))
    check_mean((drawn == 1).float(), probability[-1])
    check_mean(drawn, logistic(0.9, -3.0, num=1).mean[0])


def test_the_log_variance_is_that_of_the_logistic_variable():
    drawn = logistic(0.5, -5.0, num=100_000).sample().double()
    assert float(drawn.var()) == pytest.approx(math.exp(-5), rel=0.03)


def test_parameters_make_each_kind():
    parameters, x = torch.randn(4, 2, 3), torch.randint(2, (4, 3)).float()
    bits = make_likelihood("bernoulli", parameters[:, :1], min_log_variance=-1.0)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(parameters[:, 0], x, reduction="none")
    torch.testing.assert_close(bits.log_prob(x), -cross_entropy.sum(-1))
    normal = make_likelihood("gaussian", parameters, min_log_variance=-0.5)
    assert torch.equal(normal.mean, parameters[:, 0])
    assert torch.equal(normal.log_variance, parameters[:, 1].clamp(min=-0.5))
    torch.testing.assert_close(normal.log_prob(x), gaussian(normal).log_prob(x))
    grey = make_likelihood("discretised_logistic", parameters, min_log_variance=-0.5)
    assert torch.equal(grey.location, parameters[:, 0] + 0.5) and grey.log_variance.min() >= -0.5


def test_each_kind_takes_as_many_parameters_as_it_says():
    for name, num in LIKELIHOODS.items():
        likelihood = make_likelihood(name, torch.randn(2, num, 5), min_log_variance=-3.0)
        assert likelihood.log_prob(torch.rand(2, 5)).shape == (2,)
        assert likelihood.sample().shape == likelihood.mean.shape == (2, 5)


@pytest.mark.parametrize(("values", "grey"), [([0.0, 1.0, 7 / 255], True), ([0.5], False), ([0.0, 1 / 16], False)])
def test_grey_values_are_recognised(values, grey):
    assert is_grey(np.array(values, np.float32)) is grey
