"""A pipeline and a service on a simulated Ray cluster of three nodes, of which one is lost at each stage."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest

from smim.search import open_index
from tests.serve.test_cluster import Running, expected
from tests.test_pipeline import CONFIG, OUT, begin, contents, log, write_config, write_text

MANY_TASKS: dict[str, Any] = {
    "prepare": CONFIG["prepare"] | {"corpus.shard_bytes": 4000},
    "encode": {"rows_per_shard": 50},
    "index": {"factory": "IVF16,PQ8x4", "segments": 12},
}
TASKS = {"prepare": "read_piece", "encode": "encode_task", "index": "build_segment"}


class Nodes:
    """A Ray cluster on this machine: a head, which stays, and two other nodes, which can be lost."""

    def __init__(self, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.cpus = cpus
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
        self.others = [self.cluster.add_node(num_cpus=cpus) for _ in range(2)]

    def processes(self, number: int) -> list[psutil.Process]:
        """Another node's main process, and all its workers."""
        [raylet] = self.others[number].all_processes["raylet"]
        main = psutil.Process(raylet.process.pid)
        return [main, *main.children(recursive=True)]

    def at_work(self, number: int) -> list[str]:
        """The tasks that another node runs, and the deployments of its replicas, by the titles of its processes."""
        titles = []
        for process in self.processes(number):
            with suppress(psutil.NoSuchProcess):
                titles.append("".join(process.cmdline()).split(".")[0])
        return [title.removeprefix("ray::") for title in titles if title.startswith("ray::")]

    def lose(self, number: int) -> None:
        """Kill all processes of another node, and let a new node join."""
        for process in self.processes(number):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.cluster.remove_node(self.others.pop(number), allow_graceful=False)
        self.others.append(self.cluster.add_node(num_cpus=self.cpus))


@contextmanager
def three_nodes(cpus: int) -> Iterator[Nodes]:
    nodes = Nodes(cpus)
    try:
        yield nodes
    finally:
        nodes.cluster.shutdown()


@contextmanager
def served(index: Path, nodes: Nodes) -> Iterator[Running]:
    """Three shards, two replicas of each, and two front ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--shards=3", "--replicas=2", "--frontends=2", "--timeout=10", f"--port={port}"]
    command = [sys.executable, "-m", "smim", "serve", "--index", str(index), *options]
    command.append(f"--ray-address={nodes.cluster.address}")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert f"serving on http://127.0.0.1:{port}" in process.stdout.readline()
        yield Running(process, port)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_lost_node_changes_neither_bytes_nor_answers(tmp_path, monkeypatch):
    """Each stage of the pipeline loses a node that runs one of its tasks, and so does the service.

    SMIM_KILL_SENTENCES is the number of sentences.
    """
    pytest.importorskip("ray.serve")
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path, int(os.environ.get("SMIM_KILL_SENTENCES", "3000")))
    write_config(**MANY_TASKS)
    assert begin("--workers=2").wait() == 0, Path("log").read_text()
    same = contents()
    shutil.rmtree(OUT)
    with three_nodes(cpus=1) as nodes:
        run = begin("--engine=ray", f"--ray-address={nodes.cluster.address}")
        for task in TASKS.values():
            while not (running := [number for number in range(2) if task in nodes.at_work(number)]):
                assert run.poll() is None, Path("log").read_text()
                time.sleep(0.005)
            nodes.lose(running[0])
        assert run.wait() == 0, Path("log").read_text()
    # No stage has failed.
    assert [line["stage"] for line in log()] == ["prepare", "train", "encode", "index", "report"]
    assert contents() == same
    assert not list(OUT.rglob(".*.partial"))

    [path] = OUT.glob("index-*")
    index = open_index(path)
    code = index.model.encode(["the company will sell shares"])
    with three_nodes(cpus=4) as nodes, served(path, nodes) as service:
        assert service.search(code[0], 20) == (expected(index, code, 20)[0], [])
        # A node with at most one replica of each deployment.
        at_work = [[name for name in nodes.at_work(number) if "smim:" in name] for number in range(2)]
        [number, *_] = [number for number, names in enumerate(at_work) if 0 < len(names) == len(set(names))]
        answers, failed = [], []

        def ask(until: float) -> None:
            while (begun := time.monotonic()) < until:
                try:
                    answers.append(service.search(code[0], 20))
                except (ConnectionError, HTTPError):
                    failed.append(begun)

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, time.monotonic() + 40)
            time.sleep(1)
            lost = time.monotonic()
            nodes.lose(number)
            asked.result()
        assert answers.count((expected(index, code, 20)[0], [])) == len(answers)
        # Only requests that the lost node had taken.
        assert all(begun < lost + 5 for begun in failed)
