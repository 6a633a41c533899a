"""`smim adapt`: adapt a trained model with a meaning part to a small corpus of texts, in minutes.

1. The meaning part learns which sentences belong together. Each text is cut in two between sentences, at a new place
   each time. The meaning of one part should identify its other part among those of other texts (InfoNCE, van den Oord
   et al. 2018; with texts cut in two, the inverse cloze task of Lee et al. 2019). The epoch that is best on held-out
   texts is kept.
2. The meaning part is frozen, and the decoder learns to write the texts' sentences from their new codes.
3. The prior is fitted to these codes.

Shapes: B texts, M dimensions of the meaning part.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import Tensor

from smim.errors import Unsupported, UserError, check_size, refuse_if
from smim.fitted_prior import with_prior_of
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import CONFIG, hash_of, load_model, save_model
from smim.progress import console, progress_bar
from smim.text.batch import collate, with_random_words
from smim.text.sentences import sentences_of
from smim.text.tokenizer import Tokenizer

FEWEST = 200  # texts that can be cut in two
_MOST_HELD_OUT = 1000
# Shares of the texts: to choose the epoch, and to report the result.
_SHARES_HELD_OUT = (0.05, 0.1)
_MOST_EPOCHS, _TEXTS_A_BATCH, _FEWEST_A_BATCH, _TEMPERATURE = 5, 192, 16, 0.05
# Learning rates of the word embeddings, which get sparse gradients, and of all other weights.
_LEARNING_RATES = [1.5e-3, 5e-4]
_SHARE_OF_WARMUP = 0.1
_TOKENS_OF_A_PART = 96  # the most tokens of each part of a text
# Training of the decoder, after the meaning part.
_DECODER_LEARNING_RATE, _TOKENS_A_BATCH, _FEWEST_TOKENS, _TOKENS_OF_A_SENTENCE = 5e-4, 2048, 256, 80
_RANDOM_SENTENCES = 0.1
_SHARE_OF_MEANING = 0.6  # the most of the time for the meaning part
_MOST_DECODER_EPOCHS = 3
_COMPONENTS, _SPREAD, _CODES_OF_THE_PRIOR, _TOKENS_OF_A_SAMPLE = 500, 0.4, 10_000, 12

# The token ids of each sentence of one text.
Ids = list[list[int]]


@dataclass(frozen=True)
class Adapted:
    """The result: the held-out texts, and per epoch the share of second halves that are found first."""

    held_out: list[str]
    hit_1: list[float] = field(default_factory=list)


def adapt(
    model_dir: Path | str, texts: Sequence[str], output: Path | str, *, minutes: float = 8.0, seed: int = 0
) -> Adapted:
    """Adapt the model of `model_dir` to texts, and write it to `output`. `smim.load` reads it as any model.

        adapt("english-small", reviews, "models/reviews")

    `minutes`: the time limit; it ends earlier if there is no more to learn. A tenth of the texts, at most 1,000, is
    held out and returned.

    Raises `UserError` for fewer than 200 texts of several sentences, and for a model whose codes have no meaning part,
    and an `output` that holds something else than a model.
    """
    started = time.monotonic()
    check_size("minutes", minutes, above=True)
    if Path(output).exists() and not (Path(output) / CONFIG).is_file():
        raise UserError(f"{output} exists and is not a model; give another path, so that it is not lost")
    model, tokenizer, config = load_model(model_dir)
    if not model.encoder.meaning_dim:
        raise Unsupported(
            "this model's codes have no meaning part to adapt; use a model that has one, such as english-small"
        )
    order = np.random.default_rng([seed, 0]).permutation(len(texts))
    with console.status("reading the texts"):
        split = {int(i): _sentences(texts[i], tokenizer) for i in order}
    usable = [i for i, sentences in split.items() if len(sentences) > 1]
    refuse_if({
        f"{len(usable)} texts have more than one sentence, but at least {FEWEST} are needed; search them with "
        f"{model_dir} without adapting it": len(usable) < FEWEST,
    })  # fmt: skip
    num_chosen_by, num_left_out = (min(_MOST_HELD_OUT, int(share * len(usable))) for share in _SHARES_HELD_OUT)
    held_out, chosen_by = usable[:num_left_out], usable[num_left_out:][:num_chosen_by]
    learned_from = [i for i in split if i not in {*held_out, *chosen_by} and split[i]]
    torch.manual_seed(seed)
    pairs = [split[i] for i in learned_from if len(split[i]) > 1]
    deadline = started + 60 * minutes
    with progress_bar() as bar:
        hits = _learn_meaning(
            model, pairs, [split[i] for i in chosen_by], seed, started + _SHARE_OF_MEANING * 60 * minutes, bar
        )
        sentences = [ids[:_TOKENS_OF_A_SENTENCE] for i in learned_from for ids in split[i]]
        steps = _learn_to_write(model, sentences, seed, deadline, bar)
    hash = hash_of(model_dir)
    training = config["training"] | {
        "adapted": {"from": hash, "texts": len(learned_from), "seed": seed, "hit_1": hits, "decoder_steps": steps},
    }
    training |= {"sentences": len(sentences), "corpus": "own texts"}
    adapted = SentenceModel(model.eval(), tokenizer, config, hash="")
    random = np.random.default_rng([seed, 3])
    # Center the prior on codes of short sentences, which the model writes well from a meaning alone.
    short = [ids for ids in sentences if len(ids) <= _TOKENS_OF_A_SAMPLE] or sentences
    codes = adapted.posterior_of_ids([short[i] for i in random.permutation(len(short))[:_CODES_OF_THE_PRIOR]]).mean
    model = with_prior_of(model, codes, components=min(_COMPONENTS, len(codes)), spread=_SPREAD)
    use = config.get("use") or {}
    save_model(output, model, tokenizer, training=training, use=use)
    return Adapted([texts[i] for i in held_out], hits)


def _sentences(text: str, tokenizer: Tokenizer) -> Ids:
    return [ids for each in sentences_of(text) if (ids := tokenizer.encode(each))]


def _learn_meaning(
    model: SentenceAutoencoder, texts: list[Ids], chosen_by: list[Ids], seed: int, deadline: float, bar: Progress
) -> list[float]:
    """Train the meaning part on parts of texts; returns the share of `chosen_by` found at first and after each epoch.

    Keeps the weights of the best epoch.
    """
    tables = [module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    others = [each for each in model.parameters() if not any(each is table for table in tables)]
    size = min(_TEXTS_A_BATCH, max(_FEWEST_A_BATCH, len(texts) // 8))
    total = _MOST_EPOCHS * (len(texts) // size)
    groups: list[dict[str, Any]] = [{"params": tables}, {"params": others}]
    optimizer = torch.optim.Adam(groups)
    rate = _Rate(optimizer, _LEARNING_RATES, total, deadline)
    best, hits = deepcopy(model.state_dict()), [_found(model, chosen_by)]
    task = bar.add_task("meaning", total=total)
    for epoch in range(_MOST_EPOCHS):
        random = np.random.default_rng([seed, 1, epoch])
        order = random.permutation(len(texts))
        model.train()
        for start in range(0, len(order) - size + 1, size):
            if rate.is_over:
                break
            parts = [_cut(texts[i], random) for i in order[start : start + size]]
            one_BM, other_BM = (_meanings(model, [part[side] for part in parts]) for side in (0, 1))
            logits_BB, own_B = one_BM @ other_BM.T / _TEMPERATURE, torch.arange(size)
            loss = 0.5 * (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            bar.update(task, completed=rate.taken)
        hits.append(_found(model, chosen_by))
        if hits[-1] >= max(hits):
            best = deepcopy(model.state_dict())
        if rate.is_over:
            break
    model.load_state_dict(best)
    bar.update(task, completed=total)
    return hits


def _learn_to_write(model: SentenceAutoencoder, sentences: Ids, seed: int, deadline: float, bar: Progress) -> int:
    """Train all but the meaning part to write sentences from sampled codes; returns the number of steps."""
    model.hold_meaning()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=_DECODER_LEARNING_RATE)
    batches = list(_batches(sentences, seed))
    rate = _Rate(optimizer, [_DECODER_LEARNING_RATE], len(batches), deadline)
    model.train()
    task = bar.add_task("writing", total=len(batches))
    for rows in batches:
        if rate.is_over:
            break
        batch = collate([sentences[i] for i in rows], rows)
        batch = with_random_words(batch, _RANDOM_SENTENCES, model.input_size)
        nats_B = -model.log_likelihood(batch, model.posterior(batch).sample())
        optimizer.zero_grad()
        nats_B.mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        rate.step()
        bar.update(task, completed=rate.taken)
    return rate.taken


class _Rate:
    """A learning rate with warm-up and cosine decay to 0, by steps or by the clock, whichever ends first."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        highest: list[float],
        total: int,
        deadline: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.optimizer, self.highest, self.total, self.deadline, self.now = optimizer, highest, total, deadline, now
        self.started, self.taken = now(), 0
        self._set()

    @property
    def progress(self) -> float:
        by_clock = (self.now() - self.started) / max(1e-9, self.deadline - self.started)
        return max(self.taken / max(1, self.total), by_clock)

    @property
    def is_over(self) -> bool:
        return self.progress >= 1

    def step(self) -> None:
        self.taken += 1
        self._set()

    def _set(self) -> None:
        progress = min(1.0, self.progress)
        warm = min(1.0, (self.taken + 1) / max(1.0, _SHARE_OF_WARMUP * self.total))
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * warm * 0.5 * (1 + math.cos(math.pi * progress))


def _cut(text: Ids, random: np.random.Generator) -> tuple[list[int], list[int]]:
    """Two parts of a text, cut between two sentences."""
    at = int(random.integers(1, len(text)))
    return _joined(text[:at])[-_TOKENS_OF_A_PART:], _joined(text[at:])[:_TOKENS_OF_A_PART]


def _joined(sentences: Ids) -> list[int]:
    return list(chain.from_iterable(sentences))


def _meanings(model: SentenceAutoencoder, ids: Ids) -> Tensor:
    """Meaning parts, unit vectors [B, M], of token ids; texts of similar length are batched together."""
    order = np.argsort([len(each) for each in ids], kind="stable")
    parts = np.array_split(order, max(1, len(ids) // 64))
    found = [model.meaning_of(collate([ids[i] for i in part], part)) for part in parts]
    return torch.cat(found)[torch.from_numpy(np.argsort(order))]


@torch.no_grad()
def _found(model: SentenceAutoencoder, texts: list[Ids]) -> float:
    """The share of first halves whose nearest second half is their own."""
    model.eval()
    firsts = [_joined(text[: (len(text) + 1) // 2]) for text in texts]
    seconds = [_joined(text[(len(text) + 1) // 2 :]) for text in texts]
    cosines_BB = _meanings(model, firsts) @ _meanings(model, seconds).T
    return float((cosines_BB.argmax(1) == torch.arange(len(texts))).float().mean())


def _batches(sentences: Ids, seed: int) -> Iterator[list[int]]:
    """Rows in batches of similar token counts and sentence lengths; each sentence once per epoch."""
    lengths = np.array([len(each) for each in sentences])
    size = min(_TOKENS_A_BATCH, max(_FEWEST_TOKENS, int(lengths.sum()) // 40))
    for epoch in range(_MOST_DECODER_EPOCHS):
        random = np.random.default_rng([seed, 2, epoch])
        by_length = np.lexsort((random.random(len(sentences)), lengths))
        ends = np.flatnonzero(np.diff(np.cumsum(lengths[by_length]) // size)) + 1
        parts = np.split(by_length, ends)
        yield from (parts[i].tolist() for i in random.permutation(len(parts)))
