"""Invertible maps with known log determinants: affine couplings after fixed shuffles (section 8.4.1).

Shapes: B codes, T their dimensions.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

# A coupling scales by at most exp(2), so that several in sequence are invertible in fp32.
_MAX_LOG_SCALE = 2.0


def regressor(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Make a network with two hidden layers and swish (section 8.4.1). Its initial output is zero."""
    last = nn.Linear(hidden_dim, output_dim)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    hidden = [nn.Linear(input_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim), nn.SiLU()]
    return nn.Sequential(*hidden, last)


def bounded(log_scale: Tensor) -> Tensor:
    """Limit values to (-2, 2), nearly unchanged around zero."""
    return _MAX_LOG_SCALE * torch.tanh(log_scale / _MAX_LOG_SCALE)


class Step(nn.Module):
    """One step of a flow: an affine map of each dimension, a fixed shuffle, an affine coupling.

    The coupling keeps the first half of the shuffled dimensions. From them a network predicts the scale and shift of
    the others (Dinh et al. 2016). The shuffle is drawn with torch's random numbers, and saved.
    """

    order: Tensor

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.kept = dim // 2
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.shift = nn.Parameter(torch.zeros(dim))
        self.coupling = regressor(self.kept, hidden_dim, 2 * (dim - self.kept))
        self.register_buffer("order", torch.randperm(dim))

    def to_base(self, t_BT: Tensor) -> tuple[Tensor, Tensor]:
        log_scale_T = bounded(self.log_scale)
        shuffled_BT = ((t_BT - self.shift) * torch.exp(-log_scale_T))[..., self.order]
        kept, changed = shuffled_BT[..., : self.kept], shuffled_BT[..., self.kept :]
        log_scale, shift = self._regress(kept)
        z_BT = torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], -1)
        return z_BT, -log_scale.sum(-1) - log_scale_T.sum()

    def from_base(self, z_BT: Tensor) -> Tensor:
        kept, changed = z_BT[..., : self.kept], z_BT[..., self.kept :]
        log_scale, shift = self._regress(kept)
        shuffled_BT = torch.cat([kept, changed * torch.exp(log_scale) + shift], -1)
        return shuffled_BT[..., torch.argsort(self.order)] * torch.exp(bounded(self.log_scale)) + self.shift

    def _regress(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.coupling(kept).chunk(2, -1)
        return bounded(log_scale), shift


class Steps(nn.Module):
    """Invertible maps one after another, each with `to_base` and `from_base`. Without any, they are the identity."""

    def __init__(self, steps: Iterable[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def to_base(self, t_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z = f^-1(t) [B, T], and log |det dz/dt| in nats [B]."""
        log_det_B = t_BT.new_zeros(())  # without steps, for all
        for step in self._ordered():
            t_BT, step_log_det_B = step.to_base(t_BT)
            log_det_B = log_det_B + step_log_det_B
        return t_BT, log_det_B

    def from_base(self, z_BT: Tensor) -> Tensor:
        """Compute t = f(z) [B, T]."""
        for step in reversed(self._ordered()):
            z_BT = step.from_base(z_BT)
        return z_BT

    def _ordered(self) -> list[Step]:
        return cast(list[Step], list(self.steps))


class Flow(Steps):
    """An invertible map f from a base variable z to t, with the same dimensions. Initially it is a shuffle."""

    def __init__(self, dim: int, *, num_layers: int, hidden_dim: int) -> None:
        super().__init__(Step(dim, hidden_dim) for _ in range(num_layers))
