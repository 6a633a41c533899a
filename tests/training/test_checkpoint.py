"""Checkpoints by themselves: what is kept, what a damaged one is told, and what comes back."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from smim import storage
from smim.errors import SmimError, UserError
from smim.training import checkpoint

METER = {"names": ["loss"], "sums": [1.5, 2.0, 3.0, 4.0], "seconds": 0.5}
STATE = {"epoch": 2, "batch_in_epoch": 1, "validated_step": None, "schedule": {"best": 7.5}, "log_lines": 4}
STATE |= {"identity": {"train.seed": 0}}


def save(root: Path, *steps: int, keep: int = 10) -> None:
    for step in steps:
        checkpoint.save(
            root,
            accelerator=Accelerator(cpu=True),
            step=step,
            tensors={"model": {"weight": torch.full((3, 2), float(step)).T}, "optimizer": {}},
            random=checkpoint.random_state(),
            meter=METER,
            state={"step": step, **STATE},
            keep=keep,
        )


def names(root: Path) -> list[str]:
    return [path.name for path in checkpoint.list_checkpoints(root)]


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(7)
    save(tmp_path, 3)
    expected = torch.rand(5)
    [path] = checkpoint.list_checkpoints(tmp_path)
    checkpoint.verify(path)
    state, random = checkpoint.load_state(path, rank=0, world_size=1)
    assert state == {"step": 3, **STATE, "meters": [METER]}
    assert random is not None
    checkpoint.restore_random_state(random)
    assert torch.equal(torch.rand(5), expected)
    assert torch.equal(checkpoint.load_tensors(path, "model")["weight"], torch.full((2, 3), 3.0))
    assert checkpoint.load_tensors(path, "optimizer") == {}


def test_each_process_gets_its_own_random_state_and_sums_and_another_number_of_them_none(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "step-00000001"
    path.mkdir()
    meters = [{**METER, "seconds": float(rank)} for rank in range(12)]
    save_file({f"{rank}.cpu": torch.tensor([rank]) for rank in range(12)}, path / "ranks.safetensors")
    (path / "state.json").write_text(json.dumps({"step": 1, **STATE, "meters": meters}))
    for rank in range(12):
        _, own = checkpoint.load_state(path, rank=rank, world_size=12)
        assert own == {"cpu": torch.tensor([rank])}
    for world_size in (1, 11, 13):
        assert checkpoint.load_state(path, rank=0, world_size=world_size)[1] is None


def test_the_newest_are_kept_and_later_ones_of_a_line_that_was_left_are_not(tmp_path: Path) -> None:
    save(tmp_path, 2, 4, 6, 8, keep=3)
    assert names(tmp_path) == ["step-00000004", "step-00000006", "step-00000008"]
    save(tmp_path, 5, keep=2)
    assert names(tmp_path) == ["step-00000004", "step-00000005"]
    save(tmp_path, 5, keep=1)
    assert names(tmp_path) == ["step-00000005"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "ranks.safetensors", "state.json"])
def test_a_file_that_changed_by_one_byte_is_named(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    [path] = checkpoint.list_checkpoints(tmp_path)
    content = bytearray((path / name).read_bytes())
    content[-1] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(SmimError, match=rf"{name} is damaged"):
        checkpoint.verify(path)
    (path / name).write_bytes(content[:-1])
    with pytest.raises(SmimError, match=rf"{name} is missing or truncated"):
        checkpoint.verify(path)
    (path / name).unlink()
    with pytest.raises(SmimError, match=rf"{name} is missing or truncated"):
        checkpoint.verify(path)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    [path] = checkpoint.list_checkpoints(tmp_path)
    storage.write_json(path / "manifest.json", {**storage.read_json(path / "manifest.json"), "format": 99})
    with pytest.raises(UserError, match="has format 99"):
        checkpoint.verify(path)
    with pytest.raises(UserError, match="is not a checkpoint directory"):
        checkpoint.verify(tmp_path / "none")


def test_the_newest_whole_one_is_taken_and_what_is_broken_is_told(tmp_path: Path) -> None:
    assert checkpoint.newest_valid(tmp_path / "none", warn=print) is None
    save(tmp_path, 1, 2, 3)
    told: list[str] = []
    (tmp_path / "step-00000003" / "model.safetensors").write_bytes(b"")
    assert checkpoint.newest_valid(tmp_path, warn=told.append) == tmp_path / "step-00000002"
    assert len(told) == 1 and "step-00000003" in told[0]
    for name in names(tmp_path):
        (tmp_path / name / "state.json").unlink()
    with pytest.raises(SmimError, match=r"all checkpoints in .* are damaged"):
        checkpoint.newest_valid(tmp_path, warn=told.append)
