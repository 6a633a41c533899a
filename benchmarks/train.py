"""How fast a training step and `encode` are beside the plain way, and what the vocabulary loss takes of memory.

    python benchmarks/train.py speed data/ptb     sentences/s of training, batches of 20 and 128
    python benchmarks/train.py encode data/ptb    sentences/s of encoding 10,000 sentences
    python benchmarks/train.py memory             peak memory of the vocabulary loss at 89,247 words
    python benchmarks/train.py profile data/ptb   where a step goes
    python benchmarks/train.py launch data/ptb    tokens/s of launches: processes, threads, DDP, ZeRO 1 to 3

The plain way is what the authors' published trainer does (plain.py), with Adam that is not fused and a clip of 0.25, in
fp32. Ours: `smim`'s model, batches of like length, fused Adam; in fp32, and in bf16 where the hardware multiplies it.
All sizes are the thesis's for PTB. The ways alternate in one process, and the ratio is reported with its
spread. Nothing else should run meanwhile.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain import PlainNetwork, plain_batch, random_order
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceArgs, SentenceAutoencoder
from smim.model.vocabulary_loss import VocabularyLayer
from smim.objectives import objective_class
from smim.text.batches import training_order
from smim.text.corpus import Corpus, Split
from smim.training.throughput import matrix_rate

ROOT = Path(__file__).resolve().parents[1]
_PLAIN_FLOOR = 70  # sentences/s at batch 20: a slower plain way proves nothing, on a machine with AVX-512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_subparsers(dest="which", required=True)
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in ("speed", "encode", "profile", "memory", "launch"):
        sub = which.add_parser(name)
        sub.add_argument("--device", default=default_device)
        if name != "memory":
            sub.add_argument("corpus", type=Path)
        if name == "launch":
            sub.add_argument("--rounds", type=int, default=3)
            sub.add_argument("--steps", type=int, default=40)
        if name in ("speed", "encode"):
            sub.add_argument("--rounds", type=int, default=5)
            sub.add_argument("--batch-sizes", type=int, nargs="+", default=[20, 128])
            sub.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=bf16_is_fast(default_device))
        if name == "speed":
            sub.add_argument("--sentences", type=int, default=1280, help="of one way in one round")
        if name == "encode":
            sub.add_argument("--sentences", type=int, default=10_000)
        if name == "profile":
            sub.add_argument("--batch-size", type=int, default=20)
            sub.add_argument("--bf16", action="store_true")
        if name == "memory":
            sub.add_argument("--tokens", type=int, default=2000)
            sub.add_argument("--hidden-dim", type=int, default=1024)
            sub.add_argument("--vocabulary-size", type=int, default=89_247)
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, commit {commit.strip()}"
    )
    {"speed": speed, "encode": encode, "memory": memory, "profile": profile, "launch": launch}[args.which](args)


def bf16_is_fast(device: str) -> bool:
    """True where bf16 is multiplied in hardware."""
    return device == "cuda" or torch.cpu._is_avx512_bf16_supported()


def speed(args: argparse.Namespace) -> None:
    """Sentences a second of training."""
    corpus = Corpus.open(args.corpus)
    split, vocabulary_size = corpus.split("train"), corpus.tokenizer.vocabulary_size
    peak = matrix_rate(torch.device(args.device), "fp32")
    print(f"the machine's matrix rate, fp32: {peak / 1e9:.0f} GFLOP/s")
    network = SentenceAutoencoder(SentenceArgs(), vocabulary_size=vocabulary_size)
    for batch_size in args.batch_sizes:
        print(f"batch {batch_size}:     sentences/s  tokens/s   steps/s   GFLOP/s that the model needs, of real tokens")
        ways: dict[str, Way] = {
            "plain": Plain(split, vocabulary_size, batch_size, args.device),
            "ours fp32": Ours(split, vocabulary_size, batch_size, args.device, bf16=False),
        }
        if args.bf16:
            ways["ours bf16"] = Ours(split, vocabulary_size, batch_size, args.device, bf16=True)
        for way in ways.values():
            way.train(2)
        num_steps = max(2, args.sentences // batch_size)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            peak = matrix_rate(torch.device(args.device), "fp32")
            for name, way in ways.items():
                run = way.train(num_steps)
                # A batch's length is chance, so that rounds are compared by the tokens that they trained on.
                rates[name].append(run.tokens / run.seconds)
                flops = network.flops_per_token(run.words / run.sentences) * run.words / run.seconds
                print(
                    f"  {name:10} {run.sentences / run.seconds:10.1f} {run.tokens / run.seconds:9,.0f} "
                    f"{num_steps / run.seconds:9.2f}   {flops / 1e9:.0f}, {flops / peak:.0%} of the matrix rate",
                    flush=True,
                )
        mean_length = split.lengths.mean() + 1
        plain_rate = statistics.median(rates["plain"]) / mean_length
        if batch_size == 20 and plain_rate < _PLAIN_FLOOR:
            print(f"  the plain way's {plain_rate:.0f} sentences/s are below {_PLAIN_FLOOR}: void with AVX-512")
        compare(rates, "plain")


def encode(args: argparse.Namespace) -> None:
    """Sentences a second of encoding, from ids to codes in memory."""
    corpus = Corpus.open(args.corpus)
    split, vocabulary_size = corpus.split("train"), corpus.tokenizer.vocabulary_size
    rows = np.random.default_rng(0).permutation(len(split))[: args.sentences]
    ids = split.ids(rows)
    torch.manual_seed(0)
    autoencoder = SentenceAutoencoder(SentenceArgs(), vocabulary_size=vocabulary_size).to(args.device).eval()
    model = SentenceModel(autoencoder, corpus.tokenizer, {"training": {"objective": "amim"}}, hash="random")
    network = PlainNetwork(SentenceArgs(), vocabulary_size).to(args.device)
    network.load_state_dict(autoencoder.state_dict())

    def plain(batch_size: int) -> Tensor:
        starts = range(0, len(rows), batch_size)
        with torch.no_grad():
            return torch.cat(
                [network.posterior(*plain_batch(split, rows[i:][:batch_size], args.device)).mean for i in starts]
            )

    def ours(bf16: bool) -> Tensor:
        with torch.autocast(args.device, torch.bfloat16) if bf16 else nullcontext():
            return model.posterior_of_ids(ids).mean

    ways: dict[str, Callable[[], Tensor]] = {
        f"plain {size}": lambda size=size: plain(size) for size in args.batch_sizes
    }
    ways["ours fp32"] = lambda: ours(False)
    if args.bf16:
        ways["ours bf16"] = lambda: ours(True)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    expected = plain(128).cpu()
    for _ in range(args.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            codes = way().cpu()
            rates[name].append(len(ids) / (time.perf_counter() - started))
            error = (codes - expected).abs().max()
            print(f"  {name:10} {rates[name][-1]:8,.0f} sentences/s   largest difference {error:.1e}", flush=True)
    for size in args.batch_sizes:
        compare(rates, f"plain {size}")


def memory(args: argparse.Namespace) -> None:
    """Peak memory of the loss and its gradient above that of its inputs, in a process of its own for each way."""
    sizes = (args.tokens, args.hidden_dim, args.vocabulary_size)
    print(f"{args.tokens:,} tokens, hidden {args.hidden_dim}, vocabulary {args.vocabulary_size:,}, on {args.device}")
    for name in ("plain", "ours"):
        queue = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("spawn").Process(
            target=measure_memory, args=(name, *sizes, args.device, queue)
        )
        process.start()
        peak, seconds, total = queue.get()
        process.join()
        print(f"  {name:6} {peak / 1e6:8,.0f} MB   {seconds:6.2f} s   log probability {total:.2f}", flush=True)


def measure_memory(name: str, tokens: int, hidden_dim: int, vocabulary_size: int, device: str, queue: Any) -> None:
    """Puts peak bytes, seconds, and the sum of log probabilities."""
    torch.manual_seed(0)
    layer = VocabularyLayer(hidden_dim, vocabulary_size).to(device)
    hidden = torch.randn(tokens, hidden_dim, device=device, requires_grad=True)
    target = torch.randint(vocabulary_size, (tokens,), device=device)
    before, started = peak_memory(device), time.perf_counter()
    if name == "ours":
        log_prob = layer(hidden, target)
    else:
        log_prob = -F.nll_loss(torch.log_softmax(layer.logits(hidden), -1), target, reduction="none")
    (-log_prob.sum() / 20).backward()
    synchronize(device)
    queue.put((peak_memory(device) - before, time.perf_counter() - started, log_prob.sum().item()))


def peak_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def profile(args: argparse.Namespace) -> None:
    """The operations that ten of our steps spend their time in."""
    corpus = Corpus.open(args.corpus)
    split, vocabulary_size = corpus.split("train"), corpus.tokenizer.vocabulary_size
    way = Ours(split, vocabulary_size, args.batch_size, args.device, bf16=args.bf16)
    way.train(3)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if args.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        way.train(10)
    order = "self_cuda_time_total" if args.device == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=30, max_name_column_width=60))


def launch(args: argparse.Namespace) -> None:
    """Tokens/s that the trainer itself reports for its second half, for each way to launch it on this machine's CPU."""
    accelerate = [str(Path(sys.executable).parent / "accelerate"), "launch"]
    ways = {"1 process, 2 threads": (2, [sys.executable]), "1 process, 1 thread": (1, [sys.executable])}
    for name, config in (("DDP", "cpu"), ("ZeRO 1", "zero1"), ("ZeRO 2", "zero2"), ("ZeRO 3", "zero3")):
        file = f"launch/accelerate/{config}.yaml"
        ways[f"2 processes, {name}"] = (1, [*accelerate, "--config_file", file, "--num_processes", "2"])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    half = args.steps // 2
    for _ in range(args.rounds):
        for name, (threads, launcher) in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                overrides = [f"corpus.dir={args.corpus.resolve()}", f"run.dir={folder}/run", "train.trackers=[]"]
                overrides += [f"train.max_steps={2 * half}", f"train.log_every={half}", "train.precision=fp32"]
                environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
                command = [*launcher, "smim/train.py", *overrides]
                subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
                lines = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text().splitlines()]
            rates[name].append([line["tokens_per_second"] for line in lines if line["split"] == "train"][1])
            print(f"  {name:22} {rates[name][-1]:8,.0f} tokens/s", flush=True)
    for name in rates:
        compare_with(rates, name, next(iter(ways)))


@dataclass(frozen=True)
class Run:
    """What was trained on, `<eos>` counted, and how long that took."""

    seconds: float
    sentences: int
    tokens: int

    @property
    def words(self) -> int:
        return self.tokens - self.sentences


class Way(ABC):
    """A model with its optimizer and an endless stream of batches."""

    def __init__(self, batches: Iterator[np.ndarray], device: str) -> None:
        self.batches = batches
        self.device = device

    @abstractmethod
    def step(self, rows: np.ndarray) -> int:
        """One optimizer step; the number of tokens that it was on."""

    def train(self, num_steps: int) -> Run:
        started = time.perf_counter()
        sentences = tokens = 0
        for rows in itertools.islice(self.batches, num_steps):
            sentences, tokens = sentences + len(rows), tokens + self.step(rows)
        synchronize(self.device)
        return Run(time.perf_counter() - started, sentences, tokens)


class Ours(Way):
    """`smim`'s model, objective and batches."""

    def __init__(self, split: Split, vocabulary_size: int, batch_size: int, device: str, *, bf16: bool) -> None:
        orders = (
            training_order(
                split,
                batch_size=batch_size,
                tokens_per_batch=None,
                length_window=100,
                shuffle_window=1_000_000,
                seed=0,
                epoch=epoch,
            )
            for epoch in itertools.count()
        )
        super().__init__(itertools.chain.from_iterable(orders), device)
        torch.manual_seed(0)
        self.split, self.bf16 = split, bf16
        self.model = SentenceAutoencoder(SentenceArgs(), vocabulary_size=vocabulary_size).to(device)
        self.objective = objective_class("amim")()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)

    def step(self, rows: np.ndarray) -> int:
        batch = self.split.batch(rows)
        num_tokens = int(batch.lengths.sum()) + len(batch)
        with torch.autocast(self.device, torch.bfloat16) if self.bf16 else nullcontext():
            loss = self.objective.terms(self.model, batch.to(torch.device(self.device)), step=0)["loss"]
        (loss.sum() / len(rows)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return num_tokens


class Plain(Way):
    """The authors' published trainer, in short."""

    def __init__(self, split: Split, vocabulary_size: int, batch_size: int, device: str) -> None:
        super().__init__(random_order(len(split), batch_size), device)
        torch.manual_seed(0)
        self.split = split
        self.model = PlainNetwork(SentenceArgs(), vocabulary_size).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def step(self, rows: np.ndarray) -> int:
        tokens, lengths = plain_batch(self.split, rows, self.device)
        loss = self.model.loss(tokens, lengths)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimizer.step()
        return int(lengths.sum()) + len(rows)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def compare(rates: dict[str, list[float]], baseline: str) -> None:
    """Each of our ways against the baseline of the same round."""
    for name in rates:
        if name.startswith("ours"):
            compare_with(rates, name, baseline)


def compare_with(rates: dict[str, list[float]], name: str, baseline: str) -> None:
    ratios = [rate / base for rate, base in zip(rates[name], rates[baseline], strict=True)]
    print(
        f"  {name} / {baseline}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} rounds)"
    )


if __name__ == "__main__":
    main()
