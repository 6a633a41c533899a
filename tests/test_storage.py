import os

import pytest
import torch
from safetensors.torch import save_file

from smim import storage
from smim.errors import UserError


def test_a_failed_write_leaves_the_old_directory_and_nothing_beside_it(tmp_path):
    with storage.new_directory(tmp_path / "d") as partial:
        (partial / "file").write_text("old")
    with pytest.raises(RuntimeError), storage.new_directory(tmp_path / "d") as partial:
        (partial / "file").write_text("new")
        raise RuntimeError
    assert (tmp_path / "d" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_new_directory_takes_the_place_of_the_old_one(tmp_path, monkeypatch, exchanged):
    if not exchanged:
        # As on macOS; and a crash left the directory before the old one.
        monkeypatch.setattr(storage, "_exchange", lambda first, second: False)
        (tmp_path / ".d.old" / "older").mkdir(parents=True)
    for content in ("old", "new"):
        with storage.new_directory(tmp_path / "d") as partial:
            (partial / content).write_text("")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_can_be_read_by_whoever_can_read_their_directory(tmp_path, mask, rights):
    before = os.umask(mask)
    try:
        with storage.new_directory(tmp_path / "d") as partial:
            save_file({"weights": torch.zeros(2)}, partial / "a.safetensors")
            (partial / "tokenizer").mkdir()
            (partial / "tokenizer" / "text").write_text("a")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "d").rglob("*") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in files] == [rights, rights]


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    (tmp_path / ".d.partial").mkdir()
    (tmp_path / ".d.partial" / "half").write_text("")
    with storage.new_directory(tmp_path / "d") as partial:
        (partial / "file").write_text("")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["file"]


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with open(path) as reader:
        with storage.new_file(path) as partial:
            partial.write_text("new")
            assert path.read_text() == "old" and partial.parent == tmp_path
        assert reader.read() == "old"  # what was open stays what it was
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("written", [True, False])
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, written):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(RuntimeError), storage.new_file(path) as partial:
        if written:
            partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_not_a_number_is_never_written_as_json(tmp_path):
    storage.write_json(tmp_path / "f.json", {"loss": 1.5})
    with pytest.raises(ValueError):
        storage.write_json(tmp_path / "f.json", {"loss": float("nan")})
    assert storage.read_json(tmp_path / "f.json") == {"loss": 1.5}


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "f.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"f\.json is not valid JSON"):
        storage.read_json(tmp_path / "f.json")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 200_000 + "]" * 200_000, "is not valid JSON"),
        ('{"a": ' + "[" * 150 + "]" * 150 + "}", "nested more than 100 levels deep"),
        ('{"a": ' + "9" * 5000 + "}", "a number has 5,000 digits"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ('{"a": 1e999}', "1e999 is not a finite number"),
        ('{"a": 1, "a": 2}', "a name is given twice"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ("[]", "is not a JSON object"),
    ],
)
def test_json_beyond_the_limits_is_refused(tmp_path, text, problem):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(UserError, match=problem):
        storage.read_json(tmp_path / "f.json")


def test_text_beyond_16_bits_is_read_as_it_was_written_elsewhere(tmp_path):
    (tmp_path / "f.json").write_text('{"a": "\\ud83d\\ude00"}')
    assert storage.read_json(tmp_path / "f.json") == {"a": "\U0001f600"}


def test_what_would_be_waited_for_or_fill_the_memory_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "zero.json"):
        with pytest.raises(UserError, match=f"{name} is not a regular file"):
            storage.read_json(tmp_path / name)
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(2**40)  # of nothing on disk
    with pytest.raises(UserError, match=r"large\.json is larger than 67,108,864 bytes"):
        storage.read_json(tmp_path / "large.json")


@pytest.mark.parametrize(
    "name", ["../f", "/etc/hostname", "a/../../f", "", ".", "..", ".hidden", "a\0b", "a//b", "\ud800"]
)
def test_a_name_that_leads_out_of_its_directory_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="is not a valid name for a file in it"):
        storage.own_file(tmp_path, name)


def test_a_link_may_lead_within_its_directory_but_not_out(tmp_path):
    for folder in ("d", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("")
    (tmp_path / "d" / "inside").symlink_to("file")
    (tmp_path / "d" / "outside").symlink_to("../other/file")
    (tmp_path / "d" / "nothing").symlink_to("../nothing")
    (tmp_path / "d" / "folder").symlink_to("../other")
    (tmp_path / "link").symlink_to("d")
    assert storage.own_file(tmp_path / "link", "inside") == tmp_path / "link" / "inside"
    assert storage.own_file(tmp_path / "d", "missing") == tmp_path / "d" / "missing"
    for name in ("outside", "nothing", "folder/file"):
        with pytest.raises(UserError, match="is a link to a file outside of"):
            storage.own_file(tmp_path / "d", name)


def test_nothing_is_written_through_a_link_in_the_place_of_a_partial_file(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".f.json.partial").symlink_to(tmp_path / "mine")
    storage.write_json(tmp_path / "f.json", {})
    (tmp_path / ".d.partial").symlink_to(tmp_path)
    with storage.new_directory(tmp_path / "d") as partial:
        (partial / "mine").write_text("other")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "f.json").is_symlink() and not (tmp_path / "d").is_symlink()
