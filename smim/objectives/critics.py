"""The critics of adversarial VAE and InfoMax-VAE: small networks, each with its own Adam optimizer."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.base import Objective
from smim.objectives.draw import Critic
from smim.schema import bounded


class MLPCritic(nn.Module):
    """An MLP with two hidden layers: concatenates its inputs [B, ...] to a number per row [B]; fp32 under autocast."""

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


@dataclass(frozen=True)
class WithCritic(Objective):
    """An objective with an `MLPCritic`. The settings: the width of its hidden layers and its constant learning rate."""

    has_critic: ClassVar[bool] = True
    critic_hidden_dim: int = bounded(256, least=1)
    critic_learning_rate: float = bounded(1e-3, above=0)

    @abstractmethod
    def critic_input_dim(self, model: LatentVariableModel) -> int:
        """The number of input values of the critic per observation."""

    def make_critic(self, model: LatentVariableModel) -> Critic | None:
        network = MLPCritic(self.critic_input_dim(model), self.critic_hidden_dim)
        return Critic(network, torch.optim.Adam(network.parameters(), lr=self.critic_learning_rate))
