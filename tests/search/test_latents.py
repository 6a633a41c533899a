"""Latents on disk: what is read is what was written, and a directory that is not whole is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from smim.errors import UserError
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.latents import Latents


@pytest.fixture(scope="module")
def encoded(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows in shards of 16, 16 and 8, with log variances."""
    directory = tmp_path_factory.mktemp("latents") / "tiny"
    encode_corpus(tiny_model, tiny_corpus, directory, args=EncodeArgs(rows_per_shard=16, log_variance=True))
    return directory


@pytest.fixture
def copy(encoded: Path, tmp_path: Path) -> Path:
    """A copy on disk, to be damaged."""
    return shutil.copytree(encoded, tmp_path / "copy")


def test_files_are_plain_arrays_whose_rows_follow_each_other(encoded: Path) -> None:
    latents = Latents.open(encoded)
    for kind in ("mean", "log_variance"):
        shards = [np.load(encoded / f"{kind}-{number:05d}.npy") for number in range(3)]
        assert [shard.shape for shard in shards] == [(16, 8), (16, 8), (8, 8)]
        assert (np.concatenate(shards) == getattr(latents, kind)(range(40))).all()


@pytest.mark.parametrize("rows", [range(14, 35), range(0), np.array([39, 3, 16, 3])])
def test_any_rows_are_read_in_the_order_asked_for(encoded: Path, rows: range | np.ndarray) -> None:
    latents = Latents.open(encoded)
    assert len(latents) == 40
    codes = latents.mean(rows)
    assert codes.dtype == np.float32
    assert (codes == latents.mean(range(40))[np.asarray(rows, int)]).all()


@pytest.mark.parametrize("damage", ["truncated", "missing", "another", "one bit"])
def test_a_damaged_shard_is_refused_by_its_name(copy: Path, damage: str) -> None:
    path, content = copy / "mean-00001.npy", (copy / "mean-00001.npy").read_bytes()
    changed = {
        "truncated": content[:-4],
        "another": (copy / "mean-00000.npy").read_bytes(),  # of the same size
        "one bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    with pytest.raises(UserError, match=f"^{path} is missing, truncated or not the file"):
        Latents.open(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "does not have format 1"),
        ({"count": 41}, "counts 41 rows, but its shards"),
        ({"shards": []}, "counts 40 rows, but its shards"),
        ({"shards": 3}, "edited or damaged"),
        ({"rows_per_shard": 0}, "edited or damaged"),
        ({"extra": 1}, "edited or damaged"),
    ],
)
def test_a_card_of_another_format_or_edited_is_refused(copy: Path, changes: dict, message: str) -> None:
    card = json.loads((copy / "latents.json").read_text())
    (copy / "latents.json").write_text(json.dumps({**card, **changes}))
    with pytest.raises(UserError, match=message):
        Latents.open(copy)


def test_a_directory_that_holds_no_latents_is_refused(tiny_corpus: Path) -> None:
    with pytest.raises(UserError, match=r"is not a latents directory \(it has no latents\.json\)"):
        Latents.open(tiny_corpus)


def test_log_variances_that_were_not_stored_are_refused(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "means", args=EncodeArgs())
    with pytest.raises(UserError, match=r"encode\.log_variance=true"):
        Latents.open(tmp_path / "means").log_variance(range(3))
