"""The distributions of the numbers of a vector, p(x|z), which are independent given their parameters.

Shapes: B vectors, X their dimensions, P parameters of each number.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Independent

from smim.model.distributions import DiagonalGaussian

# P, the number of parameters of a number.
LIKELIHOODS = {"bernoulli": 1, "gaussian": 2, "discretised_logistic": 2}
_LARGEST_GREY = 255
_ROWS_AT_ONCE = 4096
_LOG_VARIANCE_OF_LOGISTIC = math.log(math.pi**2 / 3)  # of scale 1


@dataclass(frozen=True)
class DiscretisedLogistic:
    """A distribution over the 256 grey values k / 255, from k = 0 to 255 (Salimans et al. 2017, "PixelCNN++").

    It is a logistic variable, rounded to the nearest grey value. The ends take the rest, so probabilities add up to 1.
    `location` and `log_variance` [B, X] are those of the logistic variable.
    """

    location: Tensor
    log_variance: Tensor

    @property
    def scale(self) -> Tensor:
        return torch.exp(0.5 * (self.log_variance - _LOG_VARIANCE_OF_LOGISTIC))

    def log_prob(self, x: Tensor) -> Tensor:
        """Compute the log probability of x [B, X], in nats [B]."""
        width = 1 / (_LARGEST_GREY * self.scale)
        upper = (x - self.location) / self.scale + 0.5 * width
        lower = upper - width
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)), without a difference of near numbers.
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        inside = below + above + torch.log(-torch.expm1(-width))
        return torch.where(x <= 0, below, torch.where(x >= 1, above, inside)).sum(-1)

    @torch.no_grad()
    def sample(self) -> Tensor:
        """Draw x [B, X], without a gradient."""
        drawn = self.location + self.scale * torch.logit(torch.rand_like(self.location), eps=1e-7)
        return (drawn * _LARGEST_GREY).round().clamp(0, _LARGEST_GREY) / _LARGEST_GREY

    @property
    def mean(self) -> Tensor:
        """E[x], exactly: the sum over grey values of the probability that x is above, [B, X]."""
        total = torch.zeros_like(self.location)
        for grey in range(_LARGEST_GREY):
            total += torch.sigmoid((self.location - (grey + 0.5) / _LARGEST_GREY) / self.scale)
        return total / _LARGEST_GREY


def is_grey(vectors: np.ndarray) -> bool:
    """Whether all numbers are grey values k / 255 in [0, 1], as precise as fp32."""
    levels = (block * _LARGEST_GREY for block in np.array_split(vectors, math.ceil(len(vectors) / _ROWS_AT_ONCE)))
    return all(np.allclose(each, np.rint(each), rtol=0, atol=1e-3) for each in levels)


Likelihood = DiagonalGaussian | DiscretisedLogistic | Independent


def bernoulli(logits_BX: Tensor) -> Independent:
    """The Bernoulli distribution of bits, or of numbers in [0, 1] as probabilities of bits."""
    return Independent(Bernoulli(logits=logits_BX, validate_args=False), 1, validate_args=False)


def make_likelihood(name: str, parameters_BPX: Tensor, *, min_log_variance: float) -> Likelihood:
    """Make p(x|z) of the kind `name` from its parameters, which may be any numbers; fp32.

    `min_log_variance` clamps the log variance from below. The location of a logistic is relative to the middle, 0.5.
    """
    first, *others = parameters_BPX.float().unbind(1)
    if name == "bernoulli":
        return bernoulli(first)
    log_variance = others[0].clamp(min=min_log_variance)
    if name == "gaussian":
        return DiagonalGaussian(first, log_variance)
    return DiscretisedLogistic(first + 0.5, log_variance)
