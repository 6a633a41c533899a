"""Measure the cost and the growth of a shard, and the other numbers behind docs/scale.md.

    python benchmarks/scale.py encoding runs/ptb_amim_512/model data/ptb    sentences per CPU second
    python benchmarks/scale.py rows data/ptb data/yelp_short                bytes per sentence of text and labels
    python benchmarks/scale.py search --dimension 128 --factory IVF1024,PQ16x8    training, writing, searching a shard
    python benchmarks/scale.py coarse                                       finding the nearest of many lists
    python benchmarks/scale.py merging                                      merging the hits of many shards
    python benchmarks/scale.py service --url http://127.0.0.1:8000          a running service with one client

Run each on one core, with OMP_NUM_THREADS=1. The codes are random, in 4,000 Gaussian clusters. CPU seconds are those of
one core; milliseconds are elapsed time.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import pyarrow as pa
import typer

import smim
from benchmarks import common
from smim.search import factory as factories
from smim.search.manifest import Manifest
from smim.search.query import Hit, Options
from smim.search.segment import ROWS_PER_BATCH, write_segment
from smim.serve import Client
from smim.serve.cluster import merged
from smim.serve.shard import Shard
from smim.text.corpus import Corpus

CHUNK = 10_000
Dimension = Annotated[int, typer.Option(help="Dimensions of the codes.")]


def milliseconds(function: Callable[[int], Any], times: int) -> str:
    taken = []
    for i in range(5 + times):
        start = time.perf_counter()
        function(i)
        taken.append(1000 * (time.perf_counter() - start))
    return "{:.2f} ms median, {:.2f} ms at 95 %".format(*np.quantile(taken[5:], [0.5, 0.95]))


def encoding(model: Path, corpus: Path) -> None:
    loaded, texts = smim.load(model, device="cpu"), Corpus.open(corpus).split("train").texts()[:2000]
    loaded.encode(texts[:200])
    start = time.process_time()
    loaded.encode(texts)
    rate = len(texts) / (time.process_time() - start)
    print(f"{rate:,.0f} sentences a CPU s of {corpus.name}, {loaded.latent_dim} dimensions")


def rows(corpora: list[Path]) -> None:
    for directory in corpora:
        split = Corpus.open(directory).split("train")
        with tempfile.NamedTemporaryFile() as named:
            table = split.table.select(["text", *split.label_columns]).combine_chunks()
            with pa.ipc.new_file(named.name, table.schema) as file:
                file.write_table(table, max_chunksize=ROWS_PER_BATCH)
            size = os.path.getsize(named.name) / len(split)
        print(f"{size:.0f} bytes a sentence of {directory.name}, labels {split.label_columns}")


def search(
    dimension: Dimension = 512,
    factory: str = "IVF1024,PQ64x8",
    num_rows: Annotated[list[int], typer.Option("--rows", help="May be repeated.")] = [  # noqa: B006
        50_000,
        100_000,
        200_000,
        400_000,
    ],
) -> None:
    centres = np.random.default_rng(0).standard_normal((4000, dimension), dtype=np.float32)

    def codes(seed: int, count: int = CHUNK) -> np.ndarray:
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((count, dimension), dtype=np.float32)
        return centres[rng.integers(len(centres), size=count)] + noise / 2

    trained = factories.make_vectors(factory, "l2", dimension)
    sample = codes(1, factories.training_size(trained, 10**9))
    start = time.process_time()
    trained.train(sample)
    print(f"training of {factory}: {time.process_time() - start:.1f} CPU s on {len(sample):,} codes", flush=True)
    for count in num_rows:
        with tempfile.TemporaryDirectory() as directory:
            start = time.process_time()
            part = _segment(Path(directory), count, factory, faiss.clone_index(trained), codes)
            seconds = time.process_time() - start
            shard, queries, options = Shard(directory), codes(2, 300), Options(10, settings=part.search)
            one = milliseconds(lambda i: shard.search(part, queries[i : i + 1], options), 200)  # noqa: B023
        sizes = ", ".join(f"{name} {file.bytes / count:.1f}" for name, file in part.segments[0].files.items())
        print(f"{count:,} rows, {part.search}: one query {one}")
        print(
            f"    written in {seconds:.1f} CPU s, {count / seconds:,.0f} rows a CPU s; bytes a row: {sizes}", flush=True
        )


def _segment(directory: Path, count: int, factory: str, vectors: faiss.Index, codes: Any) -> Manifest:
    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table]]:
        for start in range(0, count, CHUNK):
            ids = np.arange(start, min(start + CHUNK, count))
            yield (
                ids,
                codes(3 + start, len(ids)),
                pa.table({"text": [f"sentence {i} of some words like others" for i in ids]}),
            )

    (folder := directory / "00000001").mkdir()
    kind: dict[str, Any] = {"factory": factory, "store": "fp16"}
    info = write_segment(folder, name=folder.name, vectors=vectors, chunks=chunks(), vector_of=np.arange(count), **kind)
    return Manifest(
        **kind,
        model="",
        model_hash="",
        tokenizer_hash="",
        metric="l2",
        dimension=vectors.d,
        search=factories.default_search(factory),
        version=1,
        next_id=count,
        columns=[],
        segments=[info],
    )


def coarse(dimension: Dimension = 512) -> None:
    for lists in (1024, 4096, 16_384, 131_072):
        centroids = np.random.default_rng(0).standard_normal((lists, dimension), dtype=np.float32)
        taken = milliseconds(lambda i: faiss.knn(centroids[i : i + 1], centroids, 32), 50)  # noqa: B023
        print(f"nearest 32 of {lists:,} lists: {taken}")


def merging() -> None:
    rng = np.random.default_rng(0)
    for shards, num_queries, k in ((8, 1, 10), (64, 1, 10), (64, 1, 100), (64, 256, 10)):
        distances = np.sort(rng.random((num_queries, shards, k), np.float32)).tolist()
        hits = [[[Hit(0, "", {}, each) for each in part] for part in parts] for parts in distances]
        options = Options(k)
        taken = milliseconds(lambda _: [merged(parts, options) for parts in hits], 100)  # noqa: B023
        print(f"merge of {k} hits of {num_queries} queries from {shards} shards: {taken}")


def service(url: str = "http://127.0.0.1:8000") -> None:
    client = Client(url)
    queries = np.random.default_rng(0).standard_normal((205, client.index().dimension))
    taken = milliseconds(lambda i: client.search(code=queries[i].tolist(), k=10), 200)
    print(f"{client.count():,} sentences, {queries.shape[1]} dimensions, over HTTP: {taken}")


if __name__ == "__main__":
    common.main(__doc__, encoding, rows, search, coarse, merging, service)
