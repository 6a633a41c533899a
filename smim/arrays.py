"""Conversion of numbers that a caller gives, in any container, to arrays."""

from typing import Any

import numpy as np
from torch import Tensor

from smim.errors import UserError

_LARGEST = float(np.finfo(np.float32).max)


def as_matrix(
    given: Any,
    width: int,
    what: str,
    *,
    short: int | None = None,
    of: str = "this model's are",
    largest: float = _LARGEST,
) -> np.ndarray:
    """A new fp32 array [N, `width`] from an array, a tensor of any type and device, or lists.

    `short`: another allowed width. `what` names the numbers in messages, and `of` the owner of the right shape. Raises
    `UserError` for another shape, for anything but real numbers, and for NaN, infinity and numbers beyond `largest`.
    """
    shape = f"[N, {width}]" + (f" or [N, {short}]" if short not in (None, width) else "")
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = (given.float() if given.is_floating_point() else given).numpy()
    try:
        array = np.asarray(given)
    except (ValueError, RuntimeError):  # rows of different lengths, or lists of tensors that need a gradient
        raise UserError(f"{what} must be numbers of shape {shape}, in an array or a tensor") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{what} must be numbers of shape {shape}, not {array.dtype}")
    if array.ndim != 2 or array.shape[1] not in (width, short):
        raise UserError(f"{what} have shape {array.shape}, but {of} {shape}")
    with np.errstate(over="ignore"):
        numbers = np.array(array, dtype=np.float32, order="C")
    if not (np.abs(numbers) <= largest).all():
        beyond = "infinite numbers" if largest == _LARGEST else f"numbers beyond {largest:,.0f}"
        raise UserError(f"{what} contain NaN or {beyond}")
    return numbers
