"""Checkpoints: everything a run needs to go on as if it had not stopped, without pickle.

    checkpoints/step-00001000/
        model.safetensors       weights
        optimizer.safetensors   the optimizer's tensors
        ranks.safetensors       every rank's random state
        state.json              schedule, position in the data, sums since the last log line
        manifest.json           sizes and SHA-256 of the files above

Written beside its place and renamed in, so that a name `step-*` is always a whole checkpoint; the
manifest catches what a disk or a copy damaged afterwards.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from smim import storage
from smim.errors import SmimError, UserError

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RankState:
    """What differs between processes: random state and sums."""

    random: dict[str, Tensor]
    meter: dict[str, Any]


def save(
    root: Path,
    *,
    accelerator: Accelerator,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rank_state: RankState,
    state: dict[str, Any],
    keep: int,
) -> None:
    """Writes `root/step-*` from all processes' state, then removes all but the newest `keep`."""
    ranks = gather_object([rank_state])
    if accelerator.is_main_process:
        with storage.new_directory(root / f"step-{step:08d}") as partial:
            save_file(model.state_dict(), partial / "model.safetensors")
            tensors, scalars = _flatten_optimizer(optimizer)
            save_file(tensors, partial / "optimizer.safetensors")
            random = {f"{i}.{name}": t for i, rank in enumerate(ranks) for name, t in rank.random.items()}
            save_file(random, partial / "ranks.safetensors")
            meters = [rank.meter for rank in ranks]
            storage.write_json(partial / "state.json", {**state, "optimizer": scalars, "meters": meters})
            files = {
                file.name: {"bytes": file.stat().st_size, "sha256": storage.sha256(file)}
                for file in sorted(partial.iterdir())
            }
            storage.write_json(partial / _MANIFEST, {"step": step, "files": files})
        for old in list_checkpoints(root)[:-keep]:
            storage.remove_directory(old)
    accelerator.wait_for_everyone()


def list_checkpoints(root: Path) -> list[Path]:
    """All checkpoints, oldest first."""
    return sorted(root.glob("step-*")) if root.is_dir() else []


def verify(path: Path) -> None:
    """Raises `SmimError` unless every file of the checkpoint is whole."""
    if not path.is_dir():
        raise UserError(f"{path} is not a checkpoint directory")
    for name, described in storage.read_json(path / _MANIFEST)["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != described["bytes"]:
            raise SmimError(f"checkpoint {path}: {name} is missing or truncated")
        if storage.sha256(file) != described["sha256"]:
            raise SmimError(f"checkpoint {path}: {name} is damaged (its SHA-256 differs)")


def newest_valid(root: Path, *, warn: Any) -> Path | None:
    """The newest checkpoint that verifies; each broken one is told to `warn`.

    Raises `SmimError` where there are checkpoints and none of them is whole.
    """
    found = list_checkpoints(root)
    for path in reversed(found):
        try:
            verify(path)
            return path
        except SmimError as error:
            warn(f"{error}; falling back to the one before")
    if found:
        raise SmimError(f"no checkpoint in {root} is whole; start anew with another run.dir")
    return None


def load(
    path: Path, *, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], RankState | None]:
    """Loads weights and optimizer in place; returns `state.json` and this rank's own state.

    The rank's state is None where the checkpoint was written by another number of processes.
    """
    state = storage.read_json(path / "state.json")
    model.load_state_dict(load_file(path / "model.safetensors"))
    _restore_optimizer(optimizer, load_file(path / "optimizer.safetensors"), state["optimizer"])
    meters = state["meters"]
    if len(meters) != accelerator.num_processes:
        return state, None
    prefix = f"{accelerator.process_index}."
    random = {
        name.removeprefix(prefix): tensor
        for name, tensor in load_file(path / "ranks.safetensors").items()
        if name.startswith(prefix)
    }
    return state, RankState(random=random, meter=meters[accelerator.process_index])


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators, which all training noise comes from."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value
        for index, entries in state["state"].items()
        for name, value in entries.items()
        if torch.is_tensor(value)
    }
    groups = [
        {key: value for key, value in group.items() if isinstance(value, bool | int | float | str | list | tuple)}
        for group in state["param_groups"]
    ]
    return tensors, {"param_groups": groups}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    current = optimizer.state_dict()["param_groups"]
    groups = [{**now, **saved} for now, saved in zip(current, scalars["param_groups"], strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
