"""Measure one run from text to answers: N distinct sentences, generated, prepared, encoded, indexed, searched, served.

    OMP_NUM_THREADS=1 python benchmarks/pipeline.py 1000000 3000000 10000000 -o scale

The sentences are those of `data_prep/corpora/many.py`. `smim pipeline` prepares them, trains a small GRU on a sample
(the first steps of the first epoch), encodes them, indexes them by IVF-PQ, and measures the index. The queries are
further sentences, which the index does not hold.

OUTPUT/N.json gets seconds, peak memory over all processes, bytes on disk and answers per second of each stage. What is
measured is not measured again, and a stage that was killed continues, so the same command continues. If a stage was
interrupted, its seconds are those of the last attempt.
"""

import contextlib
import http.client
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import common
from data_prep.corpora.many import Many
from smim import pipeline, storage
from smim.engine import EngineArgs

PER_FILE = 250_000
# The memory of building an index is that of one segment for each worker.
PER_SEGMENT = 1_250_000
QUERIES = 2_000
_MEASURED = ("seconds", "cpu_seconds", "peak_memory", "bytes", "peak_disk")
CONFIG = """\
output: {folder}/pipeline
prepare:
  corpus: {{path: {folder}/text, name: many, deduplicate: true, valid: {share}, test: {share}}}
  corpus.tokenizer.splitter: whitespace
train:
  model: {{latent_dim: 64, hidden_dim: 128, embedding_dim: 64}}
  train: {{batch_size: 128, max_steps: {steps}, learning_rate: 3e-3, trackers: []}}
index: {{factory: "{factory}", store: fp16, segments: {segments}}}
"""


def run(
    sentences: list[int],
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("scale"),
    workers: Annotated[int, typer.Option(help="Processes of preparation and encoding.")] = 2,
    engine: Annotated[str, typer.Option(metavar="local|ray")] = "local",
    nodes: Annotated[int, typer.Option(help="Of a simulated Ray cluster with one CPU each, with --engine ray.")] = 0,
    steps: Annotated[int, typer.Option(help="Training steps of 128 sentences.")] = 2_000,
    factory: str = "IVF4096,PQ16x8",
    segments: Annotated[int | None, typer.Option(help=f"Of the index; default: of {PER_SEGMENT:,} rows.")] = None,
    clients: Annotated[list[int], typer.Option(help="May be repeated.")] = [1, 8, 64],  # noqa: B006
    seconds: Annotated[int, typer.Option(help="Duration of each measurement of the service.")] = 15,
    free_inputs: Annotated[
        bool, typer.Option(help="Remove corpus, latents and checkpoints once the index is verified.")
    ] = True,
) -> None:
    """Run the numbers of sentences one after the other."""
    on = ["--engine", engine, "--workers", nodes or workers]
    if nodes:
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        on += ["--ray-address", cluster.address]
    for count in sentences:
        if count + QUERIES > len(Many()):
            raise SystemExit(f"the grammar has {len(Many()):,} sentences, {QUERIES:,} of them for queries")
        folder = output / str(count)
        (folder / "text").mkdir(parents=True, exist_ok=True)
        config = folder / "pipeline.yaml"
        # About 1,000 sentences each for validation and test.
        share = min(0.05, 1000 / count)
        num = segments or -(-count // PER_SEGMENT)
        config.write_text(CONFIG.format(folder=folder, share=share, steps=steps, factory=factory, segments=num))
        results = _Results(output / f"{count}.json")
        results.add("generate", lambda: _generate(folder / "text", count, workers))  # noqa: B023
        pipelined = ["pipeline", config, *on]
        results.add("distinct", lambda: _distinct(config, count, pipelined))  # noqa: B023
        _smim(*pipelined, *["--free-inputs"] * free_inputs)
        planned = _planned(config)
        lines = [json.loads(line) for line in (folder / "pipeline" / pipeline.LOG).read_text().splitlines()]
        for stage in planned:
            [*_, line] = (each for each in lines if each["output"] == stage.output.name and not each["status"])
            results.set(stage.name, {name: line[name] for name in _MEASURED})
        found = storage.read_json(planned[-1].output)
        results.set("recall", {name: found[name] for name in ("count", "k", "current")})
        index = planned[-2].output
        results.add("search", lambda: _in_process(_search, index, count))  # noqa: B023
        for number in clients:
            results.add(f"serve {number}", lambda: _serve(index, count, number, seconds))  # noqa: B023
        print(json.dumps(results.content, indent=1))


class _Results:
    """The results of one number of sentences, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = storage.read_json(path) if path.exists() else {}

    def add(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure, unless it was measured before."""
        if name not in self.content:
            self.set(name, measure())

    def set(self, name: str, value: Any) -> None:
        self.content[name] = value
        storage.write_json(self.path, self.content)


def _smim(*arguments: Any) -> None:
    command = [sys.executable, "-m", "smim", *map(str, arguments)]
    if status := subprocess.run(command).returncode:
        sys.exit(status)


def _planned(config: Path) -> list[pipeline.Stage]:
    return pipeline.stages(pipeline.PipelineArgs.read(config), EngineArgs())


def _generate(folder: Path, count: int, workers: int) -> dict[str, Any]:
    started, many = time.perf_counter(), Many()
    for stale in folder.glob(".*.partial"):  # left by a killed process
        stale.unlink()
    rows = [range(start, min(start + PER_FILE, count)) for start in range(0, count, PER_FILE)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(many.write, folder), rows))
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"seconds": time.perf_counter() - started, "bytes": size}


def _distinct(config: Path, count: int, pipelined: list[Any]) -> bool:
    """Whether preparation, which leaves out repeated sentences, has kept all of them; ends the run if not."""
    _smim(*pipelined, "--until", "prepare")
    card = storage.read_json(_planned(config)[0].output / "corpus.json")
    kept = sum(split["sentences"] for split in card["splits"].values())
    if kept != count:
        raise SystemExit(f"{kept:,} of {count:,} sentences are in the corpus; left out: {card['left_out']}")
    return True


def _in_process(measure: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    found, peak = common.in_process(measure, *args)
    return {**found, "peak_memory": peak}


def _queries(count: int) -> list[str]:
    many = Many()
    return [many[count + number] for number in range(QUERIES)]


def _search(index: Path, count: int) -> dict[str, Any]:
    """Measure searches by text in this process: one at a time, and in batches of 64."""
    from smim.search import open_index

    opened, texts = open_index(index), _queries(count)
    opened.search(texts[:64], 10)
    taken = []
    for text in texts[:500]:
        started = time.perf_counter()
        opened.search([text], 10)
        taken.append(time.perf_counter() - started)
    started = time.perf_counter()
    for start in range(0, len(texts), 64):
        opened.search(texts[start : start + 64], 10)
    return {"answers_per_second": len(texts) / (time.perf_counter() - started), **_quantiles(taken)}


def _serve(index: Path, count: int, clients: int, seconds: int) -> dict[str, Any]:
    """Measure `smim serve` with clients that send searches by text without pause, from one other process."""
    log = index.parent / "serve.log"
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with common.served(index, log, "--no-page") as (port, process), pool:
        asked = pool.submit(_ask, port, count, clients, seconds)
        peak = common.peak_memory(process, lambda: not asked.done())
        return {**asked.result(), "peak_memory": peak}


def _ask(port: int, count: int, clients: int, seconds: int) -> dict[str, Any]:
    bodies = itertools.cycle([json.dumps({"text": text, "k": 10}) for text in _queries(count)])
    deadline = time.perf_counter() + seconds

    def client(_: int) -> list[float]:
        taken = []
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while (started := time.perf_counter()) < deadline:
                connection.request("POST", "/v1/search", next(bodies), {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    raise SystemExit(f"the service answered with status {response.status}")
                taken.append(time.perf_counter() - started)
        return taken

    with ThreadPoolExecutor(clients) as pool:
        taken = [each for own in pool.map(client, range(clients)) for each in own]
    return {"answers_per_second": len(taken) / seconds, **_quantiles(taken)}


def _quantiles(seconds: list[float]) -> dict[str, float]:
    median, high = np.quantile(seconds, [0.5, 0.99])
    return {"median_ms": 1000 * median, "p99_ms": 1000 * high}


if __name__ == "__main__":
    common.main(__doc__, run)
