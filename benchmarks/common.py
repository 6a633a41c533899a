"""Helpers of the benchmarks: command line, alternating runs, separate processes, memory, and a service.

A command is a function whose parameters are its arguments and options. Run nothing else at the same time.
"""

import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
import re
import selectors
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import typer

from smim import storage
from smim.pipeline import memory
from smim.search import open_index

ROOT = Path(__file__).resolve().parents[1]

Estimate = dict[str, float]


def main(doc: str | None, *commands: Callable[..., None]) -> None:
    """Run the command of the command line. Print command, machine and versions to stderr, for the notes."""
    # Click does not wrap a paragraph that begins with \b.
    text = "\b\n" + (doc or "").replace("\n\n", "\n\n\b\n")
    app = typer.Typer(help=text, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    for command in commands:
        app.command(help=text if len(commands) == 1 else None)(command)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(
        f"$ python {shlex.join(sys.argv)}\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}, torch {importlib.metadata.version('torch')}, "
        f"commit {commit.strip()}",
        file=sys.stderr,
    )
    app()


def rates(ways: Mapping[str, Callable[[], float]], rounds: int, unit: str) -> dict[str, list[float]]:
    """Measure the work per second of each way in each round. A way returns its amount of work. The ways alternate."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(list(ways)):
            started = time.perf_counter()
            work = ways[name]()
            seconds = time.perf_counter() - started
            found[name].append(work / seconds)
            print(f"  {name:24} {seconds:10.3f} s  {work / seconds:12,.4g} {unit}/s", flush=True)
    return found


def ratio(found: Mapping[str, list[float]], name: str, baseline: str) -> None:
    """Print the speed of one way relative to another, round by round: median and range."""
    ratios = [rate / base for rate, base in zip(found[name], found[baseline], strict=True)]
    print(
        f"  {name} / {baseline}: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)"
    )


def estimate(values: Any) -> Estimate:
    """Compute the mean of values and its standard error."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return {"value": float(array.mean()), "error": float(array.std(ddof=1) / len(array) ** 0.5)}


def save(found: Mapping[str, Mapping[str, Estimate]], output: Path | None) -> None:
    """Print the metrics of each model, and write them as JSON if `output` is given."""
    for model, metrics in found.items():
        for name, metric in metrics.items():
            print(f"{model}  {name}  {metric['value']:.4g} ± {metric['error']:.2g}")
    if output:
        storage.write_json(output, found)


def in_process(function: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """Call a function in a separate process. Return its result and the peak of that process's `memory`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result()
        future = pool.submit(function, *args)
        peak = peak_memory(pid, lambda: not future.done())
        return future.result(), peak


def peak_memory(pid: int, running: Callable[[], bool]) -> int:
    """Measure the largest `memory` of a process while it runs, in bytes."""
    peak = 0
    while running():
        peak = max(peak, memory(pid))
        time.sleep(0.1)
    return peak


@contextlib.contextmanager
def served(index: Path, log: Path, *options: str | Path, checkout: Path = ROOT) -> Iterator[tuple[int, int]]:
    """Start a service over an index. Yields its port on loopback and its process id; stderr goes to `log`.

    `checkout`: the clone whose code it runs.
    """
    command = [sys.executable, "-m", "smim", "serve", "--index", index.resolve(), "--port", "0", *options]
    path = {"PYTHONPATH": os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log.open("w"), text=True, cwd=checkout, env=os.environ | path
    ) as run:
        try:
            started = re.search(r":(\d+), process (\d+)", run.stdout.readline() if run.stdout else "")
            if started is None:
                sys.exit(log.read_text())
            yield int(started[1]), int(started[2])
        finally:
            run.terminate()


def searches(index: Path, num: int = 3_000) -> list[bytes]:
    """Make HTTP requests for ten hits of random sentences of an index."""
    opened = open_index(index)
    rows = np.random.default_rng(0).choice(len(opened), min(len(opened), num), replace=False).tolist()
    bodies = [json.dumps({"text": row.text, "k": 10}).encode() for row in opened.get(rows)]
    head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def send(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> list[float]:
    """Send requests in turn over `clients` connections, each as soon as the one before is answered with status 200.

    Returns the seconds of each answer. Run it in a separate process.
    """
    waits: list[float] = []
    upcoming = itertools.cycle(requests)
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as connections:
        started = dict[Any, float]()
        answer = dict[Any, bytes]()
        for _ in range(clients):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port)))
            selector.register(connection, selectors.EVENT_READ, connection)
            started[connection], answer[connection] = time.perf_counter(), b""
            connection.sendall(next(upcoming))
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            for key, _ in selector.select(end - now):
                connection = key.data
                answer[connection] += connection.recv(1 << 16)
                head, _, body = answer[connection].partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if not head.startswith(b"HTTP/1.1 200 ") or length is None:
                    raise RuntimeError(f"the service answers {answer[connection][:200]!r}")
                if len(body) == int(length[1]):
                    waits.append(time.perf_counter() - started[connection])
                    started[connection], answer[connection] = time.perf_counter(), b""
                    connection.sendall(next(upcoming))
    return waits
