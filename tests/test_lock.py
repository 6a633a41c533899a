"""A directory has one owner at a time, whatever end that owner comes to."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smim.errors import UserError
from smim.lock import BeingChanged, own, own_place, take
from tests.commands import make_command
from tests.scripts import run_script

OWNER = """
import sys, time
from pathlib import Path
from smim.lock import own
with own(Path(sys.argv[1])):
    print("owned", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=[own, own_place])
def owning(request):
    return request.param


def test_the_second_is_told_of_the_first_by_host_and_process(owning, tmp_path):
    told = f"being changed by another process .process {os.getpid()} on {socket.gethostname()}."
    with owning(tmp_path / "output"), pytest.raises(BeingChanged, match=told), owning(tmp_path / "output"):
        pass


def test_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in ("file/output", "file/below/output"):
        with (
            pytest.raises(UserError, match=f"{place}: .* is not a directory; use another place"),
            own_place(tmp_path / place),
        ):
            pass


def test_nothing_is_left_beside_or_inside_and_the_place_is_free_again(owning, tmp_path):
    (tmp_path / "output").mkdir()
    for _ in range(2):
        with owning(tmp_path / "output"):
            pass
        assert [path.name for path in tmp_path.rglob("*")] == ["output"]


def test_a_killed_owner_leaves_the_directory_free(tmp_path):
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "owned\n"
        with pytest.raises(BeingChanged, match=f"process {owner.pid} on"), own(tmp_path):
            pass
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert (tmp_path / ".lock").exists()
    with own(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_who_locks_a_file_that_its_owner_removes_takes_the_new_one(tmp_path, monkeypatch):
    file, flock = tmp_path / ".lock", fcntl.flock

    def removed_before(lock, flags):
        monkeypatch.undo()
        file.unlink()
        flock(lock, flags)

    monkeypatch.setattr("fcntl.flock", removed_before)
    with take(file, tmp_path), pytest.raises(BeingChanged):
        take(file, tmp_path)


def test_the_place_is_the_same_by_a_relative_path_and_through_a_link_above_it(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    for other in (Path("output"), tmp_path / "link" / "output"):
        with own_place(tmp_path / "real" / "output"), pytest.raises(BeingChanged), own_place(other):
            pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"\.lock is not a plain file"), own(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "years of work"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_in_the_place_of_the_lock_is_refused(make, tmp_path):
    make(tmp_path / ".lock")
    with pytest.raises(UserError, match="is not a plain file"), own(tmp_path):
        pass


@pytest.mark.parametrize(("number", "told"), [("ENOLCK", "without locks"), ("EROFS", "read-only")])
def test_a_file_system_that_cannot_lock_is_named(tmp_path, monkeypatch, number, told):
    def flock(*_):
        raise OSError(getattr(errno, number), "no")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match=f"is on a file system .*{told}"), own(tmp_path):
        pass


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("eval/run.py", ["model.dir={model}", "corpus.dir={corpus}", "output={output}"]),
        ("smim/search/encode.py", ["model.dir={model}", "corpus.dir={corpus}", "output={output}"]),
        ("data_prep/build.py", ["corpus=demo", "output={output}"]),
        ("data_prep/build.py", ["corpus=gmm", "output={output}"]),
    ],
    ids=["eval", "encode", "build", "build_vectors"],
)
def test_a_job_is_refused_where_another_writes_the_same_output(tiny_model, tiny_corpus, tmp_path, script, arguments):
    places = {"model": tiny_model, "corpus": tiny_corpus, "output": tmp_path / "out"}
    with own_place(tmp_path / "out"):
        refused = run_script(script, [each.format(**places) for each in arguments])
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert f"is being changed by another process (process {os.getpid()} on" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_figures_are_refused_where_another_command_makes_some_in_the_same_place(tmp_path):
    with own(tmp_path):
        refused = run_script("eval/figures.py", [f"output={tmp_path}", "experiment=figure_5_2"])
    assert refused.returncode == 2 and "is being changed by another process" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_processes_of_one_job_share_what_its_main_process_owns(tiny_model, tiny_corpus, tmp_path):
    arguments = [f"model.dir={tiny_model}", f"corpus.dir={tiny_corpus}", f"output={tmp_path / 'out'}"]
    assert run_script("smim/search/encode.py", arguments, processes=2).returncode == 0
    with own_place(tmp_path / "out"):
        refused = run_script("smim/search/encode.py", arguments, processes=2)
    assert refused.returncode == 2 and refused.stderr.count("is being changed by another process") == 2


def test_commands_that_write_a_directory_are_refused_too(monkeypatch, capsys, tiny_model, tiny_corpus, tmp_path):
    command = make_command(monkeypatch, capsys)
    commands = {
        "tzk": ["tzk", "fit", tiny_model, tiny_corpus, "-o", tmp_path / "tzk"],
        "export": ["export", tiny_model, "-o", tmp_path / "export"],
        "encode": ["encode", tiny_model, tiny_corpus, "-o", tmp_path / "encode"],
    }
    for name, words in commands.items():
        with own_place(tmp_path / name):
            refused = command(*words)
        assert refused.status == 2 and "is being changed by another process" in refused.err, name
        assert not list(tmp_path.iterdir())
