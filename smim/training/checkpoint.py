"""Checkpoints: everything that a run needs to continue as if it had not stopped. No pickle.

    checkpoints/step-00001000/
        model.safetensors       weights
        optimizer.safetensors   the optimizer's tensors, by parameter
        average.safetensors     the moving average of the weights, if there is one
        critic.safetensors      weights and optimizer of the objective's critic, if it has one
        ranks.safetensors       the random state of each process
        state.json              schedule, position in the data, sums since the last log line
        manifest.json           sizes and SHA-256 of the files above

The tensors are whole, even if training shards them, so any number of processes can resume.

A checkpoint is written under another name and then renamed, so `step-*` is always complete. The manifest detects later
damage by a disk or a copy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import save_file
from torch import Tensor

from smim import schema, storage
from smim.errors import SmimError, UserError
from smim.model.weights import load_tensors as load_file

_MANIFEST = "manifest.json"
_FORMAT = 2
_STATE = "state.json"
_NEEDED = {_STATE, *(f"{name}.safetensors" for name in ("model", "optimizer", "ranks"))}


@dataclass(frozen=True)
class MeterState:
    """The result of `Meter.state`. Older checkpoints lack `seconds`."""

    names: list[str]
    sums: list[float] | None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.sums is not None and len(self.sums) != len(self.names) + 3:
            raise UserError(f"there are {len(self.sums)} sums for {len(self.names)} terms")


@dataclass(frozen=True)
class ScheduleState:
    """The result of `Schedule.state`. Only a plateau has the last two fields."""

    best: float | None
    learning_rate: float = 0.0
    without_improvement: int = 0


@dataclass(frozen=True)
class AggressiveState:
    """The state of `smim.training.aggressive`."""

    on: bool
    information: float


@dataclass(frozen=True)
class _State:
    """The content of `state.json`. `identity`: everything that decides the losses (`smim.training.identity`).

    `aggressive`: only if the objective trains the encoder first.
    """

    step: int
    epoch: int
    batch_in_epoch: int
    validated_step: int | None
    schedule: ScheduleState
    log_lines: int
    identity: dict[str, Any]
    meters: list[MeterState]
    aggressive: AggressiveState | None = None


@dataclass(frozen=True)
class _File:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Manifest:
    format: int
    step: int
    files: dict[str, _File]


def save(
    root: Path,
    *,
    accelerator: Accelerator,
    step: int,
    tensors: dict[str, dict[str, Tensor]],
    random: dict[str, Tensor],
    meter: dict[str, Any],
    state: dict[str, Any],
    keep: int,
) -> None:
    """Write `root/step-*` from all processes' state, then remove later checkpoints, and all but the newest `keep`.

    Later checkpoints exist if the run resumed from an older one. `resume=auto` would otherwise return to them.
    `tensors`: the content of each file, by file name without suffix; only the main process's are written. `random`
    (random state) and `meter` (sums) differ between processes.
    """
    ranks = gather_object([(random, meter)])
    if accelerator.is_main_process:
        path = root / f"step-{step:08d}"
        with storage.new_directory(path) as partial:
            of_ranks = {f"{i}.{name}": t for i, (own, _) in enumerate(ranks) for name, t in own.items()}
            for name, content in {**tensors, "ranks": of_ranks}.items():
                save_file(
                    {key: tensor.contiguous() for key, tensor in content.items()}, partial / f"{name}.safetensors"
                )
            storage.write_json(partial / _STATE, {**state, "meters": [own for _, own in ranks]})
            files = {
                file.name: {"bytes": file.stat().st_size, "sha256": storage.sha256(file)}
                for file in sorted(partial.iterdir())
            }
            storage.write_json(partial / _MANIFEST, {"format": _FORMAT, "step": step, "files": files})
        found = list_checkpoints(root)
        num_left = found.index(path) + 1
        for unwanted in [*found[num_left:], *found[:num_left][:-keep]]:
            storage.remove_directory(unwanted)
    accelerator.wait_for_everyone()


def list_checkpoints(root: Path) -> list[Path]:
    """List all checkpoints, oldest first."""
    return sorted(root.glob(f"step-{'[0-9]' * 8}")) if root.is_dir() else []


def verify(path: Path) -> None:
    """Raise `SmimError` unless all files of the checkpoint are complete and undamaged."""
    if not path.is_dir():
        raise UserError(f"{path} is not a checkpoint directory")
    storage.own_path(path.parent, path.name)
    content = storage.read_json(storage.own_file(path, _MANIFEST))
    if content.get("format") != _FORMAT:
        raise UserError(
            f"checkpoint {path} has format {content.get('format')}, but this version reads {_FORMAT}; "
            "start anew with another run.dir"
        )
    manifest = schema.make(_Manifest, content, path / _MANIFEST)
    if missing := _NEEDED - set(manifest.files):
        raise UserError(f"checkpoint {path}: {_MANIFEST} does not name {', '.join(sorted(missing))}")
    for name, described in manifest.files.items():
        file = storage.own_file(path, name)
        if not file.is_file() or file.stat().st_size != described.bytes:
            raise SmimError(f"checkpoint {path}: {name} is missing or truncated")
        if storage.sha256(file) != described.sha256:
            raise SmimError(f"checkpoint {path}: {name} is damaged (its SHA-256 differs)")
    read_state(path)


def newest_valid(root: Path, *, warn: Any) -> Path | None:
    """Find the newest valid checkpoint; None if there are none. `warn` gets a message for each damaged one.

    Raises `SmimError` if there are checkpoints, but all are damaged.
    """
    found = list_checkpoints(root)
    for path in reversed(found):
        try:
            verify(path)
            return path
        except SmimError as error:
            warn(f"{error}; falling back to the checkpoint before it")
    if found:
        raise SmimError(f"all checkpoints in {root} are damaged; start anew with another run.dir")
    return None


def read_state(path: Path) -> dict[str, Any]:
    """Read `state.json`. Raises `UserError` if it is missing or damaged."""
    content = storage.read_json(storage.own_file(path, _STATE))
    schema.make(_State, content, path / _STATE)
    return content


def load_state(path: Path, *, rank: int, world_size: int) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Read `state.json` and this process's random state, which is None if the number of processes has changed."""
    state, prefix = read_state(path), f"{rank}."
    if len(state["meters"]) != world_size:
        return state, None
    tensors = load_tensors(path, "ranks").items()
    return state, {name.removeprefix(prefix): tensor for name, tensor in tensors if name.startswith(prefix)}


def load_tensors(path: Path, name: str) -> dict[str, Tensor]:
    """Load the tensors saved under `name`, on the CPU. Raises `UserError` if they are missing or damaged."""
    return load_file(storage.own_file(path, f"{name}.safetensors"))


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Raise `UserError` if the content of a checkpoint does not fit this run's model, optimizer or schedule."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"checkpoint {path} does not fit this run; it was edited or damaged ({error})") from None


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators, the source of all noise in training."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
