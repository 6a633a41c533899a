"""The precision of matrix products in functions with a gradient of their own, which autocast cannot see into."""

import torch
from torch import Tensor


def product_dtype(weight: Tensor) -> torch.dtype:
    """What autocast would multiply a weight in; the weight's own dtype outside of autocast."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums and nonlinear functions of products in `dtype` are computed in: fp32, or fp64 for fp64."""
    return torch.promote_types(dtype, torch.float32)


def add_product(sum: Tensor, one: Tensor, other: Tensor) -> None:
    """Adds the product of two matrices, which may be of a shorter dtype, to `sum`."""
    if one.dtype == sum.dtype:
        sum.addmm_(one, other)
    else:
        sum += one @ other
