"""Runs the steps of a long job: in this process, on all cores, or on a Ray cluster.

A step is a function of one picklable task. It writes files that are a function of the task alone and renames them in,
so that it may be run again, or twice at a time, and the bytes are the same.
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
# Tasks that wait at each worker: few, since a task may carry a byte for each of its sentences.
_TASKS_AHEAD = 3


@dataclass(frozen=True)
class EngineArgs:
    """Where the tasks of a job run, which decides the speed, never the bytes; a job's own settings inherit from it.

    `engine`: local or ray. `workers`: processes, or Ray tasks at a time; null for all there is room for. `address`: of
    a running Ray cluster; null starts one on this machine. Messages name settings of `section`, and `task_size`, which
    makes the tasks smaller.
    """

    section = "engine"
    task_size = "the tasks"

    engine: str = "local"
    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        refuse(self.problems())

    def problems(self) -> list[str]:
        """A message for each setting that cannot be."""
        problems = not_among(self, self.section, engine=_ENGINES) + too_low(self, self.section, workers=1)
        if self.address and self.engine != "ray":
            problems.append(f"{self.section}.address is for {self.section}.engine=ray")
        return problems


class Engine(Protocol):
    """Runs a function on each task; results come as they are ready, each with the number of its task.

    `workers`: how many tasks run at a time.
    """

    workers: int

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]: ...


@contextmanager
def open_engine(args: EngineArgs, *, gpu: bool = False) -> Iterator[Engine]:
    """The engine that `args` ask for; no task of it runs any more when the block is left.

    `gpu`: each task gets a GPU of its own where the Ray cluster has some.
    """
    engine = _Ray(args, gpu=gpu) if args.engine == "ray" else _Local(args)
    try:
        yield engine
    finally:
        engine.close()


def run_all(engine: Engine, function: Callable[[T], R], tasks: Sequence[T], name: str, sizes: Sequence[int]) -> list[R]:
    """What a step gives of each task, in their order, under a progress bar; `sizes`: the bytes of each task."""
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
    """The handle of each task, as it finishes, with at most so many submitted; the caller takes it out of `running`."""
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
        # macOS does not tell which cores are a process's own.
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
                f"a worker process was killed, perhaps for want of memory: fewer {self.args.section}.workers or a "
                f"smaller {self.args.task_size} need less. The same command goes on from here"
            ) from None

    def close(self) -> None:
        if self.pool is not None:
            try:
                self.pool.shutdown(wait=True, cancel_futures=True)
            except KeyboardInterrupt:  # a second one: the tasks in progress are not waited for
                for worker in multiprocessing.active_children():
                    worker.kill()
                raise


class _Ray:
    """Tasks on a Ray cluster whose machines share the file system and have the project at the same place."""

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
                raise UserError(f"no Ray cluster at {args.section}.address={args.address}: {error}") from None
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
                "The same command goes on from here"
            ) from None

    def _stop(self, references: list[Any]) -> None:
        for reference in references:
            self.ray.cancel(reference)
        self.ray.wait(references, num_returns=len(references))

    def close(self) -> None:
        if self.started:
            self.ray.shutdown()


def _path_of_workers() -> str:
    """Where Ray's workers look for modules: in the project, and where this process does."""
    return os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))


def _knock(address: str) -> None:
    """Raises `OSError` where nobody listens at HOST:PORT: Ray itself would go on trying for a long time."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()


def _start_worker() -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
