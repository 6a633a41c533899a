"""Makes the Accelerator, and refuses to train where it is not what was asked for.

`accelerate launch` and `torchrun` fall back silently in several ways: a CPU launch for N processes
runs one; N processes that do not know of each other write into one folder; FSDP on the CPU is
ignored. Each would give a training that is not the one that was asked for.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.dataclasses import ProjectConfiguration

from smim.errors import UserError

_CPU_HINT = "on CPU use `accelerate launch --config_file launch/accelerate/cpu.yaml --num_processes N ...`"


@dataclass(frozen=True)
class _Launch:
    num_processes: int
    mode: str


def make_accelerator(*, precision: str, trackers: list[str], run_dir: Path) -> Accelerator:
    """The Accelerator for this launch; raises `UserError` where the launch cannot be honoured."""
    _check_modes()
    if "WORLD_SIZE" in os.environ and not torch.cuda.is_available():
        # Without it, processes that torchrun started on CPU would each train alone.
        os.environ["ACCELERATE_USE_CPU"] = "true"
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if resolve_precision(precision) == "bf16" else "no",
        log_with=trackers or None,
        project_config=ProjectConfiguration(project_dir=str(run_dir), logging_dir=str(run_dir / "logs")),
    )
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    launch = _parent_launch()
    if launch is not None:
        asked = max(asked, launch.num_processes)
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
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def _check_modes() -> None:
    for variable, mode in (("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_FSDP", "FSDP")):
        if os.environ.get(variable, "").lower() == "true":
            raise UserError(f"the launch mode {mode} is not supported; use one process or DDP; {_CPU_HINT}")


def _parent_launch() -> _Launch | None:
    """What `accelerate launch` was asked for, read from its own command line; None where it is not our parent.

    A launch on one CPU process tells its child nothing of the number that was asked for.
    """
    import psutil

    try:
        command = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return None
    names = [Path(part).name for part in command[:4]]
    if "accelerate-launch" in names:
        arguments = command[names.index("accelerate-launch") + 1 :]
    elif "launch" in names and names[names.index("launch") - 1] == "accelerate":
        arguments = command[names.index("launch") + 1 :]
    else:
        return None
    parsed, _ = launch_command_parser().parse_known_args(arguments)
    number, mode = parsed.num_processes, "multi" if parsed.multi_gpu else "single"
    if parsed.config_file and number is None:
        number = load_config_from_file(parsed.config_file).num_processes
    return _Launch(num_processes=int(number or 1), mode=mode)
