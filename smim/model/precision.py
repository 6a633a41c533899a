"""The precision of matrix products in functions with a handwritten gradient, where autocast has no effect."""

import torch
from torch import Tensor


def product_dtype(weight: Tensor) -> torch.dtype:
    """The dtype that autocast would use for a product with a weight; outside autocast, the weight's own dtype."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype for sums and nonlinear functions of products in `dtype`: fp32, or fp64 for fp64."""
    return torch.promote_types(dtype, torch.float32)


def add_product(sum: Tensor, one: Tensor, other: Tensor) -> None:
    """Add the product of two matrices to `sum`, in place. The matrices may have a shorter dtype."""
    if one.dtype == sum.dtype:
        sum.addmm_(one, other)
    else:
        sum += one @ other
