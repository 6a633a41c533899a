"""Compare the speed of an evaluation with a plain implementation, and measure its memory.

    python benchmarks/evaluation.py speed runs/ptb_smim_512/model data/ptb
    python benchmarks/evaluation.py memory       likelihood, information and overlap of 10^4 to 10^6 sentences

speed: ours in fp32, ours with `eval.precision=bf16`, and a plain way compute the same metrics of all test sentences:
MELBO, BLEU-1 (sampled, greedy, from the mean), and the entropy of the codes. The plain way takes sentences in their
order and pads each batch to its longest sentence. It encodes again for each metric and keeps the logits of the whole
batch. It decodes step by step until the last sentence of the batch has ended, and searches neighbours with
scikit-learn. It is written for a GRU.

memory: random sentences of five words and a small random model, in a separate process for each size.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
import typer
from accelerate import Accelerator
from scipy.special import digamma
from sklearn.neighbors import NearestNeighbors
from torch import nn

from benchmarks import common
from smim import generation
from smim.evaluation import estimators, information, likelihood, overlap, reconstruction
from smim.evaluation.information import InformationArgs
from smim.evaluation.job import Job
from smim.evaluation.likelihood import LikelihoodArgs
from smim.evaluation.reconstruction import sentence_bleu1
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceArgs, SentenceAutoencoder
from smim.model.registry import make_args
from smim.text.batch import Batch
from smim.text.corpus import Corpus, Split
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID
from smim.text.words import WordTokenizer

_BATCH_SIZE = 128
Evaluate = Callable[[SentenceModel, Corpus, int], dict[str, float]]


def speed(model: Path, corpus: Path, rounds: int = 3, max_length: int = 100) -> None:
    """Measure the seconds of both ways. `max_length`: of decoded sentences, in tokens."""
    loaded, opened = generation.load(model, device="cpu"), Corpus.open(corpus)

    def way(name: str, evaluate: Evaluate) -> int:
        metrics = evaluate(loaded, opened, max_length)
        print(name, *(f"{metric} {value:.4f}" for metric, value in metrics.items()))
        return len(opened.split("test"))

    functions: dict[str, Evaluate] = {"ours": ours, "bf16": partial(ours, precision="bf16"), "plain": plain}
    found = common.rates({name: partial(way, name, each) for name, each in functions.items()}, rounds, "sentence")
    for name in ("ours", "bf16"):
        common.ratio(found, name, "plain")
    common.ratio(found, "bf16", "ours")


def memory(
    sentences: Annotated[list[int], typer.Option(help="May be repeated.")] = [10_000, 100_000, 1_000_000],  # noqa: B006
    latent_dim: int = 64,
) -> None:
    """Measure the peak memory of an evaluation at each size, above the memory after all imports."""
    print("  sentences   seconds   peak memory above the imports, GB")
    for num in sentences:
        (seconds, before), peak = common.in_process(evaluate_random, num, latent_dim)
        print(f"{num:11,} {seconds:9.0f}   {(peak - before) / 1e9:.2f}", flush=True)


def evaluate_random(num: int, latent_dim: int) -> tuple[float, int]:
    """Evaluate `num` random sentences. Return the seconds, and the bytes of memory before it."""
    torch.set_num_threads(1)
    before, started = common.memory(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = WordTokenizer.train([" ".join(f"w{i}" for i in range(200))], splitter="whitespace")
        args = make_args({"latent_dim": latent_dim, "hidden_dim": 16, "embedding_dim": 16})
        assert isinstance(args, SentenceArgs)
        autoencoder = SentenceAutoencoder(args, vocabulary_size=tokenizer.vocabulary_size)
        model = SentenceModel(autoencoder, tokenizer, {"training": {"objective": "amim"}}, hash="random")
        words = np.random.default_rng(0).integers(4, 200, num * 5, dtype=np.int32)
        ids = pa.ListArray.from_arrays(pa.array(np.arange(num + 1, dtype=np.int32) * 5), pa.array(words))
        table = pa.table(
            {"text": ["five words of any text"] * num, "ids": ids, "length": pa.array(np.full(num, 5, np.int32))}
        )
        corpus = Corpus(Path(folder), {"name": "random", "splits": {}}, tokenizer)
        job = job_of(model, corpus, Split("test", table), folder, max_length=20)
        (plots := Path(folder) / "plots").mkdir()
        likelihood.evaluate(job, LikelihoodArgs(importance_samples=0), plots)
        information.evaluate(job, InformationArgs(max_queries=1000), plots)
        overlap.evaluate(job, plots)
    return time.monotonic() - started, before


def job_of(model: SentenceModel, corpus: Corpus, split: Split, work: str, max_length: int) -> Job:
    return Job(
        *(model, corpus, split, Accelerator(cpu=True), Path(work)),
        seed=0,
        num_runs=1,
        max_length=max_length,
        tokens_per_batch=8192,
    )


def ours(model: SentenceModel, corpus: Corpus, max_length: int, precision: str = "fp32") -> dict[str, float]:
    """Call the functions of `eval/run.py`."""
    split = corpus.split("test")
    with tempfile.TemporaryDirectory() as work:
        job = replace(job_of(model, corpus, split, work, max_length), precision=precision)
        bound, _ = likelihood.sentence_reconstruction(job, num_samples=1)
        scores = reconstruction.reconstruct(job)
        codes, _ = estimators.distinct(job.codes())
        entropy = estimators.knn_entropy_terms(codes, np.arange(len(codes)))
    return {
        "nll": bound.words.mean() + math.log(len(split)),
        "bleu1_sampled": scores.sampled.mean(),
        "bleu1_greedy": scores.greedy.mean(),
        "bleu1_mean": scores.from_mean.mean(),
        "latent_entropy": entropy.mean(),
    }


@torch.no_grad()
def plain(model: SentenceModel, corpus: Corpus, max_length: int) -> dict[str, float]:
    """Compute the same metrics with plain loops."""
    torch.manual_seed(0)
    split = corpus.split("test")
    batches = [split.batch(rows) for rows in np.array_split(np.arange(len(split)), -(-len(split) // _BATCH_SIZE))]

    def bleu(*, draw: bool, sample: bool) -> float:
        scores = [_plain_bleu(model, batch, max_length, draw=draw, sample=sample) for batch in batches]
        return float(np.concatenate(scores).mean())

    nll = torch.cat([_plain_nll(model, batch) for batch in batches])
    codes = torch.cat([_code(model, batch, draw=True) for batch in batches]).numpy()
    distances = NearestNeighbors(n_neighbors=4, metric="chebyshev").fit(codes).kneighbors(codes)[0][:, 3]
    return {
        "nll": float(nll.mean()) + math.log(len(split)),
        "bleu1_sampled": bleu(draw=True, sample=True),
        "bleu1_greedy": bleu(draw=True, sample=False),
        "bleu1_mean": bleu(draw=False, sample=False),
        "latent_entropy": digamma(len(codes)) - digamma(3) + codes.shape[1] * np.log(2 * distances).mean(),
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
    hidden = autoencoder.decoder.latent_to_state(z)[None]
    token, ended = torch.full((len(batch),), SOS_ID), torch.zeros(len(batch), dtype=torch.bool)
    steps: list[torch.Tensor] = []
    while len(steps) < max_length and not ended.all():
        inputs = torch.cat([autoencoder.embedding(token), z], dim=-1)[:, None]
        output, hidden = nn.GRU.forward(autoencoder.decoder.gru, inputs, hidden)
        logits = autoencoder.to_vocabulary.logits(output[:, 0])
        logits[:, [PAD_ID, SOS_ID]] = -torch.inf
        token = torch.multinomial(torch.softmax(logits, -1), 1)[:, 0] if sample else logits.argmax(-1)
        steps.append(token)
        ended |= token == EOS_ID
    return [
        sentence_bleu1(_text(model, reference, PAD_ID), _text(model, ids, EOS_ID))
        for ids, reference in zip(torch.stack(steps, 1).tolist(), batch.tokens.tolist(), strict=True)
    ]


def _text(model: SentenceModel, ids: list[int], end: int) -> list[str]:
    """The words before the first `end`."""
    return model.tokenizer.decode(ids[: [*ids, end].index(end)]).split()


if __name__ == "__main__":
    common.main(__doc__, speed, memory)
