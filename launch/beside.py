"""Run commands in parallel, each with its share of the cores, a log file, and a progress bar."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from smim.progress import console, progress_bar

_LOOK_AGAIN = 0.5  # seconds
_LINES_SHOWN = 20  # last lines of a failed command's log


@dataclass
class Job:
    """A command of this environment, with its log and progress.

    `log`: the file for its output. `progress`: gives the finished amount, the total, and a short text.
    """

    name: str
    command: list[str]
    log: Path
    progress: Callable[[], tuple[float, float | None, str]]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, *, threads: int) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)


def run_beside(jobs: Sequence[Job], *, cores: int | None = None) -> None:
    """Run all jobs, at most as many at a time as there are `cores` (this machine's), until the last has ended.

    If a job fails, the others and the program end, and the end of its log is printed. Ctrl-C and SIGTERM end them too:
    each job gets SIGTERM and may save its state.
    """
    cores = cores or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    at_once = min(len(jobs), cores)
    started, waiting, running = time.monotonic(), list(jobs), list[Job]()
    with progress_bar() as bar:
        tasks = {job.name: bar.add_task(f"{job.name}: waiting", total=None, start=False) for job in jobs}
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(waiting.pop(0))
                    bar.start_task(tasks[running[-1].name])
                    running[-1].start(threads=max(1, cores // at_once))
                time.sleep(_LOOK_AGAIN)
                for job in running.copy():
                    assert job.process is not None
                    done, total, text = job.progress()
                    bar.update(tasks[job.name], completed=done, total=total, description=f"{job.name}: {text}")
                    if job.process.poll() is None:
                        continue
                    running.remove(job)
                    if job.process.returncode:
                        _fail(job)
                    bar.remove_task(tasks[job.name])
                    console.print(f"{job.name}: finished after {time.monotonic() - started:.0f} s")
        finally:
            _end(running)


def _fail(job: Job) -> None:
    lines = job.log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
    print(*lines, sep="\n", file=sys.stderr)
    assert job.process is not None
    sys.exit(f"{' '.join(job.command)} failed with status {job.process.returncode}; its whole output is in {job.log}")


def _end(running: Sequence[Job]) -> None:
    """Let jobs end by themselves; a second Ctrl-C kills them."""
    processes = [job.process for job in running if job.process and job.process.poll() is None]
    if processes:
        console.print("stopping the running jobs; they save their state")
    try:
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        raise
