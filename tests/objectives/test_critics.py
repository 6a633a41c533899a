"""Critics beside a model: neither has a gradient of the other's loss."""

import pytest
import torch

from smim.errors import UserError
from smim.objectives import objective_class
from smim.objectives.critics import MLPCritic
from tests.objectives.checks import vector_model, vectors

NAMES = ["adversarial", "infomax_vae"]


@pytest.fixture(params=NAMES)
def trained(request):
    """A model, its objective's critic, and the terms of eight vectors."""
    model, objective = vector_model(), objective_class(request.param)()
    critic = objective.make_critic(model).network
    return model, critic, objective.terms(model, vectors(8), step=0, critic=critic)


def test_the_loss_has_no_gradient_in_the_critic(trained):
    model, critic, terms = trained
    terms["loss"].sum().backward()
    assert all(parameter.grad is None for parameter in critic.parameters())
    assert model.to_mean.weight.grad.abs().sum() > 0


def test_the_critics_loss_has_no_gradient_in_the_model(trained):
    model, critic, terms = trained
    terms["critic_loss"].sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_a_critic_computes_in_fp32_under_autocast():
    critic = MLPCritic(5, 8)
    x, z = torch.randn(4, 3), torch.randn(4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        said = critic(x.bfloat16(), z)
    assert said.dtype == torch.float32 and said.shape == (4,)
    torch.testing.assert_close(said, critic(x.bfloat16().float(), z))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("setting", "value"), [("critic_hidden_dim", 0), ("critic_learning_rate", 0.0)])
def test_a_critic_that_cannot_be_is_refused_by_the_settings_name(name, setting, value):
    with pytest.raises(UserError, match=f"objective.{setting} is {value}"):
        objective_class(name)(**{setting: value})
