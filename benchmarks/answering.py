"""Rank a question's candidate answers by codes, as trained and with a tuned encoder of questions.

    python benchmarks/answering.py runs/yahoo/model --pairs data/yahoocqa -o results/answering.json

The thesis (section 7.6) encodes "question ? answer" and "question ? <unk> .. <unk>", which eval/run.py measures. Here,
question and answer each have their own code. The methods are:

- cosine: the cosine of their codes after subtracting the mean code of the training answers.
- weighted: the cosine of sums of their words' own codes. These have unit length and are weighted by inverse document
  frequency in the training questions and answers. This method uses no right answer.
- weighted_bm25: the sum of that and word overlap, each standardised within a question. Its one weight is chosen on
  train.
- tuned: a copy of the encoder learns on the training questions. It moves a question's code towards its answer's code,
  and away from other answers. The codes of answers do not change. The epoch is chosen on valid.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

import smim
from benchmarks.common import Estimate, estimate, main, save
from smim.evaluation import answering
from smim.generation import SentenceModel
from smim.text.batch import collate
from smim.text.corpus import Corpus
from smim.text.tokenizer import SPECIAL

_BATCH, _EPOCHS, _LEARNING_RATE, _TEMPERATURE = 32, 8, 5e-4, 0.07
# Weights of the codes beside word overlap, where both are standardised.
_WEIGHTS = (0.25, 0.5, 1.0)


def compare(
    models: list[Path],
    pairs: Annotated[Path, typer.Option(help="A prepared corpus=yahoocqa.")],
    seeds: Annotated[int, typer.Option(help="Number of trainings of the encoder of questions.")] = 3,
    output: Annotated[Path | None, typer.Option("--output", "-o")] = None,
) -> None:
    corpus = Corpus.open(pairs)
    found: dict[str, dict[str, Estimate]] = {}
    for directory in models:
        model = smim.load(directory)
        splits = {name: encode(model, corpus, name) for name in ("train", "valid", "test")}
        test = splits["test"]
        by_words, both = weighted(model, splits)
        methods = {
            "bm25": _overlap(test.candidates),
            "cosine": scores(test.questions, test, splits["train"].center),
            "weighted": by_words,
            "weighted_bm25": both,
            **{f"tuned_{seed}": tuned(model, splits, seed) for seed in range(seeds)},
        }
        ranks = {name: _ranks(values, test) for name, values in methods.items()}
        chance = answering.random_order(test.candidates)
        found[str(directory)] = {
            **{f"{name}_p_at_1": estimate(answering.p_at_1(each)) for name, each in ranks.items()},
            **{f"{name}_mrr": estimate(answering.mrr(each)) for name, each in ranks.items()},
            **{f"random_{name}": estimate(each) for name, each in zip(("p_at_1", "mrr"), chance, strict=True)},
        }
    save(found, output)


@dataclass(frozen=True)
class Pairs:
    """A split's candidates, codes of their questions and answers, fp32 [N, D], and token ids of the questions."""

    candidates: answering.Candidates
    questions: Tensor
    answers: Tensor
    question_ids: list[list[int]]

    @property
    def center(self) -> Tensor:
        return self.answers.mean(0)


def encode(model: SentenceModel, corpus: Corpus, split: str) -> Pairs:
    candidates = answering.read_candidates(corpus.split(split))
    limit = model.autoencoder.args.max_length
    ids = [model.tokenizer.encode(f"{text} ?")[:limit] for text in candidates.questions]
    answers = [model.tokenizer.encode(text)[:limit] or [model.tokenizer.encode("?")[0]] for text in candidates.answers]
    return Pairs(candidates, model.posterior_of_ids(ids).mean, model.posterior_of_ids(answers).mean, ids)


def scores(questions: Tensor, pairs: Pairs, center: Tensor) -> np.ndarray:
    """Compute minus the cosine of each pair's codes, fp64 [N]."""
    return -F.cosine_similarity(questions - center, pairs.answers - center).double().numpy()


def weighted(model: SentenceModel, splits: dict[str, Pairs]) -> tuple[np.ndarray, np.ndarray]:
    """Score the test pairs by weighted sums of their words' codes, and by these and word overlap."""
    codes = _weighted_word_codes(model, splits["train"].candidates)
    by_words = {name: _word_scores(model, codes, splits[name].candidates) for name in ("train", "test")}

    def with_overlap(name: str, weight: float) -> np.ndarray:
        candidates = splits[name].candidates
        return _standardised(_overlap(candidates), candidates) + weight * _standardised(by_words[name], candidates)

    weight = max(_WEIGHTS, key=lambda weight: _mrr(with_overlap("train", weight), splits["train"]))
    return by_words["test"], with_overlap("test", weight)


def _weighted_word_codes(model: SentenceModel, candidates: answering.Candidates) -> np.ndarray:
    """Each word's code, of unit length times log((1 + n) / (1 + number of texts with the word)), [V, D]."""
    texts = [_distinct(model, text) for text in [*dict.fromkeys(candidates.questions), *candidates.answers]]
    vocabulary_size = model.autoencoder.input_size
    frequency = np.bincount(np.concatenate(texts), minlength=vocabulary_size)
    codes = model.posterior_of_ids([[word] for word in range(vocabulary_size)]).mean
    idf = np.log((1 + len(texts)) / (1 + frequency))
    return F.normalize(codes, dim=1).numpy() * np.where(np.arange(vocabulary_size) < len(SPECIAL), 0, idf)[:, None]


def _word_scores(model: SentenceModel, codes: np.ndarray, candidates: answering.Candidates) -> np.ndarray:
    question, answer = (
        torch.from_numpy(np.stack([codes[_distinct(model, text)].sum(0) for text in texts]))
        for texts in (candidates.questions, candidates.answers)
    )
    return -F.cosine_similarity(question, answer).double().numpy()


def _distinct(model: SentenceModel, text: str) -> np.ndarray:
    return np.unique(np.array(model.tokenizer.encode(text), dtype=np.int64))


def _standardised(values: np.ndarray, candidates: answering.Candidates) -> np.ndarray:
    groups = [values[rows] for rows in _rows_of_questions(candidates)]
    return np.concatenate([(group - group.mean()) / (group.std() + 1e-9) for group in groups])


def tuned(model: SentenceModel, splits: dict[str, Pairs], seed: int) -> np.ndarray:
    """Score the test pairs with an encoder of questions that was tuned on train, at its best epoch on valid."""
    torch.manual_seed(seed)
    encoder = copy.deepcopy(model.autoencoder)
    encoder.encoder.train()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=_LEARNING_RATE)
    center = splits["train"].center
    rows = _rows_of_questions(splits["train"].candidates)
    best, chosen = -1.0, scores(splits["test"].questions, splits["test"], center)
    for _ in range(_EPOCHS):
        for batch in torch.randperm(len(rows)).split(_BATCH):
            loss = _contrast(encoder, splits["train"], [rows[i] for i in batch.tolist()], center)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        valid, test = (scores(_encoded(encoder, splits[name]), splits[name], center) for name in ("valid", "test"))
        reached = _mrr(valid, splits["valid"])
        if reached > best:
            best, chosen = reached, test
    return chosen


def _contrast(encoder: torch.nn.Module, pairs: Pairs, groups: list[np.ndarray], center: Tensor) -> Tensor:
    """The cross entropy of each question's right answer among all candidates of the batch."""
    rows = np.concatenate(groups)
    questions = _means(encoder, [pairs.question_ids[group[0]] for group in groups]) - center
    similarity = F.normalize(questions, dim=1) @ F.normalize(pairs.answers[rows] - center, dim=1).T / _TEMPERATURE
    right = torch.from_numpy(pairs.candidates.right[rows])
    own = torch.from_numpy(np.repeat(np.arange(len(groups)), [len(group) for group in groups]))
    is_target = right & (own == torch.arange(len(groups))[:, None])
    return (torch.logsumexp(similarity, 1) - similarity.masked_fill(~is_target, -torch.inf).logsumexp(1)).mean()


@torch.no_grad()
def _encoded(encoder: torch.nn.Module, pairs: Pairs) -> Tensor:
    rows = _rows_of_questions(pairs.candidates)
    codes = _means(encoder, [pairs.question_ids[group[0]] for group in rows])
    return codes[torch.from_numpy(pairs.candidates.groups)]


def _means(encoder: torch.nn.Module, ids: list[list[int]]) -> Tensor:
    return encoder.posterior(collate(ids, range(len(ids)))).mean  # type: ignore[operator]


def _rows_of_questions(candidates: answering.Candidates) -> list[np.ndarray]:
    return np.split(np.arange(len(candidates)), np.cumsum(candidates.num_answers)[:-1])


def _overlap(candidates: answering.Candidates) -> np.ndarray:
    rows, bm25 = answering.bm25_scores(candidates, np.arange(candidates.num_questions))
    values = np.empty(len(candidates))
    values[rows] = bm25
    return values


def _ranks(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    return answering.ranks(values[:, None], pairs.candidates.right, pairs.candidates.groups)


def _mrr(values: np.ndarray, pairs: Pairs) -> float:
    return float(answering.mrr(_ranks(values, pairs)).mean())


if __name__ == "__main__":
    main(__doc__, compare)
