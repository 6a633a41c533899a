"""Jobs beside each other: as many as there are cores, each with its threads, and none is left when one fails."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.beside import Job, run_beside
from tests.training.conftest import ROOT

# Says that it runs, and says so when it is asked to end.
WAITS = """
import signal, sys, time
from pathlib import Path
def end(*_):
    Path(sys.argv[1] + ".ended").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1]).touch()
time.sleep(60)
"""


def make_job(name: str, code: str, folder: Path) -> Job:
    return Job(
        name, [sys.executable, "-c", code, str(folder / name)], folder / f"{name}.log", lambda: (0, None, "runs")
    )


def test_jobs_run_at_the_same_time_and_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    meets = """
import os, sys, time
from pathlib import Path
own = Path(sys.argv[1])
own.touch()
while not {Path(own.parent / name).exists() for name in "ab"} == {True}:
    time.sleep(0.01)
print(os.environ["OMP_NUM_THREADS"])
"""
    run_beside([make_job(name, meets, tmp_path) for name in "ab"], cores=4)
    assert [(tmp_path / f"{name}.log").read_text() for name in "ab"] == ["2\n", "2\n"]


def test_on_one_core_they_run_one_after_the_other(tmp_path):
    alone = (
        "import sys; from pathlib import Path; at = Path(sys.argv[1]); print([p.suffix for p in at.parent.iterdir()])"
    )
    run_beside([make_job(name, alone, tmp_path) for name in "ab"], cores=1)
    assert (tmp_path / "a.log").read_text() == "['.log']\n" and (tmp_path / "b.log").read_text() == "['.log', '.log']\n"


def test_one_that_fails_ends_the_others_and_shows_what_it_said(tmp_path, capsys):
    fails = f"""
import time
from pathlib import Path
while not Path({str(tmp_path / "other")!r}).exists():
    time.sleep(0.01)
print("no room left")
raise SystemExit(3)
"""
    with pytest.raises(SystemExit, match=r"failed with status 3; its whole output is in .*bad\.log"):
        run_beside([make_job("other", WAITS, tmp_path), make_job("bad", fails, tmp_path)], cores=2)
    assert "no room left" in capsys.readouterr().err and (tmp_path / "other.ended").exists()


def test_ctrl_c_ends_all_of_them(tmp_path):
    code = f"""
import signal
from pathlib import Path
from tests.launch.test_beside import WAITS, make_job
from launch.beside import run_beside
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs lack
run_beside([make_job(name, WAITS, Path({str(tmp_path)!r})) for name in "ab"], cores=2)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE) as running:
        while not all((tmp_path / name).exists() for name in "ab"):
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=30)[1]
    assert b"KeyboardInterrupt" in said and all((tmp_path / f"{name}.ended").exists() for name in "ab")
