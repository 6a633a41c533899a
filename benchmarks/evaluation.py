"""How fast an evaluation is beside the plain way, and how its memory grows with the number of sentences.

    python benchmarks/evaluation.py speed runs/ptb_smim_512/model data/ptb
    python benchmarks/evaluation.py memory       likelihood, information and overlap of 10^4 to 10^6 sentences

speed: both ways make the same figures of all test sentences: MELBO, BLEU-1 (sampled, greedy, from the mean), and the
entropy of the codes. The plain way takes sentences as they come, pads each batch to its longest sentence, encodes
anew for each metric, keeps the logits of the whole batch, decodes one step at a time until the last sentence of the
batch has ended, and searches neighbours with scikit-learn. They alternate, and the ratio is reported with its
spread. Nothing else should run meanwhile.

memory: random sentences of five words and a small random model, in a process of its own for each size.
"""

import argparse
import math
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from scipy.special import digamma
from sklearn.neighbors import NearestNeighbors
from torch import nn

from smim import generation
from smim.evaluation import information, likelihood, overlap, reconstruction
from smim.evaluation.information import InformationArgs
from smim.evaluation.job import Job
from smim.evaluation.likelihood import LikelihoodArgs
from smim.evaluation.reconstruction import sentence_bleu1
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.registry import make_args
from smim.text.batch import Batch
from smim.text.corpus import Corpus, Split
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID
from smim.text.words import WordTokenizer

ROOT = Path(__file__).resolve().parents[1]
_BATCH_SIZE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_subparsers(dest="which", required=True)
    speed_parser = which.add_parser("speed")
    speed_parser.add_argument("model", type=Path)
    speed_parser.add_argument("corpus", type=Path)
    speed_parser.add_argument("--rounds", type=int, default=3)
    speed_parser.add_argument("--max-length", type=int, default=100, help="longest decoded sentence, in tokens")
    memory_parser = which.add_parser("memory")
    memory_parser.add_argument("--sentences", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    memory_parser.add_argument("--latent-dim", type=int, default=64)
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, commit {commit.strip()}")
    {"speed": speed, "memory": memory}[args.which](args)


def speed(args: argparse.Namespace) -> None:
    """Seconds of both ways, in turn."""
    model = generation.load(args.model, device="cpu")
    corpus = Corpus.open(args.corpus)
    split = corpus.split("test")
    print(f"{len(split):,} sentences, {torch.get_num_threads()} threads")
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "ours": lambda: ours(model, corpus, split, args.max_length),
        "plain": lambda: plain(model, split, args.max_length),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            started = time.monotonic()
            figures = way()
            seconds[name].append(time.monotonic() - started)
            shown = ", ".join(f"{figure} {value:.4f}" for figure, value in figures.items())
            print(f"{name:6} {seconds[name][-1]:7.1f} s   {shown}", flush=True)
    ratios = [plain / our for our, plain in zip(seconds["ours"], seconds["plain"], strict=True)]
    print(
        f"plain / ours: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {args.rounds} rounds)"
    )


def memory(args: argparse.Namespace) -> None:
    """Peak resident memory of an evaluation at each size, above what an import of everything takes."""
    context = multiprocessing.get_context("spawn")
    print("  sentences   seconds   peak memory above the imports, GB")
    for num in args.sentences:
        queue = context.Queue()
        process = context.Process(target=evaluate_random, args=(num, args.latent_dim, queue))
        process.start()
        seconds, peak = queue.get()
        process.join()
        print(f"{num:11,} {seconds:9.0f}   {peak / 1e9:.2f}", flush=True)


def evaluate_random(num: int, latent_dim: int, queue: Any) -> None:
    """Puts the seconds and the bytes that evaluating `num` random sentences took."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = WordTokenizer.train([" ".join(f"w{i}" for i in range(200))], splitter="whitespace")
        args = make_args({"latent_dim": latent_dim, "hidden_dim": 16, "embedding_dim": 16})
        autoencoder = SentenceAutoencoder(args, vocabulary_size=tokenizer.vocabulary_size)
        model = SentenceModel(autoencoder, tokenizer, {"training": {"objective": "amim"}}, hash="random")
        random = np.random.default_rng(0)
        ids = pa.ListArray.from_arrays(
            pa.array(np.arange(num + 1, dtype=np.int32) * 5), pa.array(random.integers(4, 200, num * 5, dtype=np.int32))
        )
        texts = pa.array(["five words of any text"] * num)
        table = pa.table({"text": texts, "ids": ids, "length": pa.array(np.full(num, 5, np.int32))})
        job = Job(
            model=model,
            corpus=Corpus(Path(folder), {"name": "random", "splits": {}}, tokenizer),
            split=Split("test", table),
            accelerator=Accelerator(cpu=True),
            work=Path(folder),
            seed=0,
            num_runs=1,
            max_length=20,
            tokens_per_batch=8192,
        )
        (Path(folder) / "plots").mkdir()
        likelihood.evaluate(job, LikelihoodArgs(importance_samples=0), Path(folder) / "plots")
        information.evaluate(job, InformationArgs(max_queries=1000), Path(folder) / "plots")
        overlap.evaluate(job, Path(folder) / "plots")
    queue.put((time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before))


def ours(model: SentenceModel, corpus: Corpus, split: Split, max_length: int) -> dict[str, float]:
    """The functions that `eval/run.py` calls."""
    with tempfile.TemporaryDirectory() as work:
        job = Job(
            model=model,
            corpus=corpus,
            split=split,
            accelerator=Accelerator(cpu=True),
            work=Path(work),
            seed=0,
            num_runs=1,
            max_length=max_length,
            tokens_per_batch=8192,
        )
        bound, _ = likelihood.sentence_reconstruction(job, num_samples=1)
        scores = reconstruction.reconstruct(job)
        entropy, _ = information.latent_entropy_terms(job, InformationArgs())
    return {
        "nll": bound.words.mean() + math.log(len(split)),
        "bleu1_sampled": scores.sampled.mean(),
        "bleu1_greedy": scores.greedy.mean(),
        "bleu1_mean": scores.from_mean.mean(),
        "latent_entropy": entropy.mean(),
    }


@torch.no_grad()
def plain(model: SentenceModel, split: Split, max_length: int) -> dict[str, float]:
    """The same figures, each by a loop of its own."""
    torch.manual_seed(0)
    starts = range(0, len(split), _BATCH_SIZE)
    batches = [split.batch(range(start, min(start + _BATCH_SIZE, len(split)))) for start in starts]
    nll = torch.cat([_plain_nll(model, batch) for batch in batches])
    scores = {
        "bleu1_sampled": [_plain_bleu(model, batch, max_length, draw=True, sample=True) for batch in batches],
        "bleu1_greedy": [_plain_bleu(model, batch, max_length, draw=True, sample=False) for batch in batches],
        "bleu1_mean": [_plain_bleu(model, batch, max_length, draw=False, sample=False) for batch in batches],
    }
    codes = torch.cat([_code(model, batch, draw=True) for batch in batches]).numpy()
    distances = NearestNeighbors(n_neighbors=4, metric="chebyshev").fit(codes).kneighbors(codes)[0][:, 3]
    entropy = digamma(len(codes)) - digamma(3) + codes.shape[1] * np.log(2 * distances).mean()
    return {
        "nll": float(nll.mean()) + math.log(len(split)),
        **{name: float(np.concatenate(parts).mean()) for name, parts in scores.items()},
        "latent_entropy": float(entropy),
    }


def _code(model: SentenceModel, batch: Batch, *, draw: bool) -> torch.Tensor:
    posterior = model.autoencoder.posterior(batch)
    return posterior.sample() if draw and not model.deterministic else posterior.mean


def _plain_nll(model: SentenceModel, batch: Batch) -> torch.Tensor:
    autoencoder, z = model.autoencoder, _code(model, batch, draw=True)
    states = autoencoder.decoder(autoencoder.embedding(F.pad(batch.tokens, (1, 0), value=SOS_ID)), z)
    log_probs = torch.log_softmax(autoencoder.to_vocabulary.logits(states), -1)
    target = log_probs[:, :-1].gather(-1, batch.tokens[:, :, None])[:, :, 0]
    return -(target * (batch.tokens != PAD_ID)).sum(1)


def _plain_bleu(model: SentenceModel, batch: Batch, max_length: int, *, draw: bool, sample: bool) -> list[float]:
    autoencoder, z = model.autoencoder, _code(model, batch, draw=draw)
    hidden = autoencoder.decoder.initial_state(z)[None]
    token, ended = torch.full((len(batch),), SOS_ID), torch.zeros(len(batch), dtype=torch.bool)
    steps = []
    for _ in range(max_length):
        inputs = torch.cat([autoencoder.embedding(token), z], dim=-1)[:, None]
        output, hidden = nn.GRU.forward(autoencoder.decoder.gru, inputs, hidden)
        logits = autoencoder.to_vocabulary.logits(output[:, 0])
        logits[:, [PAD_ID, SOS_ID]] = -torch.inf
        token = torch.multinomial(torch.softmax(logits, -1), 1)[:, 0] if sample else logits.argmax(-1)
        steps.append(token)
        ended |= token == EOS_ID
        if ended.all():
            break
    scores = []
    for ids, reference in zip(torch.stack(steps, 1).tolist(), batch.tokens.tolist(), strict=True):
        words = ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids
        reference = [i for i in reference if i != PAD_ID]
        scores.append(sentence_bleu1(model.tokenizer.decode(reference).split(), model.tokenizer.decode(words).split()))
    return scores


if __name__ == "__main__":
    main()
