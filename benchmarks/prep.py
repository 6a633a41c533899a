"""How fast preparation is, beside the plain way, in one run; and how its time and memory grow with the input.

    python benchmarks/prep.py words         tokens/s of the word level, against datasets.map with split() and a dict
    python benchmarks/prep.py pieces        tokens/s of SentencePiece, against the library's own batch encoding
    python benchmarks/prep.py growth        seconds and peak memory of 0.5, 1, 2 and 4 GB of text
    python benchmarks/prep.py ray           Ray on a simulated cluster of two nodes, against local workers

What is compared alternates, and the ratio is reported with its spread. Nothing else should run meanwhile.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
_VOCABULARY = 1_000_000
_WORDS_PER_LINE = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["words", "pieces", "growth", "ray"])
    parser.add_argument("--rounds", type=int, default=5, help="of words, pieces and ray")
    parser.add_argument("--megabytes", type=int, default=300, help="of generated text for words, pieces and ray")
    parser.add_argument("--folder", type=Path, default=None, help="for the generated text; a temporary one if none")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, commit {commit.strip()}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        {"words": words, "pieces": pieces, "growth": growth, "ray": ray}[args.which](args, Path(folder))


def generate(path: Path, megabytes: float) -> int:
    """Writes lines of words by Zipf's law, as text has them; returns how many words there are.

    The law is steeper beyond the first 10,000 words, so that a million words have 57,000 distinct ones, and 23
    million have 250,000, which is about what English has.
    """
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 10, size=_VOCABULARY)
    letters = draw.integers(ord("a"), ord("z") + 1, size=(_VOCABULARY, 10)).astype(np.uint8)
    names = np.array([bytes(row[:length]).decode() for row, length in zip(letters, lengths, strict=True)], object)
    rank = np.arange(3, _VOCABULARY + 3)
    probabilities = np.minimum(1, 10_000 / rank) / rank
    cumulative = np.cumsum(probabilities / probabilities.sum())
    written = num_words = 0
    with open(path, "w") as file:
        while written < megabytes * 1e6:
            drawn = names[np.searchsorted(cumulative, draw.random((20_000, _WORDS_PER_LINE)))]
            text = "\n".join(map(" ".join, drawn)) + "\n"
            written += file.write(text)
            num_words += drawn.size
    return num_words


def words(args: argparse.Namespace, folder: Path) -> None:
    num_words = generate(folder / "text.txt", args.megabytes)
    build(folder, "text.txt", "text")  # so that both find the file in the cache

    def ours() -> None:
        build(folder, "text.txt", "text")

    def plain() -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        script = [sys.executable, __file__, "_plain", str(folder / "text.txt"), str(folder / "cache")]
        subprocess.run(script, check=True, capture_output=True)

    compare("from file to shards", ours, plain, num_words, args.rounds)


def plain_way(path: str, cache: str) -> None:
    """The file through `datasets`: a vocabulary by a loop, then `map` with `split()` and a dict on two processes."""
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("text", data_files=path, cache_dir=cache, split="train")
    counts: Counter[str] = Counter()
    for batch in loaded.iter(batch_size=1000):
        for text in batch["text"]:
            counts.update(text.split())
    kept = [word for word, count in counts.most_common() if count >= 2]
    ids = {word: number for number, word in enumerate(kept, start=4)}

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [[ids.get(word, 3) for word in text.split()] for text in batch["text"]]}

    loaded.map(encode, batched=True, num_proc=2)


def pieces(args: argparse.Namespace, folder: Path) -> None:
    """In one process with one thread each, over the same texts in the same batches."""
    from smim.text.pieces import SentencePieceTokenizer

    data = Path(os.environ.get("SMIM_DATA", ROOT.parent / "shared" / "data")) / "wikitext2" / "wiki.train.tokens.gz"
    import gzip

    import pyarrow as pa
    import sentencepiece

    with gzip.open(data, "rt", encoding="utf-8") as file:
        texts = [line.strip() for line in file if line.strip()]
    array = pa.array(texts, pa.string())
    for algorithm in ("unigram", "bpe"):
        tokenizer = SentencePieceTokenizer.train(texts, algorithm=algorithm, vocabulary_size=8000)
        library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
        num_tokens = sum(map(len, library.encode(texts)))
        compare(
            f"{algorithm}, 8000 pieces, WikiText-2",
            lambda tokenizer=tokenizer: tokenizer.encode_batch(array),
            lambda library=library: library.encode(texts, num_threads=1),
            num_tokens,
            args.rounds,
        )


def growth(args: argparse.Namespace, folder: Path) -> None:
    print("     GB   seconds   MB/s   peak memory of all processes, GB   tokens")
    for gigabytes in (0.5, 1, 2, 4):
        num_words = generate(folder / "text.txt", gigabytes * 1000)
        size = (folder / "text.txt").stat().st_size
        seconds, peak = build(folder, "text.txt", "text", measure_memory=True)
        print(f"{size / 1e9:7.2f}  {seconds:8.1f}  {size / 1e6 / seconds:5.0f}   {peak / 1e9:6.2f}   {num_words:,}")
        shutil.rmtree(folder / "out")


def ray(args: argparse.Namespace, folder: Path) -> None:
    """A cluster of two nodes of one core each in one process; the bytes are compared too."""
    from ray.cluster_utils import Cluster

    num_words = generate(folder / "text.txt", args.megabytes)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    address = ["prep.engine=ray", f"prep.address={cluster.address}"]
    try:
        compare(
            "Ray on two nodes of one core, against two local workers",
            lambda: build(folder, "text.txt", "by_ray", *address),
            lambda: build(folder, "text.txt", "local", "prep.workers=2"),
            num_words,
            args.rounds,
        )
    finally:
        cluster.shutdown()
    same = subprocess.run(["diff", "-r", folder / "by_ray", folder / "local"]).returncode == 0
    print("the same bytes" if same else "DIFFERENT BYTES")


def build(folder: Path, name: str, output: str, *overrides: str, measure_memory: bool = False) -> tuple[float, int]:
    """Builds a word-level corpus in a process of its own; seconds, and the peak of all its processes' memory."""
    output_dir = folder / ("out" if measure_memory else output)
    command = [
        *(sys.executable, "data_prep/build.py", "corpus=text", f"corpus.path={folder / name}", f"output={output_dir}"),
        *("corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=2", *overrides),
    ]
    if output_dir.exists():
        shutil.rmtree(output_dir)
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = _watch(process.pid, process) if measure_memory else 0
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(errors)
    if measure_memory:
        print("    " + "; ".join(errors.splitlines()))
    return time.monotonic() - started, peak


def _watch(pid: int, process: subprocess.Popen[str]) -> int:
    """The largest sum of the processes' private memory, looked at ten times a second.

    Files that are mapped into memory are the system's cache: it takes them back when it needs to.
    """
    peak = 0
    parent = psutil.Process(pid)
    while process.poll() is None:
        total = 0
        for each in [parent, *parent.children(recursive=True)]:
            try:
                memory = each.memory_info()
                total += memory.rss - memory.shared
            except psutil.NoSuchProcess:
                continue
        peak = max(peak, total)
        time.sleep(0.1)
    return peak


def compare(what: str, ours: Callable[[], object], other: Callable[[], object], num_tokens: int, rounds: int) -> None:
    """Runs two ways in turn, and prints tokens/s of both and the ratio of their speeds with its spread."""
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    for number in range(rounds):
        pair = [("ours", ours), ("other", other)]
        for name, run in pair if number % 2 == 0 else reversed(pair):
            started = time.monotonic()
            run()
            seconds[name].append(time.monotonic() - started)
    ratios = [theirs / own for own, theirs in zip(seconds["ours"], seconds["other"], strict=True)]
    speeds = {name: num_tokens / statistics.median(values) for name, values in seconds.items()}
    print(
        f"{what}: ours {speeds['ours'] / 1e6:.2f}M tokens/s, other {speeds['other'] / 1e6:.2f}M tokens/s, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds)"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["_plain"]:
        plain_way(*sys.argv[2:])
    else:
        main()
