"""The prior p(t) of a sentence model's codes, learned without labels: the shared t-flow (section 8.3).

Shapes: B or N codes, T their dimensions.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from smim.model.distributions import standard_normal_log_prob
from smim.tzk.args import PriorArgs
from smim.tzk.flows import Flow
from smim.tzk.standardization import Standardization

_NUMBERS_AT_ONCE = 2**19


def at_once(most: int, dim: int) -> int:
    """How many of `most` observations of `dim` numbers to compute at a time, so that they need little memory."""
    return min(most, max(1, _NUMBERS_AT_ONCE // dim))


class Shapes(NamedTuple):
    """The shapes of images [C, H, W]: of t, and of its value z in the base."""

    t: tuple[int, int, int]
    z: tuple[int, int, int]


@dataclass(frozen=True)
class Point:
    """B codes as input of the knowledge types.

    `t`: the standardised code [B, T]. `z` = f_t^-1(t) [B, T]. `log_det`: log |det dz/dcode| in nats [B].
    """

    t: Tensor
    z: Tensor
    log_det: Tensor

    @property
    def log_prior(self) -> Tensor:
        """log p(code) in nats [B]."""
        return standard_normal_log_prob(self.z) + self.log_det


class CodePrior(nn.Module):
    """A density of codes. They are standardised, then mapped by a flow to z ~ N(0, I).

    The standardisation is fixed before the flow is trained. All densities are those of the original codes. `shapes`:
    those of images, None for other codes.
    """

    # Also those of images, with the same interface: `smim.tzk.images.ImagePrior`.
    args: Any
    standardization: Any
    flow: Any
    shapes: Shapes | None = None

    def __init__(self, dim: int, args: PriorArgs) -> None:
        super().__init__()
        self.dim, self.args = dim, args
        self.standardization = Standardization(dim)
        self.flow = Flow(dim, num_layers=args.num_coupling_layers, hidden_dim=args.hidden_dim)

    def point(self, codes_BT: Tensor) -> Point:
        """Compute the standardised codes and their values in the base of the flow."""
        t_BT = self.standardization.standardize(codes_BT)
        z_BT, log_det_B = self.flow.to_base(t_BT)
        return Point(t_BT, z_BT, log_det_B + self.standardization.log_det)

    def log_prob(self, codes_BT: Tensor) -> Tensor:
        """log p(code) in nats [B]."""
        return self.point(codes_BT).log_prior

    @torch.no_grad()
    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        """Draw `num` codes, fp32 [num, T]."""
        z_BT = torch.randn(num, self.dim, dtype=torch.float32, generator=generator)
        return self.standardization.restore(self.flow.from_base(z_BT))


def nll_per_dimension(log_prob_N: Tensor, dim: int) -> tuple[float, float]:
    """Compute the mean negative log density of N codes, in nats per dimension, and its standard error."""
    nll = -log_prob_N.double() / dim
    return float(nll.mean()), float(nll.std() / math.sqrt(len(nll)))
