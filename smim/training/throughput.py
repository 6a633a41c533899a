"""The reference rate for model FLOPs utilisation (PaLM, 2022, appendix B).

The utilisation is tokens per second x FLOPs per token (`LatentVariableModel.flops_per_token`) / the rate of a large
matrix product. Only FLOPs that the model needs count: not padding, and not recomputation to save memory.
"""

import torch
from torch.utils.benchmark import Timer

from smim.processes import resolve_precision

_LARGEST = {"cpu": 1024}
_SMALLEST = 256
_SECONDS = 0.3


@torch.no_grad()
def matrix_rate(device: torch.device, precision: str) -> float:
    """Measure the FLOPs per second of a matrix product of 2048^3 (CPU: 1024^3), the best result within 0.3 seconds.

    `precision` is auto, fp32 or bf16, like `train.precision`. If products are slow because the hardware does not
    support the precision (bf16 on many CPUs), the function measures a smaller product.
    """
    dtype = torch.bfloat16 if resolve_precision(precision) == "bf16" else torch.float32
    size = _SMALLEST
    while size < _LARGEST.get(device.type, 2048) and _product(size, device, dtype).timeit(1).mean * 16 < _SECONDS:
        size *= 2
    return 2 * size**3 / min(_product(size, device, dtype).blocked_autorange(min_run_time=_SECONDS).times)


def _product(size: int, device: torch.device, dtype: torch.dtype) -> Timer:
    one, other = torch.ones(2, size, size, device=device, dtype=dtype)
    return Timer("one @ other", globals={"one": one, "other": other}, num_threads=torch.get_num_threads())
