"""Compare the speed of preparation with a plain implementation, and measure its time and memory as input grows.

python benchmarks/prep.py words         tokens/s of the word level, against datasets.map with split() and a dict
python benchmarks/prep.py pieces        tokens/s of SentencePiece, against the library's own batch encoding
python benchmarks/prep.py growth        seconds and peak memory of 0.5, 1, 2 and 4 GB of text
python benchmarks/prep.py ray           Ray on a simulated cluster of two nodes, against local workers
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks import common

_VOCABULARY = 1_000_000


def words(rounds: int = 5, megabytes: float = 300) -> None:
    """Measure generated text, from the file to the shards of a corpus."""
    with tempfile.TemporaryDirectory() as name:
        num_words = generate(folder := Path(name), megabytes)
        build(folder, "out")  # so that both find the file in the cache

        def ours() -> int:
            build(folder, "out")
            return num_words

        def plain() -> int:
            shutil.rmtree(folder / "cache", ignore_errors=True)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                pool.submit(encode_by_datasets, str(folder / "text.txt"), str(folder / "cache")).result()
            return num_words

        common.ratio(common.rates({"ours": ours, "datasets": plain}, rounds, "token"), "ours", "datasets")


def pieces(rounds: int = 5) -> None:
    """Measure WikiText-2 with 8,000 pieces, in one process with one thread, over the same texts in the same batches."""
    import pyarrow as pa
    import sentencepiece

    from smim.text.pieces import SentencePieceTokenizer

    data = Path(os.environ.get("SMIM_DATA", common.ROOT.parent / "shared" / "data"))
    with gzip.open(data / "wikitext2" / "wiki.train.tokens.gz", "rt", encoding="utf-8") as file:
        texts = [line.strip() for line in file if line.strip()]
    array = pa.array(texts, pa.string())
    for algorithm in ("unigram", "bpe"):
        tokenizer = SentencePieceTokenizer.train(texts, algorithm=algorithm, vocabulary_size=8000)
        library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
        prefixed = [tokenizer.prefix + text for text in texts]
        ways = {
            algorithm: lambda tokenizer=tokenizer: len(tokenizer.encode_batch(array).values),
            "the library": lambda library=library, prefixed=prefixed: sum(
                map(len, library.encode(prefixed, num_threads=1))
            ),
        }
        common.ratio(common.rates(ways, rounds, "token"), algorithm, "the library")


def growth() -> None:
    """Measure the seconds, and the peak memory of all processes."""
    print("     GB   seconds   MB/s   peak memory of all processes, GB   tokens")
    for gigabytes in (0.5, 1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            num_words = generate(Path(folder), gigabytes * 1000)
            started = time.monotonic()
            peak = build(Path(folder), "out")
            seconds = time.monotonic() - started
        print(f"{gigabytes:7.2f}  {seconds:8.1f}  {1e3 * gigabytes / seconds:5.0f}   {peak / 1e9:6.2f}   {num_words:,}")


def ray(rounds: int = 5, megabytes: float = 300) -> None:
    """Compare a simulated cluster of two nodes with one core each with two workers; also compares the bytes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    engines = {"ray": ["prep.engine=ray", f"prep.address={cluster.address}"], "local": ["prep.workers=2"]}
    with tempfile.TemporaryDirectory() as folder:
        num_words = generate(Path(folder), megabytes)

        def way(name: str) -> int:
            build(Path(folder), name, *engines[name])
            return num_words

        try:
            common.ratio(common.rates({name: partial(way, name) for name in engines}, rounds, "token"), *engines)
        finally:
            cluster.shutdown()
        same = subprocess.run(["diff", "-r", *engines], cwd=folder).returncode == 0
    print("the same bytes" if same else "DIFFERENT BYTES")


def generate(folder: Path, megabytes: float) -> int:
    """Write lines of words by Zipf's law into `text.txt`. Returns the number of words.

    The law is steeper beyond the first 10,000 words. So a million words have 57,000 distinct ones, and 23 million have
    250,000, which is about the number in English.
    """
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 10, size=_VOCABULARY)
    letters = draw.integers(ord("a"), ord("z") + 1, size=(_VOCABULARY, 10)).astype(np.uint8)
    names = np.array([bytes(row[:length]).decode() for row, length in zip(letters, lengths, strict=True)], object)
    rank = np.arange(3, _VOCABULARY + 3)
    probabilities = np.minimum(1, 10_000 / rank) / rank
    cumulative = np.cumsum(probabilities / probabilities.sum())
    written = num_words = 0
    with open(folder / "text.txt", "w") as file:
        while written < megabytes * 1e6:
            drawn = names[np.searchsorted(cumulative, draw.random((20_000, 20)))]
            written += file.write("\n".join(map(" ".join, drawn)) + "\n")
            num_words += drawn.size
    return num_words


def build(folder: Path, output: str, *overrides: str) -> int:
    """Build a word-level corpus in a separate process. Returns the peak memory of all its processes, in bytes."""
    shutil.rmtree(folder / output, ignore_errors=True)
    command = [
        *(sys.executable, "data_prep/build.py", "corpus=text", f"corpus.path={folder}/text.txt"),
        *(f"output={folder / output}", "corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=2"),
        *overrides,
    ]
    with subprocess.Popen(command, cwd=common.ROOT, stdout=subprocess.DEVNULL) as process:
        peak = common.peak_memory(process.pid, lambda: process.poll() is None)
    if process.returncode:
        sys.exit(process.returncode)
    return peak


def encode_by_datasets(path: str, cache: str) -> None:
    """Encode the file with `datasets`: a loop makes the vocabulary; `map` uses `split()` and a dict, in 2 processes."""
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("text", data_files=path, cache_dir=cache, split="train")
    counts: Counter[str] = Counter()
    for part in loaded.iter(batch_size=1000):
        counts.update(word for text in part["text"] for word in text.split())
    kept = [word for word, count in counts.most_common() if count >= 2]
    ids = {word: number for number, word in enumerate(kept, start=4)}

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [[ids.get(word, 3) for word in text.split()] for text in batch["text"]]}

    loaded.map(encode, batched=True, num_proc=2)


if __name__ == "__main__":
    common.main(__doc__, words, pieces, growth, ray)
