"""Per-sentence values from all processes, each sentence exactly once, in the order of the split."""

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor


def gather_values(accelerator: Accelerator, rows: Tensor, values: Tensor, *, total: int) -> np.ndarray:
    """`values` [n, ...] of this process's `rows` [n], from all processes, as fp64 [total, ...] by row.

    Raises `RuntimeError` where a sentence is missing or came twice.
    """
    gathered = gather_object([(rows.cpu().numpy(), values.double().cpu().numpy())])
    all_rows = np.concatenate([part for part, _ in gathered])
    if not np.array_equal(np.sort(all_rows), np.arange(total)):
        raise RuntimeError(f"{len(all_rows)} values came from all processes for {total} sentences")
    ordered = np.empty((total, *values.shape[1:]))
    ordered[all_rows] = np.concatenate([part for _, part in gathered])
    return ordered


def concatenate(parts: list[Tensor], *, like: tuple[int, ...]) -> Tensor:
    """Joins a process's batches along sentences; a process without any gets none of shape [0, *like]."""
    return torch.cat(parts) if parts else torch.empty(0, *like)
