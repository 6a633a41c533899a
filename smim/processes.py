"""Create the Accelerator, and refuse to train if the launch differs from the request.

`accelerate launch` and `torchrun` fall back silently in several ways. A CPU launch for N processes runs one. N
processes that do not know each other write into one folder. DeepSpeed becomes plain DDP if a setting says CPU. FSDP2
on the CPU is ignored. Each would run another training than the requested one.
"""

import os
import re
import time
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import default_config_file, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from accelerate.utils.dataclasses import ProjectConfiguration

from smim.deepspeed_internals import use_deepspeed_on_cpu
from smim.errors import SmimError, UserError

_CPU_HINT = "on CPU, use `accelerate launch --config_file launch/accelerate/cpu.yaml --num_processes N ...`"
_ONE_PROCESS = [DistributedType.NO]
_DDP = [DistributedType.MULTI_CPU, DistributedType.MULTI_GPU]


def make_accelerator(
    *,
    sharding: bool = False,
    trackers: list[str] | None = None,
    run_dir: Path | None = None,
    timeout: int = 1800,
) -> Accelerator:
    """The Accelerator for this launch; raises `UserError` if the launch cannot run as requested.

    `sharding`: whether the caller supports DeepSpeed and FSDP2. `trackers` write below `run_dir`/logs. `timeout`:
    seconds that a process waits for the others.
    """
    has_gpu = torch.cuda.is_available()
    mode = _mode_asked()
    if mode != "ddp" and not sharding:
        raise UserError(f"this job does not run under {mode}; launch it as one process or with DDP; {_CPU_HINT}")
    _check_mode(mode, has_gpu=has_gpu)
    for tracker in trackers or []:
        if find_spec(tracker) is None:
            raise UserError(f"train.trackers asks for {tracker}, but it is not installed; run `pip install {tracker}`")
    handler = InitProcessGroupKwargs(timeout=timedelta(seconds=timeout))
    if mode == "deepspeed" and not has_gpu:
        handler.backend = "gloo"
        use_deepspeed_on_cpu()
    accelerator = Accelerator(
        # Without `cpu`, processes that torchrun starts on CPU would train separately; with it, DeepSpeed becomes DDP.
        cpu=not has_gpu and mode != "deepspeed",
        # The training step handles bf16 itself, in the same way under DDP, ZeRO and FSDP2.
        mixed_precision="no",
        log_with=trackers or None,
        project_config=ProjectConfiguration(logging_dir=str(run_dir / "logs")) if run_dir else None,
        kwargs_handlers=[handler],
    )
    asked = max(int(os.environ.get("WORLD_SIZE", "1")), _processes_asked_of_parent())
    if accelerator.num_processes != asked:
        raise UserError(
            f"{asked} processes were requested, but the launcher started {accelerator.num_processes}; {_CPU_HINT}"
        )
    expected = {"deepspeed": [DistributedType.DEEPSPEED], "fsdp": [DistributedType.FSDP]}.get(mode, _ONE_PROCESS + _DDP)
    if accelerator.distributed_type not in expected:
        raise UserError(
            f"the launch asked for {mode}, but Accelerate made it {accelerator.distributed_type.value}; "
            f"use a config of launch/accelerate/"
        )
    return accelerator


def close(accelerator: Accelerator) -> None:
    """End the trackers and the process group."""
    accelerator.end_training()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # DeepSpeed keeps references to its groups, so their gloo threads are alive. A thread that releases the tensors
        # of the last collective while the interpreter ends aborts the process; it needs the GIL for a moment now. On a
        # busy machine 0.1 s was too short once.
        time.sleep(0.5)


def lost_process(error: Exception, run_dir: Path) -> SmimError | None:
    """A message for the user if the error means that another process of the run ended, else None."""
    if not torch.distributed.is_initialized() or not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if not isinstance(error, torch.distributed.DistError) and not re.search(r"gloo|NCCL|[Cc]onnection|Timed out", text):
        return None
    return SmimError(
        f"another process of this run ended or cannot be reached ({text.splitlines()[0][:200]}); its own message is "
        f"above, or in its machine's log. The checkpoints in {run_dir} are intact; train.resume=auto continues"
    )


def resolve_precision(precision: str) -> str:
    """Resolve `auto`: bf16 if the hardware multiplies matrices in it, else fp32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has_bf16() else "fp32"


def _mode_asked() -> str:
    """The mode that the launcher requests: deepspeed, fsdp, or ddp (also for one process)."""
    for variable, mode in (("ACCELERATE_USE_DEEPSPEED", "deepspeed"), ("ACCELERATE_USE_FSDP", "fsdp")):
        if os.environ.get(variable, "").lower() == "true":
            return mode
    return "ddp"


def _check_mode(mode: str, *, has_gpu: bool) -> None:
    if mode == "fsdp":
        if not has_gpu:
            raise UserError(f"FSDP needs GPUs, and Accelerate ignores it on CPU; use DDP or ZeRO; {_CPU_HINT}")
        if os.environ.get("FSDP_VERSION", "1") != "2":
            raise UserError("only FSDP2 is supported; use launch/accelerate/fsdp2.yaml, or set fsdp_version: 2")
    if mode == "deepspeed":
        if find_spec("deepspeed") is None:
            raise UserError("the launch asks for DeepSpeed, but it is not installed; run `pip install deepspeed`")
        if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
            raise UserError(
                "with ACCELERATE_USE_CPU=true in the environment, DeepSpeed would become plain DDP; unset it. "
                "launch/accelerate/zero1.yaml to zero3.yaml run on CPU without it"
            )


def _processes_asked_of_parent() -> int:
    """The number of processes in the command line of our parent `accelerate launch`; 1 if that is not our parent.

    A launch of one CPU process does not tell its child the requested number.
    """
    import psutil

    try:
        command = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return 1
    names = [Path(part).name for part in command[:4]]
    launchers = [i for i, name in enumerate(names) if name == "accelerate-launch"]
    launchers += [i for i in range(1, len(names)) if names[i - 1 : i + 1] == ["accelerate", "launch"]]
    if not launchers:
        return 1
    parsed, _ = launch_command_parser().parse_known_args(command[launchers[0] + 1 :])
    file = parsed.config_file or (default_config_file if Path(default_config_file).is_file() else None)
    configured = load_config_from_file(file) if file else None
    machines = parsed.num_machines or getattr(configured, "num_machines", 1)
    number = parsed.num_processes or getattr(configured, "num_processes", 1)
    if int(machines) > 1 and "WORLD_SIZE" in os.environ:
        return 1  # a real launch over machines: WORLD_SIZE is the total number of processes
    return max(int(machines), int(number))
