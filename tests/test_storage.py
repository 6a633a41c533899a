import pytest

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
