"""Compare the speed of preparation with a plain implementation, and measure its time and memory as input grows.

python benchmarks/prep.py words         tokens/s of the word level, against datasets.map and datatrove with a dict
python benchmarks/prep.py formats       tokens/s of the same sentences as lines, gzip, TSV, CSV and JSON Lines
python benchmarks/prep.py pieces        tokens/s of SentencePiece, against the library's own batch encoding
python benchmarks/prep.py growth        seconds and peak memory of 0.5, 1, 2 and 4 GB of text
python benchmarks/prep.py ray           Ray on a simulated cluster of two nodes, against local workers

`words` with datatrove needs `pip install datatrove`. All ways use two processes and the same splitter.
"""

import csv
import gzip
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common

_VOCABULARY = 1_000_000


def words(rounds: int = 5, megabytes: float = 300, splitter: str = "whitespace", text: Path | None = None) -> None:
    """Measure from a file to ids on disk. `text`: lines, such as WikiText's; by default they are generated."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_words = generate(folder, megabytes) if text is None else copy(text, folder)
        setting = f"corpus.tokenizer.splitter={splitter}"
        build(folder, "out", setting)  # so that all find the file in the cache

        def ours() -> int:
            build(folder, "out", setting)
            return num_words

        def other(encode: Callable[[Path, Path, str], None]) -> int:
            shutil.rmtree(folder / "cache", ignore_errors=True)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                pool.submit(encode, folder / "text.txt", folder / "cache", splitter).result()
            return num_words

        others = {"datasets": encode_by_datasets, "datatrove": encode_by_datatrove}
        ways: dict[str, Callable[[], int]] = {
            "ours": ours,
            **{name: partial(other, encode) for name, encode in others.items()},
        }
        found = common.rates(ways, rounds, "token")
        for name in others:
            common.ratio(found, "ours", name)


def formats(rounds: int = 5, megabytes: float = 100, splitter: str = "whitespace") -> None:
    """Measure generated sentences with a number each, in two processes."""
    with tempfile.TemporaryDirectory() as name:
        num_words = generate(folder := Path(name), megabytes)
        write_formats(folder)

        def way(file: str) -> int:
            build(folder, "out", f"corpus.tokenizer.splitter={splitter}", file=file)
            return num_words

        names = ["text.txt", "text.txt.gz", "text.tsv", "text.csv", "text.jsonl"]
        found = common.rates({name: partial(way, name) for name in names}, rounds, "token")
        for each in names[1:]:
            common.ratio(found, each, names[0])


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
            algorithm: lambda: len(tokenizer.encode_batch(array).values),  # noqa: B023
            "the library": lambda: sum(map(len, library.encode(prefixed, num_threads=1))),  # noqa: B023
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


def copy(text: Path, folder: Path) -> int:
    """Copy a text to `text.txt`. Returns the number of words."""
    shutil.copy(text, folder / "text.txt")
    with open(folder / "text.txt", encoding="utf-8") as file:
        return sum(len(line.split()) for line in file)


def write_formats(folder: Path) -> None:
    """Write the lines of `text.txt` compressed and as tables."""
    with (
        open(folder / "text.txt") as lines,
        gzip.open(folder / "text.txt.gz", "wt", compresslevel=4) as packed,
        open(folder / "text.tsv", "w") as tsv,
        open(folder / "text.csv", "w", newline="") as comma,
        open(folder / "text.jsonl", "w") as objects,
    ):
        rows = csv.writer(comma)
        rows.writerow(["id", "text"])
        tsv.write("id\ttext\n")
        for number, line in enumerate(lines):
            text = line.removesuffix("\n")
            packed.write(line)
            tsv.write(f"{number}\t{line}")
            rows.writerow([number, text])
            objects.write(json.dumps({"id": number, "text": text}) + "\n")


def build(folder: Path, output: str, *overrides: str, file: str = "text.txt") -> int:
    """Build a word-level corpus in a separate process. Returns the peak memory of all its processes, in bytes."""
    shutil.rmtree(folder / output, ignore_errors=True)
    command = [
        *(sys.executable, "data_prep/build.py", "corpus=text", f"corpus.path={folder / file}"),
        *(f"output={folder / output}", "corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=2"),
        *overrides,
    ]
    with subprocess.Popen(command, cwd=common.ROOT, stdout=subprocess.DEVNULL) as process:
        peak = common.peak_memory(process.pid, lambda: process.poll() is None)
    if process.returncode:
        sys.exit(process.returncode)
    return peak


def split_function(splitter: str) -> Callable[[str], list[str]]:
    """Make the splitter without our code."""
    if splitter == "whitespace":
        return str.split
    from nltk.tokenize import TweetTokenizer

    return TweetTokenizer(preserve_case=False).tokenize


def encode_by_datasets(path: Path, cache: Path, splitter: str) -> None:
    """Encode the file with `datasets`: `map` splits it, a loop makes the vocabulary, and `map` looks words up."""
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("text", data_files=str(path), cache_dir=str(cache), split="train")
    split = split_function(splitter)
    parted = loaded.map(lambda batch: {"words": [split(text) for text in batch["text"]]}, batched=True, num_proc=2)
    counts: Counter[str] = Counter()
    for part in parted.iter(batch_size=1000):
        counts.update(itertools.chain.from_iterable(part["words"]))
    ids = numbered(counts)
    parted.map(
        lambda batch: {"ids": [[ids.get(word, 3) for word in words] for words in batch["words"]]},
        batched=True,
        num_proc=2,
        remove_columns="words",
    )


def encode_by_datatrove(path: Path, cache: Path, splitter: str) -> None:
    """Encode the file with datatrove: one pipeline counts words, the next one looks them up. Each reads half a file."""
    import pyarrow as pa
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.utils.logging import logger

    logger.remove()
    cache.mkdir()

    def read(_: Any, rank: int, world_size: int) -> Iterator[Document]:
        start, stop = (path.stat().st_size * each // world_size for each in (rank, rank + 1))
        with open(path, "rb") as file:
            if start:
                file.seek(start - 1)
                file.readline()
            while file.tell() < stop:
                yield Document(text=file.readline().decode().removesuffix("\n"), id="")

    def count(documents: Iterable[Document], rank: int, world_size: int) -> None:
        split, counts = split_function(splitter), Counter[str]()
        for document in documents:
            counts.update(split(document.text))
        (cache / f"{rank}.pickle").write_bytes(pickle.dumps(counts))

    def encode(documents: Iterable[Document], rank: int, world_size: int) -> None:
        split, ids = split_function(splitter), pickle.loads((cache / "ids.pickle").read_bytes())
        schema = pa.schema([("text", pa.string()), ("ids", pa.list_(pa.int32()))])
        with pa.OSFile(str(cache / f"{rank}.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            while some := list(itertools.islice(documents, 1000)):
                texts = [document.text for document in some]
                found = [[ids.get(word, 3) for word in split(text)] for text in texts]
                writer.write_batch(pa.record_batch([texts, pa.array(found, schema.field("ids").type)], schema))

    for step in (count, encode):
        LocalPipelineExecutor([read, step], tasks=2, logging_dir=str(cache / step.__name__)).run()
        if step is count:
            counts = sum((pickle.loads(file.read_bytes()) for file in cache.glob("*.pickle")), Counter[str]())
            (cache / "ids.pickle").write_bytes(pickle.dumps(numbered(counts)))


def numbered(counts: Counter[str]) -> dict[str, int]:
    """Number the words that occur at least twice, the most frequent first."""
    return {word: number for number, word in enumerate((w for w, n in counts.most_common() if n >= 2), start=4)}


if __name__ == "__main__":
    common.main(__doc__, words, formats, pieces, growth, ray)
