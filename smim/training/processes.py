"""Makes the Accelerator, and refuses to train where it is not what was asked for.

`accelerate launch` and `torchrun` fall back silently in several ways: a CPU launch for N processes
runs one; N processes that do not know of each other write into one folder; FSDP on the CPU is
ignored. Each would give a training that is not the one that was asked for.
"""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import default_config_file, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.dataclasses import ProjectConfiguration

from smim.errors import UserError

_CPU_HINT = "on CPU use `accelerate launch --config_file launch/accelerate/cpu.yaml --num_processes N ...`"


def make_accelerator(*, precision: str, trackers: list[str] | None = None, run_dir: Path | None = None) -> Accelerator:
    """The Accelerator for this launch; raises `UserError` where the launch cannot be honoured.

    `trackers` write below `run_dir`/logs.
    """
    _check_modes()
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # without it, what torchrun starts on CPU would train apart
        mixed_precision="bf16" if resolve_precision(precision) == "bf16" else "no",
        log_with=trackers or None,
        project_config=ProjectConfiguration(logging_dir=str(run_dir / "logs")) if run_dir else None,
    )
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    asked = max(asked, _processes_asked_of_parent())
    if accelerator.num_processes != asked:
        raise UserError(
            f"{asked} processes were asked for, but the launcher started {accelerator.num_processes}; {_CPU_HINT}"
        )
    if accelerator.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
    ):
        raise UserError(
            f"the launch mode {accelerator.distributed_type.value} is not supported; use one process or DDP"
        )
    return accelerator


def resolve_precision(precision: str) -> str:
    """`auto` is bf16 where the hardware multiplies matrices in it, else fp32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has_bf16() else "fp32"


def _check_modes() -> None:
    for variable, mode in (("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_FSDP", "FSDP")):
        if os.environ.get(variable, "").lower() == "true":
            raise UserError(f"the launch mode {mode} is not supported; use one process or DDP; {_CPU_HINT}")


def _processes_asked_of_parent() -> int:
    """How many processes `accelerate launch` was asked for, by its own command line; 1 where it is not our parent.

    A launch on one CPU process tells its child nothing of the number that was asked for.
    """
    import psutil

    try:
        command = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return 1
    names = [Path(part).name for part in command[:4]]
    if "accelerate-launch" in names:
        arguments = command[names.index("accelerate-launch") + 1 :]
    elif "launch" in names and names[names.index("launch") - 1] == "accelerate":
        arguments = command[names.index("launch") + 1 :]
    else:
        return 1
    parsed, _ = launch_command_parser().parse_known_args(arguments)
    file = parsed.config_file or (default_config_file if Path(default_config_file).is_file() else None)
    configured = load_config_from_file(file) if file else None
    machines = parsed.num_machines or getattr(configured, "num_machines", 1)
    number = parsed.num_processes or getattr(configured, "num_processes", 1)
    if int(machines) > 1 and "WORLD_SIZE" in os.environ:
        return 1  # a real launch over machines: WORLD_SIZE says how many processes there are in all
    return max(int(machines), int(number))
