import pytest
import torch
from torch import nn

from smim.model.priors import GaussianMixture
from smim.training.args import TrainArgs
from smim.training.optimizer import make_optimizer


def small_model() -> nn.Module:
    torch.manual_seed(0)
    prior = GaussianMixture(4, num_components=3)
    model = nn.Sequential(nn.Embedding(7, 4), nn.GRU(4, 4), nn.LayerNorm(4), nn.Linear(4, 3), prior, nn.Linear(4, 3))
    model[-1].requires_grad_(False)
    model.undecayed = ("0", "4")
    return model


def after_a_step_without_gradient(args: TrainArgs) -> dict[str, float]:
    """By how much each parameter of a model shrinks where the loss depends on none of them."""
    model = small_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, args).step()
    return {
        name: float((parameter.detach() / before[name]).nan_to_num(1.0).mean())
        for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_matrices_that_are_trained_decay(optimizer):
    args = TrainArgs(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    left = after_a_step_without_gradient(args)
    # theta (1 - rate x decay), for SGD's penalty and AdamW's decoupled decay alike.
    matrices = {"1.weight_ih_l0", "1.weight_hh_l0", "3.weight"}
    assert {name for name, factor in left.items() if factor == pytest.approx(0.95)} == matrices
    assert all(left[name] == 1 for name in left.keys() - matrices)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_without_weight_decay_nothing_shrinks(optimizer):
    left = after_a_step_without_gradient(TrainArgs(optimizer=optimizer, learning_rate=0.1))
    assert set(left.values()) == {1.0}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_each_trained_parameter_is_in_one_group(weight_decay):
    model = small_model()
    optimizer = make_optimizer(model, TrainArgs(optimizer="adamw", weight_decay=weight_decay))
    ours = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    assert len(ours) == len(set(ours)) and set(ours) == trained


def test_adam_takes_its_betas():
    # Two steps of Kingma and Ba 2015, Algorithm 1, by hand, for the gradients 1 and -3.
    beta1, beta2, rate = 0.8, 0.9, 0.1
    weight, first, second = 0.0, 0.0, 0.0
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    args = TrainArgs(learning_rate=rate, adam_betas=[beta1, beta2])
    optimizer = make_optimizer(model, args)
    for step, gradient in enumerate([1.0, -3.0], start=1):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        weight -= rate * (first / (1 - beta1**step)) / ((second / (1 - beta2**step)) ** 0.5 + 1e-8)
        model.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
    assert model.weight.item() == pytest.approx(weight, rel=1e-5)


def test_sgd_takes_its_momentum():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = make_optimizer(model, TrainArgs(optimizer="sgd", learning_rate=1.0, momentum=0.5))
    for gradient in (1.0, 1.0, 1.0):
        model.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
    assert model.weight.item() == pytest.approx(-(1 + 1.5 + 1.75))
