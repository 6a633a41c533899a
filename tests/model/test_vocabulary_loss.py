import pytest
import torch
from torch import nn

from smim.model import vocabulary_loss
from smim.model.vocabulary_loss import VocabularyLayer

NUM_TOKENS, HIDDEN, VOCABULARY = 50, 16, 37


@pytest.fixture
def layer() -> VocabularyLayer:
    torch.manual_seed(0)
    return VocabularyLayer(HIDDEN, VOCABULARY)


@pytest.fixture
def hidden() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(NUM_TOKENS, HIDDEN, requires_grad=True)


@pytest.fixture
def target() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randint(VOCABULARY, (NUM_TOKENS,))


def plain(layer, hidden, target):
    return torch.log_softmax(layer.logits(hidden), -1).gather(1, target[:, None])[:, 0]


def gradients(log_prob, weight, layer, hidden):
    return torch.autograd.grad((log_prob * weight).sum(), [hidden, layer.weight, layer.bias])


@pytest.mark.parametrize("tokens_per_chunk", [1, 16, 25, 50, 1000])
@pytest.mark.parametrize("weight", [torch.full((NUM_TOKENS,), 0.05), torch.linspace(-1, 2, NUM_TOKENS)])
def test_value_and_gradient_are_those_of_the_plain_way(layer, hidden, target, weight, tokens_per_chunk, monkeypatch):
    monkeypatch.setattr(vocabulary_loss, "_LOGITS_PER_CHUNK", tokens_per_chunk * 48)
    expected, actual = plain(layer, hidden, target), layer(hidden, target)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    pairs = zip(gradients(actual, weight, layer, hidden), gradients(expected, weight, layer, hidden), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_gradient_is_the_limit_of_differences(layer, hidden, target, monkeypatch):
    monkeypatch.setattr(vocabulary_loss, "_LOGITS_PER_CHUNK", 3 * 48)
    layer.double()

    def log_prob(hidden, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (hidden, target[:7]))

    inputs = [hidden[:7].double().detach().requires_grad_(), *(p.detach().requires_grad_() for p in layer.parameters())]
    assert torch.autograd.gradcheck(log_prob, inputs)


def test_a_second_backward_pass_gives_the_same_gradient(layer, hidden, target):
    log_prob = layer(hidden, target).sum()
    first = torch.autograd.grad(log_prob, layer.weight, retain_graph=True)[0].clone()
    torch.testing.assert_close(torch.autograd.grad(log_prob, layer.weight)[0], first)


def test_bf16_is_close_and_its_log_probabilities_are_fp32(layer, hidden, target):
    expected = plain(layer, hidden, target)
    with torch.autocast("cpu", torch.bfloat16):
        actual = layer(hidden, target)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=0.02, rtol=0.02)
    weight = torch.ones(NUM_TOKENS)
    pairs = zip(gradients(actual, weight, layer, hidden), gradients(expected, weight, layer, hidden), strict=True)
    for one, other in pairs:
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def test_no_gradient_is_computed_where_none_is_asked_for(layer, hidden, target):
    with torch.no_grad():
        assert not layer(hidden, target).requires_grad
    assert not VocabularyLayer(HIDDEN, VOCABULARY).requires_grad_(False)(hidden.detach(), target).requires_grad


def test_no_tokens_have_no_log_probability_and_no_gradient(layer, hidden, target):
    log_prob = layer(hidden[:0], target[:0])
    assert log_prob.shape == (0,)
    assert torch.autograd.grad(log_prob.sum(), layer.weight)[0].abs().sum() == 0


def test_parameters_and_their_first_values_are_those_of_a_linear_layer(layer):
    torch.manual_seed(0)
    linear = nn.Linear(HIDDEN, VOCABULARY)
    assert list(layer.state_dict()) == list(linear.state_dict())
    assert torch.equal(layer.weight, linear.weight) and torch.equal(layer.bias, linear.bias)
