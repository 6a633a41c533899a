"""The critics of adversarial VAE and InfoMax-VAE: small networks with an Adam of their own."""

from typing import Protocol

import torch
from torch import Tensor, nn

from smim.errors import too_low
from smim.objectives.base import Critic


class CriticSettings(Protocol):
    """The settings of an objective with such a critic: units of each hidden layer, and the rate of its Adam."""

    @property
    def critic_hidden_dim(self) -> int: ...

    @property
    def critic_learning_rate(self) -> float: ...


class MLPCritic(nn.Module):
    """A number for each row [B] of its inputs [B, ...], side by side; two hidden layers, in fp32 under autocast too."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(input_dim, hidden_dim), nn.LeakyReLU(0.2)),
            *(nn.Linear(hidden_dim, hidden_dim), nn.LeakyReLU(0.2)),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return self.layers(torch.cat(inputs, -1).float())[:, 0]


def make_mlp_critic(settings: CriticSettings, *, input_dim: int) -> Critic:
    """A critic of inputs with `input_dim` numbers in all, and its optimizer of a constant rate."""
    network = MLPCritic(input_dim, settings.critic_hidden_dim)
    return Critic(network, torch.optim.Adam(network.parameters(), lr=settings.critic_learning_rate))


def critic_problems(settings: CriticSettings) -> list[str]:
    """A message for each setting of the critic that cannot be."""
    problems = too_low(settings, "objective", critic_hidden_dim=1)
    if not settings.critic_learning_rate > 0:
        problems.append(f"objective.critic_learning_rate is {settings.critic_learning_rate}, it must be above 0")
    return problems
