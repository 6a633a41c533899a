"""What the tests of flows and labels share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Integral = Callable[[Tensor], float]


def randomize(module: nn.Module, scale: float, *, seed: int = 0) -> None:
    """Weights that are zero until they are trained become others."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
