"""A pipeline and its service on a simulated Ray cluster of three nodes, of which one is lost at each stage."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_prep.corpora.many import Many
from smim.search import open_index
from tests.serve.test_cluster import Running, expected
from tests.test_pipeline import CONFIG, OUT, begin, contents, log, write_config, write_text

# What a task of each stage is called, as Ray shows it in the list of processes.
TASKS = {"prepare": "encode_part", "encode": "encode_task", "index": "build_segment"}
MANY_TASKS: dict[str, Any] = {
    "prepare": CONFIG["prepare"] | {"corpus.shard_bytes": 4000},
    "encode": {"rows_per_shard": 50},
    "index": {"factory": "IVF16,PQ8x4", "segments": 12},
}


class Nodes:
    """A Ray cluster of a head and two more nodes on this machine; the head stays, and another node can be lost."""

    def __init__(self, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.cpus = cpus
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
        self.others = [self.cluster.add_node(num_cpus=cpus) for _ in range(2)]

    @property
    def address(self) -> str:
        return self.cluster.address

    def processes(self, number: int) -> list[psutil.Process]:
        """The processes of a node that is not the head: its own, and the workers."""
        [raylet] = [info.process.pid for info in self.others[number].all_processes["raylet"]]
        return [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]

    def runs(self, number: int, name: str) -> bool:
        """Whether a worker of a node runs a task, or holds an actor, of this name."""
        for process in self.processes(number):
            with suppress(psutil.NoSuchProcess):
                if f"ray::{name}" in "".join(process.cmdline()):
                    return True
        return False

    def lose(self, number: int) -> None:
        """Kill all processes of a node."""
        for process in self.processes(number):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.cluster.remove_node(self.others.pop(number), allow_graceful=False)

    def add(self) -> None:
        self.others.append(self.cluster.add_node(num_cpus=self.cpus))


@contextmanager
def nodes(cpus: int) -> Iterator[Nodes]:
    pytest.importorskip("ray")
    opened = Nodes(cpus)
    try:
        yield opened
    finally:
        opened.cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_node_is_lost_at_each_stage_and_while_serving(tmp_path, monkeypatch):
    """The stages have the same bytes as without Ray, and the service has the same answers as one process.

    SMIM_KILL_SENTENCES is the number of sentences.
    """
    pytest.importorskip("ray.serve")
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path, int(os.environ.get("SMIM_KILL_SENTENCES", "3000")))
    write_config(**MANY_TASKS)
    assert begin("--workers=2").wait() == 0, Path("log").read_text()
    same = contents()
    shutil.rmtree(OUT)
    with nodes(cpus=1) as three:
        run = begin("--engine=ray", f"--ray-address={three.address}")
        for stage, task in TASKS.items():
            while not three.runs(0, task):
                assert run.poll() is None, Path("log").read_text()
                time.sleep(0.005)
            three.lose(0)
            three.add()
        assert run.wait() == 0, Path("log").read_text()
    assert [line["stage"] for line in log()] == ["prepare", "train", "encode", "index", "report"]
    assert contents() == same
    assert not list(OUT.rglob(".*.partial"))
