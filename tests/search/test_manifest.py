"""An index that somebody edited, its checksum made anew: it names no file outside, and no more than its files hold."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from smim import storage
from smim.errors import UserError
from smim.generation import SentenceModel, load
from smim.search import Index, IndexWriter, open_index
from smim.search.errors import Unreadable
from smim.search.manifest import FileInfo, _checksum
from tests.scripts import ROOT

Content = dict[str, Any]


def edit(directory: Path, change: Callable[[Content], None]) -> None:
    content = storage.read_json(directory / "manifest.json")
    change(content)
    del content["sha256"]
    storage.write_json(directory / "manifest.json", {**content, "sha256": _checksum(content)})


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_segment_of_another_index_is_refused_and_nothing_is_written_there(index: Index, tmp_path: Path) -> None:
    other = Path(shutil.copytree(index.directory, tmp_path / "other"))
    before = contents(other)
    edit(index.directory, lambda content: content["segments"][0].update(name="../other/00000001"))
    for use in (
        lambda: open_index(index.directory, model=index.model),
        lambda: IndexWriter(index.directory, model=index.model),
    ):
        with pytest.raises(Unreadable, match=r"manifest\.json: a segment has the invalid name '../other/00000001'"):
            use()
    assert contents(other) == before


def test_a_segment_that_is_a_link_out_of_the_index_is_refused(index: Index, tmp_path: Path) -> None:
    shutil.move(index.directory / "00000001", tmp_path / "outside")
    (index.directory / "00000001").symlink_to(tmp_path / "outside")
    with pytest.raises(Unreadable, match="is a link to a file outside of"):
        open_index(index.directory, model=index.model)


def test_a_link_among_what_is_cleared_away_leaves_what_it_leads_to(index: Index, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    for name in ("00000099", ".manifest.json.partial"):
        (index.directory / name).symlink_to(tmp_path / "mine")
    with IndexWriter(index.directory, model=index.model) as writer:
        assert writer.delete([0]) == 1
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert not (index.directory / "00000099").is_symlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(metric="__class__"), "manifest.metric is '__class__'"),
        (lambda content: content.update(store="fp8"), "manifest.store is 'fp8'"),
        (lambda content: content.update(dimension=10**9), "holds 40 codes of 8 dimensions"),
        (lambda content: content.update(extra=1), "extra is not known"),
        (lambda content: content.pop("next_id"), "next_id is missing"),
        (lambda content: content.update(next_id=None), "next_id is None"),
        (lambda content: content.update(columns=["topic", "more"]), "has the columns text, topic"),
        (lambda content: content.update(search={"ef": 1}), "no search setting 'ef'"),
        (lambda content: content["segments"][0].update(count=41), r"\(40,\), but it must hold int64 \(41,\)"),
        (lambda content: content["segments"][0].update(count=2**62), "but it must hold int64"),
        (lambda content: content["segments"][0].update(deleted="x.npy", num_deleted=1), "or mask 'x.npy'"),
        (lambda content: content["segments"].append(content["segments"][0]), "two segments have the same name"),
        (lambda content: content["segments"][0]["files"].pop("ids.npy"), "has no ids.npy"),
        (lambda content: content["segments"][0]["files"]["ids.npy"].update(bytes="1"), "bytes is '1'"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(
    index: Index, change: Callable[[Content], None], message: str
) -> None:
    edit(index.directory, change)
    with pytest.raises(Unreadable, match=message):
        open_index(index.directory, model=index.model)


def test_offsets_out_of_a_text_column_are_found_when_it_is_read(index: Index) -> None:
    path = index.directory / "00000001" / "rows.arrow"
    content = path.read_bytes()
    start = content.index(np.array([0, len(index.get([0])[0].text)], np.int32).tobytes())
    path.write_bytes(content[: start + 4] + np.int32(2**30).tobytes() + content[start + 8 :])
    described = vars(FileInfo.of(path))
    edit(index.directory, lambda content: content["segments"][0]["files"].update({"rows.arrow": described}))
    opened = open_index(index.directory, model=index.model)
    with pytest.raises(Unreadable, match=r"rows\.arrow"):
        opened.get([0])
    with pytest.raises(Unreadable, match=r"rows\.arrow"):
        opened.count({"topic": "home"})


def test_search_and_add_are_refused_where_the_models_weights_were_replaced(
    index: Index, tiny_model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    edit(index.directory, lambda content: content.update(model=str(copy)))
    assert open_index(index.directory).search(["a bank sold shares"], k=1)
    weights = load_file(copy / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, copy / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors is not the file"):
        open_index(index.directory)
    with IndexWriter(index.directory) as writer, pytest.raises(UserError, match=r"model\.safetensors is not the file"):
        writer.add(["a bank sold shares"])
    # With a configuration that names the new weights it is another model.
    config = json.loads((copy / "config.json").read_text())
    config["weights_sha256"] = storage.sha256(copy / "model.safetensors")
    (copy / "config.json").write_text(json.dumps(config))
    another: SentenceModel = load(copy, device="cpu")
    with pytest.raises(Unreadable, match="was built with another model"):
        open_index(index.directory, model=another)


def test_a_kind_of_index_that_would_take_gigabytes_is_not_made(index: Index) -> None:
    edit(index.directory, lambda content: content.update(factory="IVF2000000000,Flat"))
    with IndexWriter(index.directory, model=index.model) as writer:
        writer.delete([0])
        with pytest.raises(UserError, match="has too high a number"):
            writer.compact()
    assert len(open_index(index.directory, model=index.model)) == 39


_CHANGES = """
import sys
from smim import cli
for command in (["add", "-"], ["upsert", "-"], ["delete", "--id", "0"], ["compact"]):
    sys.argv = ["smim", "index", command[0], DIR, *command[1:]]
    try:
        cli.main()
    except SystemExit as error:
        print(command[0], "exits with", error.code, file=sys.stderr)
"""


def test_changes_on_a_read_only_file_system_end_in_one_message(index: Index) -> None:
    directory = index.directory
    mount = f"mount --bind {directory} {directory} && mount -o remount,ro,bind {directory}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a directory read-only")
    code = _CHANGES.replace("DIR", repr(str(directory)))
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        input="a bank sold shares\n",
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    for command in ("add", "upsert", "delete", "compact"):
        assert f"{command} exits with 2" in done.stderr
    assert done.stderr.count("read-only") >= 3, done.stderr
