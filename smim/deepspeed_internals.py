"""Internals of DeepSpeed that training uses and DeepSpeed may change. They are valid for `VERSIONS`.

DeepSpeed creates the optimizer's state at the first step, and has no public function to create it for a resumed run.
"""

import os
from typing import Any

import torch
from torch import Tensor

VERSIONS = ">=0.16,<0.20"  # the same as in pyproject.toml


def use_deepspeed_on_cpu() -> None:
    """Choose the CPU, even if there is a GPU; call this before DeepSpeed is used."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed.ops

    # This part is compiled at its first use (half a minute), and only saves a copy between local processes.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def base_optimizer(engine: Any) -> torch.optim.Optimizer:
    """The optimizer that updates this process's part of the weights."""
    return engine.optimizer.optimizer


def make_optimizer_state(engine: Any, values: dict[str, Tensor]) -> None:
    """Create the state that the first step would: `values` by key, with zeros for tensors that are not scalars."""
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
