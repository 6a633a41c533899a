"""Where steps run: errors of tasks and of workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smim.engine import EngineArgs, open_engine
from smim.errors import SmimError, UserError


def square(number: int) -> int:
    if number == 7:
        raise UserError("seven is refused")
    return number**2


def kill_itself(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def begin_and_sleep(mark: Path) -> None:
    mark.touch()
    time.sleep(100)


def process_id(number: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 3])
def test_each_task_is_run_once_and_told_by_its_number(workers):
    with open_engine(EngineArgs(workers=workers)) as engine:
        assert sorted(engine.map(square, range(20, 40))) == [(i, (20 + i) ** 2) for i in range(20)]
        assert list(engine.map(square, [])) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_of_a_task_reaches_the_caller_as_it_is(workers):
    with open_engine(EngineArgs(workers=workers)) as engine, pytest.raises(UserError, match=r"^seven is refused$"):
        list(engine.map(square, range(10)))


def test_a_killed_worker_is_told_in_words():
    with open_engine(EngineArgs(workers=2)) as engine, pytest.raises(SmimError, match="a worker process was killed"):
        list(engine.map(kill_itself, range(10)))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises as in a terminal; what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_does_not_wait_for_the_tasks_in_progress(interruptible, tmp_path):
    def interrupt_twice() -> None:
        while not (tmp_path / "0").exists():
            time.sleep(0.05)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    threading.Thread(target=interrupt_twice).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), open_engine(EngineArgs(workers=2)) as engine:
        list(engine.map(begin_and_sleep, [tmp_path / str(number) for number in range(5)]))
    while multiprocessing.active_children() and time.monotonic() - started < 60:
        time.sleep(0.05)
    assert time.monotonic() - started < 60


def test_a_single_task_needs_no_process_of_its_own():
    with open_engine(EngineArgs(workers=4)) as engine:
        assert [pid for _, pid in engine.map(process_id, [0])] == [os.getpid()]


@pytest.mark.slow
def test_ray_runs_tasks_and_passes_their_errors_on():
    pytest.importorskip("ray")
    with open_engine(EngineArgs(engine="ray", workers=2)) as engine:
        # A function that Ray's workers can import: this module is not on their path.
        assert sorted(engine.map(os.path.basename, ["a/b", "c/d"])) == [(0, "b"), (1, "d")]
        with pytest.raises(TypeError):
            list(engine.map(os.path.basename, [1, 2]))


@pytest.mark.slow
def test_a_killed_worker_of_ray_is_told_in_words():
    pytest.importorskip("ray")
    with (
        open_engine(EngineArgs(engine="ray", workers=2)) as engine,
        pytest.raises(SmimError, match=r"a worker of Ray was killed or did not start: .* continues from here"),
    ):
        list(engine.map(subprocess.getoutput, ["true", "kill -9 $PPID"]))


def test_ray_that_is_missing_is_told_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(UserError, match=r"pip install -c constraints\.txt -e '\.\[ray\]'"),
        open_engine(EngineArgs(engine="ray")),
    ):
        pass


def test_a_cluster_that_does_not_answer_is_told_at_once():
    pytest.importorskip("ray")
    with (
        pytest.raises(UserError, match=r"no Ray cluster answers at engine\.address=127\.0\.0\.1:1: .*refused"),
        open_engine(EngineArgs(engine="ray", address="127.0.0.1:1")),
    ):
        pass
