"""What a shard costs, how it grows, and what else the reckoning of docs/scale.md needs.

    OMP_NUM_THREADS=1 python benchmarks/scale.py                              on one core
    OMP_NUM_THREADS=1 python benchmarks/scale.py --parts search --dimension 128 --factory IVF1024,PQ16x8
    python benchmarks/scale.py --parts service --url http://127.0.0.1:8000    a service that runs, one client

The codes are random, in 4,000 Gaussian clusters. CPU s are one core's; milliseconds are a clock's.
"""

import argparse
import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

import smim
from smim.search import factory as factories
from smim.search.manifest import Manifest
from smim.search.query import Hit, Options
from smim.search.segment import ROWS_PER_BATCH, write_segment
from smim.serve.cluster import merged
from smim.serve.shard import Shard
from smim.text.corpus import Corpus

ROOT = Path(__file__).resolve().parents[1]
CHUNK = ROWS_PER_BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {part.__name__: part for part in (encoding, rows, search, coarse, merging, service)}
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts)[:-1])
    parser.add_argument("--model", type=Path, default=ROOT / "runs/ptb_amim_512/model")
    parser.add_argument("--corpora", type=Path, nargs="+", default=[ROOT / "data/ptb", ROOT / "data/yelp_short"])
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 100_000, 200_000, 400_000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--factory", default="IVF1024,PQ64x8")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    args = parser.parse_args()
    for name in args.parts:
        print(f"-- {name}, {faiss.omp_get_max_threads()} threads, load {os.getloadavg()[0]:.1f}", flush=True)
        parts[name](args)


def milliseconds(function: Callable[[int], Any], times: int) -> str:
    taken = []
    for i in range(5 + times):
        start = time.perf_counter()
        function(i)
        taken.append(1000 * (time.perf_counter() - start))
    return "{:.2f} ms median, {:.2f} ms at 95 %".format(*np.quantile(taken[5:], [0.5, 0.95]))


def encoding(args: argparse.Namespace) -> None:
    model, texts = smim.load(args.model, device="cpu"), Corpus.open(args.corpora[0]).split("train").texts()[:2000]
    model.encode(texts[:200])
    start = time.process_time()
    model.encode(texts)
    rate = len(texts) / (time.process_time() - start)
    print(f"{rate:,.0f} sentences a CPU s of {args.corpora[0].name}, {model.latent_dim} dimensions")


def rows(args: argparse.Namespace) -> None:
    for directory in args.corpora:
        split = Corpus.open(directory).split("train")
        with tempfile.NamedTemporaryFile() as named:
            table = split.table.select(["text", *split.label_columns]).combine_chunks()
            with pa.ipc.new_file(named.name, table.schema) as file:
                file.write_table(table, max_chunksize=ROWS_PER_BATCH)
            size = os.path.getsize(named.name) / len(split)
        print(f"{size:.0f} bytes a sentence of {directory.name}, labels {split.label_columns}")


def search(args: argparse.Namespace) -> None:
    centres = np.random.default_rng(0).standard_normal((4000, args.dimension), dtype=np.float32)

    def codes(seed: int, count: int = CHUNK) -> np.ndarray:
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((count, args.dimension), dtype=np.float32)
        return centres[rng.integers(len(centres), size=count)] + noise / 2

    trained = factories.make_vectors(args.factory, "l2", args.dimension)
    sample = codes(1, factories.training_size(trained, 10**9))
    start = time.process_time()
    trained.train(sample)
    print(f"training of {args.factory}: {time.process_time() - start:.1f} CPU s on {len(sample):,} codes", flush=True)
    for count in args.rows:
        with tempfile.TemporaryDirectory() as directory:
            start = time.process_time()
            part = _segment(Path(directory), count, args, faiss.clone_index(trained), codes)
            seconds = time.process_time() - start
            ask, queries = partial(Shard(directory).search, part), codes(2, 300)
            one = milliseconds(lambda i: ask(queries[i : i + 1], Options(10, settings=part.search)), 200)  # noqa: B023
        sizes = ", ".join(f"{name} {file.bytes / count:.1f}" for name, file in part.segments[0].files.items())
        print(f"{count:,} rows, {part.search}: one query {one}")
        print(
            f"    written in {seconds:.1f} CPU s, {count / seconds:,.0f} rows a CPU s; bytes a row: {sizes}", flush=True
        )


def _segment(directory: Path, count: int, args: argparse.Namespace, vectors: Any, codes: Any) -> Manifest:
    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table]]:
        for start in range(0, count, CHUNK):
            ids = np.arange(start, min(start + CHUNK, count))
            yield (
                ids,
                codes(3 + start, len(ids)),
                pa.table({"text": [f"sentence {i} of some words like others" for i in ids]}),
            )

    (folder := directory / "00000001").mkdir()
    kind: dict[str, Any] = {"factory": args.factory, "store": "fp16"}
    info = write_segment(folder, name=folder.name, vectors=vectors, chunks=chunks(), vector_of=np.arange(count), **kind)
    kind |= {"metric": "l2", "model": "", "model_hash": "", "tokenizer_hash": ""}
    kind |= {"dimension": args.dimension, "search": factories.default_search(args.factory)}
    return Manifest(**kind, version=1, next_id=count, columns=[], segments=[info])


def coarse(args: argparse.Namespace) -> None:
    for lists in (1024, 4096, 16_384, 131_072):
        centroids = np.random.default_rng(0).standard_normal((lists, args.dimension), dtype=np.float32)
        taken = milliseconds(lambda i: faiss.knn(centroids[i : i + 1], centroids, 32), 50)  # noqa: B023
        print(f"nearest 32 of {lists:,} lists: {taken}")


def merging(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    for shards, num_queries, k in ((8, 1, 10), (64, 1, 10), (64, 1, 100), (64, 256, 10)):
        distances = np.sort(rng.random((num_queries, shards, k), np.float32)).tolist()
        hits = [[[Hit(0, "", {}, each) for each in part] for part in parts] for parts in distances]
        taken = milliseconds(lambda _: [merged(parts, k) for parts in hits], 100)  # noqa: B023
        print(f"merge of {k} hits of {num_queries} queries from {shards} shards: {taken}")


def service(args: argparse.Namespace) -> None:
    def ask(path: str, **body: Any) -> Any:
        data, headers = json.dumps(body).encode() if body else None, {"Content-Type": "application/json"}
        return json.load(urllib.request.urlopen(urllib.request.Request(f"{args.url}/v1/{path}", data, headers)))

    queries = np.random.default_rng(0).standard_normal((205, ask("index")["dimension"])).tolist()
    taken = milliseconds(lambda i: ask("search", code=queries[i], k=10), 200)
    print(f"{ask('count')['count']:,} sentences, {len(queries[0])} dimensions, over HTTP: {taken}")


if __name__ == "__main__":
    main()
