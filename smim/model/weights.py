"""Loading of weights into the module that a configuration describes, after a check that the two fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from smim import storage
from smim.errors import UserError

M = TypeVar("M", bound=nn.Module)

# The largest number of layers to build, without weights, for a comparison with a file of fewer tensors.
_FEW_LAYERS = 1000


def load_weights(path: Path, make: Callable[[], M], *, sha256: str, layers: int, widths: tuple[int, ...]) -> M:
    """Call `make` and load the weights of a safetensors file into its module, on the CPU in evaluation mode.

    Before that, `layers` and `widths` of the module are compared with the file. So no memory is allocated for weights
    that the file does not have. `sha256` is the expected hash of the file.

    Raises `UserError` if the file is missing, differs, does not fit the module, or has NaN or infinite numbers.
    """
    shapes = tensor_shapes(path)
    elements = sum(torch.Size(shape).numel() for shape in shapes.values())
    # The code of a superposition is four times as wide as its widest tensor.
    fits = max(widths) <= 8 * elements and layers <= max(_FEW_LAYERS, len(shapes))
    try:
        with torch.device("meta"), _Undrawn():
            expected = {name: list(tensor.shape) for name, tensor in make().state_dict().items()} if fits else {}
    except RuntimeError:  # the product of the sizes overflows
        expected = {}
    if expected != shapes:
        raise UserError(f"{path} does not fit the configuration beside it: the shapes of the weights differ")
    if storage.sha256(path) != sha256:
        raise UserError(f"{path} is not the file that the configuration beside it names; it was replaced or damaged")
    weights = load_tensors(path)
    module = make().float()  # whatever torch's default type is
    # Indices among the weights, such as a permutation, must be integers, like those that they replace.
    if any(weights[name].is_floating_point() != kept.is_floating_point() for name, kept in module.state_dict().items()):
        raise UserError(f"{path} has weights of another type than the model")
    module.load_state_dict(weights)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values()):
        raise UserError(f"{path} holds NaN or infinite weights; the training diverged")
    return module.eval()


class _Undrawn(TorchFunctionMode):
    """A mode that skips normal draws. For meta tensors, torch would import its compiler, which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return kwargs.get("tensor", *args[:1]) if func is nn.init.normal_ else func(*args, **kwargs)


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Read the shape of each tensor of a safetensors file. Raises `UserError` if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118, it is no dictionary
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} cannot be loaded, it is missing or damaged: {error}") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a safetensors file, on the CPU. Raises `UserError` if it is missing or damaged."""
    tensor_shapes(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be loaded, it is missing or damaged: {error}") from None
