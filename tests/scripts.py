"""Scripts in processes of their own, forked from one that has imported what they need: importing takes seconds."""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
CONTEXT = multiprocessing.get_context("forkserver")
# Also what torch imports for the first optimizer, and Arrow for the first column that becomes an array.
CONTEXT.set_forkserver_preload(
    ["smim.train", "eval.run", "data_prep.build", "smim.serve.run", "torch._dynamo", "pandas"]
)


class Script:
    """`python SCRIPT ARGUMENTS...` in the root of the clone, with one thread, while it runs.

    Several `processes` of it have the environment that torchrun gives them.
    """

    def __init__(self, script: str, arguments: Sequence[str], *, processes: int = 1) -> None:
        self.command = [script, *arguments]
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._outputs = [(folder / f"stdout-{rank}", folder / f"stderr-{rank}") for rank in range(processes)]
        self.processes = [
            CONTEXT.Process(target=_run, args=(self.command, outputs, ranks))
            for outputs, ranks in zip(self._outputs, _ranks(processes), strict=True)
        ]
        for process in self.processes:
            process.start()

    @property
    def running(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def signal(self, number: int) -> None:
        """Sends a signal to those of its processes that have not ended."""
        for process in self.processes:
            assert process.pid is not None
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def kill(self) -> None:
        """Ends those of its processes that have not ended."""
        for process in self.processes:
            process.kill()

    def wait(self, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """What it printed and its exit status, when all of its processes have ended: the first that is not 0."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0, deadline - time.monotonic()))
        if any(process.exitcode is None for process in self.processes):
            self.kill()
            raise subprocess.TimeoutExpired(self.command, timeout)
        stdout, stderr = (
            "".join(path.read_text() for path in paths if path.exists()) for paths in zip(*self._outputs, strict=True)
        )
        self._folder.cleanup()
        status = next((process.exitcode for process in self.processes if process.exitcode), 0)
        return subprocess.CompletedProcess(self.command, status, stdout, stderr)


def run_script(
    script: str, arguments: Sequence[str], *, timeout: float = 120, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """A `Script` from its start to its end."""
    return Script(script, arguments, processes=processes).wait(timeout)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _ranks(processes: int) -> list[dict[str, str]]:
    """What torchrun puts into the environment of each process."""
    if processes == 1:
        return [{}]
    sizes = dict.fromkeys(["WORLD_SIZE", "LOCAL_WORLD_SIZE"], str(processes))
    shared = {**sizes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _run(command: list[str], outputs: tuple[Path, Path], environment: dict[str, str]) -> None:
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(ROOT)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = command
    sys.path.insert(0, str(ROOT / Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")
