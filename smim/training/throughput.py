"""How much of the hardware's arithmetic a training uses: model FLOPs utilisation (PaLM, 2022, appendix B).

It is tokens a second x FLOPs a token (`LatentVariableModel.flops_per_token`) / what the device achieves in a large
matrix product. FLOPs are those that the model needs: neither padding nor what is computed twice to save memory counts.
"""

import torch
from torch.utils.benchmark import Timer

from smim.processes import resolve_precision

_LARGEST = {"cpu": 1024}
_SMALLEST = 256
_SECONDS = 0.3


@torch.no_grad()
def matrix_rate(device: torch.device, precision: str) -> float:
    """FLOPs a second of a matrix product of 2048^3 (CPU: 1024^3), the best of as many as 0.3 seconds hold.

    `precision` is auto, fp32 or bf16, as `train.precision`. Where the hardware has no products of it and they take long
    (bf16 on many CPUs), a smaller one is measured.
    """
    dtype = torch.bfloat16 if resolve_precision(precision) == "bf16" else torch.float32
    size = _SMALLEST
    while size < _LARGEST.get(device.type, 2048) and _product(size, device, dtype).timeit(1).mean * 16 < _SECONDS:
        size *= 2
    return 2 * size**3 / min(_product(size, device, dtype).blocked_autorange(min_run_time=_SECONDS).times)


def _product(size: int, device: torch.device, dtype: torch.dtype) -> Timer:
    one, other = torch.ones(2, size, size, device=device, dtype=dtype)
    return Timer("one @ other", globals={"one": one, "other": other}, num_threads=torch.get_num_threads())
