"""How much of the hardware's arithmetic a training uses: model FLOPs utilisation (PaLM, 2022, appendix B).

It is tokens a second x FLOPs a token (`LatentVariableModel.flops_per_token`) / what the device achieves in a large
matrix product. FLOPs are those that the model needs: neither padding nor what is computed twice to save memory counts.
"""

import time

import torch

from smim.processes import resolve_precision

_SMALLEST = 256
_LARGEST = {"cpu": 1024}
_SECONDS = 0.3


@torch.no_grad()
def matrix_rate(device: torch.device, precision: str) -> float:
    """FLOPs a second of a matrix product, the best of as many as 0.3 seconds hold: of 2048^3 (CPU: 1024^3), or
    smaller ones where that takes too long. `precision` is auto, fp32 or bf16, as `train.precision`.
    """
    dtype = torch.bfloat16 if resolve_precision(precision) == "bf16" else torch.float32
    size, largest, best = _SMALLEST, _LARGEST.get(device.type, 2048), 0.0
    _product_seconds(size, device, dtype)  # the first product also loads libraries
    deadline = time.perf_counter() + _SECONDS
    while True:
        seconds = _product_seconds(size, device, dtype)
        best = max(best, 2 * size**3 / seconds)
        left = deadline - time.perf_counter()
        if size < largest and 8 * seconds < left:
            size *= 2
        elif seconds > left:
            return best


def _product_seconds(size: int, device: torch.device, dtype: torch.dtype) -> float:
    one, other = torch.ones(2, size, size, device=device, dtype=dtype)
    _synchronize(device)
    started = time.perf_counter()
    one @ other
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
