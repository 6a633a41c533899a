"""`smim serve` in a process of its own, forked from one that has imported what it needs: importing takes seconds."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from smim.cli import main
from smim.search import Index
from tests.scripts import CONTEXT

_SECONDS = 60


class Served:
    """A process, and where what it prints goes."""

    def __init__(self, index: Index, *options: str, output: Path) -> None:
        self.stdout, self.stderr = output / "stdout", output / "stderr"
        command = ["smim", "serve", "--index", str(index.directory), "--port", "0", "--no-page", *options]
        self.process: BaseProcess = CONTEXT.Process(target=_run, args=(command, self.stdout, self.stderr))
        self.process.start()

    def address(self) -> str:
        """Where it listens, as soon as it says so."""
        for _ in range(20 * _SECONDS):
            line = self.stdout.read_text() if self.stdout.exists() else ""
            if line.endswith("\n"):
                assert line.startswith("serving on http://127.0.0.1:")
                return line.split()[2].rstrip(",")
            assert self.process.exitcode is None, self.stderr.read_text()
            time.sleep(0.05)
        raise TimeoutError("it does not start")

    def status(self) -> int | None:
        """Its exit status, when it has ended."""
        self.process.join(_SECONDS)
        return self.process.exitcode

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


@contextmanager
def served(index: Index, output: Path, *options: str) -> Iterator[tuple[Served, str]]:
    """A service and its address."""
    service = Served(index, *options, output=output)
    try:
        yield service, service.address()
    finally:
        service.process.kill()
        service.process.join()


def _run(command: list[str], stdout: Path, stderr: Path) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, most))  # as shells set it
    torch.set_num_threads(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.argv = command
    main()
