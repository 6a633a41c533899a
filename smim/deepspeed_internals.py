"""What training uses of DeepSpeed that DeepSpeed does not promise to keep. It holds for `VERSIONS`.

DeepSpeed makes the optimizer's state at the first step, and has no public call that makes it for a run that goes on.
"""

import os
from typing import Any

import torch
from torch import Tensor

VERSIONS = ">=0.16,<0.20"  # pyproject.toml's too


def use_deepspeed_on_cpu() -> None:
    """Chooses the CPU, where there is one too; to be called before DeepSpeed is used."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed.ops

    # Built with a compiler at first use (half a minute), to save a copy between processes of one machine.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def base_optimizer(engine: Any) -> torch.optim.Optimizer:
    """The optimizer that steps this process's part of the weights."""
    return engine.optimizer.optimizer


def make_optimizer_state(engine: Any, values: dict[str, Tensor]) -> None:
    """Makes the state that the first step would: `values` by key, of tensors that are more than a number zeros."""
    zero, optimizer = engine.optimizer, base_optimizer(engine)
    if engine.zero_optimization_stage() == 3:
        flat = zero.fp32_partitioned_groups_flat
    else:
        flat = [part for group in optimizer.param_groups for part in group["params"]]
    for part in flat if values else []:
        optimizer.state[part] = {
            key: torch.zeros_like(part) if value.ndim else value.clone() for key, value in values.items()
        }
    if values and engine.zero_optimization_stage() < 3:
        zero._lazy_init_hp_params_optimizer_state()
