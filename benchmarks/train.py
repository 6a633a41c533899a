"""Compare the speed of training and `encode` with a plain implementation, and measure the vocabulary loss's memory.

    python benchmarks/train.py speed data/ptb     tokens/s of training, batches of 20 and 128
    python benchmarks/train.py encode data/ptb    sentences/s of encoding 10,000 sentences; --encoder transformer
    python benchmarks/train.py text english-small FILE    sentences/s of encoding a file's lines, from text
    python benchmarks/train.py memory             peak memory of the vocabulary loss at 89,247 words

The plain way is that of the authors' published trainer (plain.py): unfused Adam and a clip of 0.25, in fp32. Ours is
`smim`'s model with batches of similar length and fused Adam, in fp32, and in bf16 if the hardware multiplies it. All
sizes are the thesis's for PTB. Because a batch's length is random, training is compared by tokens.
"""

import gzip
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.ao.quantization import quantize_dynamic

import smim
from benchmarks import common
from benchmarks.common import in_process, main, rates, ratio
from benchmarks.plain import PlainNetwork, plain_batch
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceArgs, SentenceAutoencoder
from smim.model.registry import ENCODERS
from smim.model.vocabulary_loss import VocabularyLayer
from smim.objectives.amim import AMIM
from smim.text.batch import collate
from smim.text.batches import evaluation_order, training_order
from smim.text.corpus import Corpus

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HAS_BF16 = DEVICE == "cuda" or torch.cpu._is_avx512_bf16_supported()
BatchSizes = Annotated[list[int], typer.Option("--batch-size", help="May be repeated.")]


def speed(
    corpus: Path,
    rounds: int = 5,
    batch_size: BatchSizes = [20, 128],  # noqa: B006
    sentences: int = 1280,
    bf16: bool = HAS_BF16,
) -> None:
    """Measure tokens per second of training. `sentences`: the number for one way in one round."""
    opened = Corpus.open(corpus)
    for size in batch_size:
        trainings = {"plain": plain(opened, size), "ours fp32": ours(opened, size, bf16=False)}
        if bf16:
            trainings["ours bf16"] = ours(opened, size, bf16=True)
        for steps in trainings.values():
            trained(steps, 2)
        print(f"batch {size}")
        num_steps = max(2, sentences // size)
        found = rates({name: partial(trained, steps, num_steps) for name, steps in trainings.items()}, rounds, "token")
        for name in list(found)[1:]:
            ratio(found, name, "plain")


def encode(
    corpus: Path,
    rounds: int = 5,
    batch_size: BatchSizes = [20, 128],  # noqa: B006
    sentences: int = 10_000,
    bf16: bool = HAS_BF16,
    encoder: str = "gru",
) -> None:
    """Measure sentences per second of encoding, from ids to codes in memory.

    The plain way of another encoder than the GRU is our module, with batches in random order.
    """
    opened = Corpus.open(corpus)
    split, vocabulary_size = opened.split("train"), opened.tokenizer.vocabulary_size
    rows = np.random.default_rng(0).permutation(len(split))[:sentences]
    ids = split.ids(rows)
    torch.manual_seed(0)
    args = SentenceArgs(encoder=ENCODERS[encoder](name=encoder))
    autoencoder = SentenceAutoencoder(args, vocabulary_size=vocabulary_size).to(DEVICE).eval()
    model = SentenceModel(autoencoder, opened.tokenizer, {"training": {"objective": "amim"}}, hash="random")
    network = PlainNetwork(args, vocabulary_size).to(DEVICE) if encoder == "gru" else autoencoder
    network.load_state_dict(autoencoder.state_dict())
    codes: dict[str, Tensor] = {}

    @torch.no_grad()
    def encode_plainly(name: str, size: int) -> int:
        parts = (rows[i:][:size] for i in range(0, len(rows), size))
        if isinstance(network, PlainNetwork):
            means = [network.posterior(*plain_batch(split, part, DEVICE)).mean for part in parts]
        else:
            means = [network.posterior(split.batch(part).to(torch.device(DEVICE))).mean for part in parts]
        codes[name] = torch.cat(means).cpu()
        return len(ids)

    def encode_ours(name: str, bf16: bool) -> int:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
            codes[name] = model.posterior_of_ids(ids).mean.cpu()
        return len(ids)

    ways: dict[str, Callable[[], int]] = {f"plain {n}": partial(encode_plainly, f"plain {n}", n) for n in batch_size}
    ways |= {name: partial(encode_ours, name, name == "ours bf16") for name in ["ours fp32", "ours bf16"][: 1 + bf16]}
    found = rates(ways, rounds, "sentence")
    for name, baseline in itertools.product(list(ways)[len(batch_size) :], list(ways)[: len(batch_size)]):
        ratio(found, name, baseline)
        print(f"    largest difference of a code {(codes[name] - codes[baseline]).abs().max():.1e}")


def text(model: str, files: list[Path], rounds: int = 5) -> None:
    """Measure sentences per second from text to codes, of the non-empty lines of each file, which may be gzipped.

    `plain` is the encoder without the table of words. `without layers` has only the sums of words, and `int8` dynamic
    quantization of the layers' products. Use one thread.
    """
    opened, without, int8 = (smim.load(model, device="cpu") for _ in range(3))
    if meaning := getattr(without.autoencoder.encoder, "meaning", None):
        meaning.args = replace(meaning.args, num_layers=0)
        quantize_dynamic(int8.autoencoder.encoder.meaning.blocks, {nn.Linear}, torch.qint8, inplace=True)
    for file in files:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        texts = [line.strip() for line in content.decode().splitlines() if line.strip()]
        tokens = [len(ids) for ids in opened.token_ids(texts)]
        print(f"{file.name}: {len(texts):,} sentences, {np.mean(tokens):.1f} tokens")

        def count(way: Callable[[], object], number: int = len(texts)) -> int:
            way()
            return number

        ways: dict[str, Callable[[], int]] = {
            "plain": partial(count, partial(_encode_text, opened, texts)),
            "ours": partial(count, partial(opened.encode, texts)),
            "ours bf16": partial(count, partial(_in_bf16, opened, texts)),
            "ours int8": partial(count, partial(int8.encode, texts)),
            "ours without layers": partial(count, partial(without.encode, texts)),
            "only the tokenizer": partial(count, partial(opened.token_ids, texts)),
        }
        found = rates(ways, rounds, "sentence")
        for name in list(ways)[1:]:
            ratio(found, name, "plain")
        codes, plain_codes = torch.from_numpy(opened.encode(texts)), _encode_text(opened, texts)
        print(f"    largest difference of a code {(codes - plain_codes).abs().max():.1e}")
        for name, rounded in (("bf16", _in_bf16(opened, texts)), ("int8", int8.encode(texts))):
            print(
                f"    {name}: {_shared(codes, torch.from_numpy(rounded)):.4f} of the 10 nearest sentences are the same"
            )


@torch.no_grad()
def _encode_text(model: SentenceModel, texts: list[str]) -> Tensor:
    ids = model.token_ids(texts)
    codes = torch.empty(len(ids), model.latent_dim)
    for rows in evaluation_order(np.array([len(each) for each in ids]), tokens_per_batch=8192):
        codes[rows] = model.autoencoder.posterior(collate([ids[i] for i in rows], rows)).mean
    return codes


def _in_bf16(model: SentenceModel, texts: list[str]) -> np.ndarray:
    with torch.autocast("cpu", torch.bfloat16):
        return model.encode(texts)


def _shared(one: Tensor, other: Tensor) -> float:
    """The share of the 10 nearest sentences by cosine that two sets of codes [N, D] have in common."""
    nearest = []
    for codes in (one, other):
        unit = F.normalize(codes)
        nearest.append((unit @ unit.T).fill_diagonal_(-torch.inf).topk(10).indices)
    return (nearest[0][:, :, None] == nearest[1][:, None]).any(-1).float().mean().item()


def memory(tokens: int = 2000, hidden_dim: int = 1024, vocabulary_size: int = 89_247) -> None:
    """Measure the peak memory of the loss and its gradient beyond its inputs, on the CPU, in a process for each way."""
    for name in ("plain", "ours"):
        (total, before), peak = in_process(_loss, name, tokens, hidden_dim, vocabulary_size)
        print(f"  {name:6} {(peak - before) / 1e6:8,.0f} MB   log probability {total:.2f}", flush=True)


def _loss(name: str, tokens: int, hidden_dim: int, vocabulary_size: int) -> tuple[float, int]:
    """Compute the sum of log probabilities. Returns it with the memory before it."""
    torch.manual_seed(0)
    layer = VocabularyLayer(hidden_dim, vocabulary_size)
    hidden = torch.randn(tokens, hidden_dim, requires_grad=True)
    target = torch.randint(vocabulary_size, (tokens,))
    before = common.memory()
    if name == "ours":
        log_prob = layer(hidden, target)
    else:
        log_prob = -F.nll_loss(torch.log_softmax(layer.logits(hidden), -1), target, reduction="none")
    (-log_prob.sum() / 20).backward()
    return log_prob.sum().item(), before


def trained(steps: Iterator[int], num_steps: int) -> int:
    """Train some more steps, and return their number of tokens."""
    num_tokens = sum(itertools.islice(steps, num_steps))
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return num_tokens


def ours(corpus: Corpus, batch_size: int, *, bf16: bool) -> Iterator[int]:
    """Train `smim`'s model without end. Yields the number of tokens of each step, including `<eos>`."""
    torch.manual_seed(0)
    model = SentenceAutoencoder(SentenceArgs(), vocabulary_size=corpus.tokenizer.vocabulary_size).to(DEVICE)
    objective, split = AMIM(), corpus.split("train")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    order = partial(training_order, split, batch_size=batch_size, tokens_per_batch=None, length_window=100, seed=0)
    for epoch in itertools.count():
        for rows in order(shuffle_window=1_000_000, epoch=epoch):
            batch = split.batch(rows)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
                loss = objective.terms(model, batch.to(torch.device(DEVICE)), step=0)["loss"]
            _step(model, optimizer, loss.sum() / len(rows))
            yield int(batch.lengths.sum()) + len(rows)


def plain(corpus: Corpus, batch_size: int) -> Iterator[int]:
    """Train like the authors' published trainer, in short. Yields as `ours`."""
    torch.manual_seed(0)
    split, model = corpus.split("train"), PlainNetwork(SentenceArgs(), corpus.tokenizer.vocabulary_size).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(len(split))
        for rows in np.split(order, range(batch_size, len(order), batch_size)):
            tokens, lengths = plain_batch(split, rows, DEVICE)
            _step(model, optimizer, model.loss(tokens, lengths))
            yield int(lengths.sum()) + len(rows)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    optimizer.step()


if __name__ == "__main__":
    main(__doc__, speed, encode, text, memory)
