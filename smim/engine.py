"""Run the steps of a long job: in this process, on all cores, or on a Ray cluster.

A step is a function of one picklable task. Its files depend only on the task, and it renames them into place. So a step
may run again, or twice at a time, and writes the same bytes.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from smim.errors import SmimError, UserError, not_among, refuse, too_low
from smim.progress import bytes_bar

T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H")

_ENGINES = ["local", "ray"]
_ROOT = Path(__file__).resolve().parents[1]
# Submitted tasks per worker: few, since a task may carry a byte for each of its sentences.
_TASKS_AHEAD = 3


@dataclass(frozen=True)
class EngineArgs:
    """Settings for where a job's tasks run. They affect speed, never the bytes; a job's own settings inherit from it.

    `engine`: local or ray. `workers`: processes, or Ray tasks at a time; null for as many as fit. `address`: the
    address of a running Ray cluster; null starts one on this machine. Messages name settings of `section`, and
    `task_size`, the setting that makes tasks smaller.
    """

    section = "engine"
    task_size = "the tasks"

    engine: str = "local"
    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        refuse(self.problems())

    def problems(self) -> list[str]:
        """A message for each invalid setting."""
        problems = not_among(self, self.section, engine=_ENGINES) + too_low(self, self.section, workers=1)
        if self.address and self.engine != "ray":
            problems.append(f"{self.section}.address works only with {self.section}.engine=ray")
        return problems


class Engine(Protocol):
    """Runs a function on each task; yields each result as soon as it is ready, with the task's number.

    `workers`: the number of tasks that run at a time.
    """

    workers: int

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]: ...


@contextmanager
def open_engine(args: EngineArgs, *, gpu: bool = False) -> Iterator[Engine]:
    """The engine of `args`; when the block ends, none of its tasks runs any more.

    `gpu`: each task gets its own GPU if the Ray cluster has GPUs.
    """
    engine = _Ray(args, gpu=gpu) if args.engine == "ray" else _Local(args)
    try:
        yield engine
    finally:
        engine.close()


def run_all(engine: Engine, function: Callable[[T], R], tasks: Sequence[T], name: str, sizes: Sequence[int]) -> list[R]:
    """The results of a step for all tasks, in order, with a progress bar; `sizes`: the bytes of each task."""
    results: dict[int, R] = {}
    with bytes_bar(name, total=sum(sizes)) as advance:
        for number, result in engine.map(function, tasks):
            results[number] = result
            advance(sizes[number])
    return [results[number] for number in range(len(tasks))]


def _few_ahead(
    tasks: Sequence[T],
    running: dict[H, int],
    *,
    most: int,
    submit: Callable[[T], H],
    finished: Callable[[list[H]], Iterable[H]],
) -> Iterator[H]:
    """Yield the handle of each finished task, with at most `most` submitted; the caller removes it from `running`."""
    waiting = iter(enumerate(tasks))
    while True:
        for number, task in islice(waiting, most - len(running)):
            running[submit(task)] = number
        if not running:
            return
        yield from finished(list(running))


class _Local:
    """Worker processes, started at the first step of more than one task."""

    def __init__(self, args: EngineArgs) -> None:
        self.args = args
        # macOS cannot list the cores of a process.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.workers = args.workers or cores or 1
        self.pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        if self.workers == 1 or len(tasks) < 2:
            for number, task in enumerate(tasks):
                yield number, function(task)
            return
        if self.pool is None:
            # Forking after Arrow has started threads can hang the child.
            self.pool = ProcessPoolExecutor(
                self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
            )
        pool = self.pool
        running: dict[Future[R], int] = {}
        try:
            for done in _few_ahead(
                tasks,
                running,
                most=self.workers * _TASKS_AHEAD,
                submit=lambda task: pool.submit(function, task),
                finished=lambda futures: wait(futures, return_when=FIRST_COMPLETED)[0],
            ):
                yield running.pop(done), done.result()
        except BrokenProcessPool:
            raise SmimError(
                f"a worker process was killed, perhaps because memory ran out; use fewer {self.args.section}.workers "
                f"or a smaller {self.args.task_size}. The same command continues from here"
            ) from None

    def close(self) -> None:
        if self.pool is not None:
            try:
                self.pool.shutdown(wait=True, cancel_futures=True)
            except KeyboardInterrupt:  # a second one: do not wait for running tasks
                for worker in multiprocessing.active_children():
                    worker.kill()
                raise


class _Ray:
    """Tasks on a Ray cluster. Its machines share the file system, and have the project at the same path."""

    def __init__(self, args: EngineArgs, *, gpu: bool) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError(
                f"{args.section}.engine=ray needs Ray; install it with `pip install -c constraints.txt -e '.[ray]'`"
            ) from None
        self.ray: Any = ray
        self.started = not ray.is_initialized()
        if self.started:
            try:
                if args.address:
                    _knock(args.address)
                ray.init(
                    address=args.address or "local",
                    num_cpus=None if args.address else args.workers,
                    include_dashboard=None if args.address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": {"PYTHONPATH": _path_of_workers()}},
                )
            except OSError as error:
                raise UserError(f"no Ray cluster answers at {args.section}.address={args.address}: {error}") from None
        there = ray.cluster_resources()
        self.gpus_per_task = 1 if gpu and there.get("GPU") else 0
        self.workers = args.workers or int(there["GPU"] if self.gpus_per_task else there.get("CPU", 1))

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        remote = self.ray.remote(function).options(num_gpus=self.gpus_per_task)
        running: dict[Any, int] = {}
        try:
            for done in _few_ahead(
                tasks,
                running,
                most=self.workers * _TASKS_AHEAD,
                submit=remote.remote,
                finished=lambda references: self.ray.wait(references, num_returns=1)[0],
            ):
                yield running.pop(done), self.ray.get(done)
        except self.ray.exceptions.RayTaskError as error:
            self._stop(list(running))
            raise error.cause from None
        except self.ray.exceptions.RayError as error:
            self._stop(list(running))
            raise SmimError(
                f"a worker of Ray was killed or did not start: {str(error).splitlines()[0]} "
                "The same command continues from here"
            ) from None

    def _stop(self, references: list[Any]) -> None:
        for reference in references:
            self.ray.cancel(reference)
        self.ray.wait(references, num_returns=len(references))

    def close(self) -> None:
        if self.started:
            self.ray.shutdown()


def _path_of_workers() -> str:
    """The module path of Ray's workers: the project, and the path of this process."""
    return os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))


def _knock(address: str) -> None:
    """Raise `OSError` if nothing listens at HOST:PORT: Ray itself would retry for a long time."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()


def _start_worker() -> None:
    """Let a worker ignore Ctrl-C, which its parent handles, and end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
