"""Find out what the distance of section 7.6 measures, beside other ways to rank a question's candidate answers.

    python benchmarks/answer_distance.py texts $SMIM_DATA data/qa_pairs.txt
    python benchmarks/answer_distance.py compare runs/qa/model --pairs data/yahoocqa --split test -o runs/qa/codes.json

`texts` writes training texts "question ? answer" with right answers: those of the derived pairs, of the subset, and of
Yahoo Answers. It leaves out questions of the sets that evaluate. `compare` measures.

The distance is ||mu_unk - mu_qa|| / sigma_unk between the means of the codes of "question ? answer" and "question ?
<unk> .. <unk>". The methods are:

- distance, and distance_sigma_1 with sigma = 1. log_q: minus log q(mu_qa) under the posterior of the second text.
- shuffled: the distance with the answer's words in a random order.
- other_question: the distance with the question of another group. It cannot know whether the answer is right.
- cosine: the cosine of the codes of question and answer, after subtracting the mean code of the answers.
- meaning, hybrid: the cosine of the meaning parts of `english-small`, and the mean of this and word overlap.
- bm25, length: word overlap, and the longest answer first.

Each method has P@1 and MRR; a low score ranks first. Its rank correlation with the answer's number of words
(`_length`) and with `distance` (`_distance`) are means over questions, each over its own candidates. The part
`equal_` marks answers that are cut to the shortest of their question.

Of the distance alone, as means over answers or questions:

- first_half, second_half: the distance when only this half of the answer's words is known, relative to all.
- random_wins: 1 if the right answer has a smaller distance than the right answer of another question, both cut to
  the same length. Chance is 0.5.
- sigma_spread: the standard deviation of log sigma over pairs and dimensions.
"""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
import typer

import smim
from benchmarks.common import Estimate, estimate, main, save
from smim import storage
from smim.evaluation import answering
from smim.evaluation.answering import Candidates
from smim.evaluation.halves import word_similarities
from smim.evaluation.job import log_prob_64
from smim.generation import SentenceModel
from smim.model.distributions import DiagonalGaussian
from smim.text.corpus import Corpus
from smim.text.words import split_words

SHARE_OF_WORDS = 0.5


def texts(
    data: Annotated[Path, typer.Argument(help="The folder of the published corpora.")],
    output: Annotated[Path, typer.Argument(help="The file of texts to write, one a line.")],
) -> None:
    derived, subset = data / "qa_yahoo_derived/yahooqa_derived", data / "qa_yahoocqa_subset/yahoocqa_subset"
    evaluated = [f"{derived}.dev.tsv.gz", f"{derived}.test.tsv.gz", f"{subset}.test.tsv.gz"]
    held_out = {_asked(row[2]).lower() for path in evaluated for row in _rows(path)}
    pairs = [row for path in (derived, subset) for row in _rows(f"{path}.train.tsv.gz") if row[1] == "1"]
    found = {f"{_asked(row[2])} {row[3]}": None for row in pairs if _asked(row[2]).lower() not in held_out}
    for [text] in _rows(data / "yahoo/yahoo.valid.txt.gz"):
        question, mark, _ = text.partition("?")
        if mark and _asked(question.strip()).lower() not in held_out:
            found[text] = None
    storage.write_text(output, "".join(f"{text.replace('_UNK', '<unk>')}\n" for text in found))


def compare(
    models: list[Path],
    pairs: Annotated[Path, typer.Option(help="A prepared corpus=yahoocqa.")],
    split: str = "valid",
    questions: Annotated[int | None, typer.Option(help="Only so many questions of the split.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o")] = None,
) -> None:
    candidates = answering.read_candidates(Corpus.open(pairs).split(split))
    candidates = first_questions(candidates, questions or candidates.num_questions)
    english = smim.load("english-small")
    save({str(directory): measure(smim.load(directory), english, candidates) for directory in models}, output)


def measure(model: SentenceModel, english: SentenceModel, candidates: Candidates) -> dict[str, Estimate]:
    """Compute all metrics of a model's methods."""
    found: dict[str, Estimate] = {}
    for prefix, each in {"": candidates, "equal_": cut_to_equal(candidates)}.items():
        methods = model_scores(model, each) | references(english, each)
        if prefix:
            del methods["length"]
        for name, values in methods.items():
            found[f"{name}_{prefix}p_at_1"] = estimate(answering.p_at_1(_ranks(values, each)))
            found[f"{name}_{prefix}mrr"] = estimate(answering.mrr(_ranks(values, each)))
            found[f"{name}_{prefix}distance"] = correlation(values, methods["distance"], each)
            if not prefix:
                found[f"{name}_length"] = correlation(values, num_words(each), each)
    return found | of_distance(model, candidates)


def of_distance(model: SentenceModel, candidates: Candidates) -> dict[str, Estimate]:
    """Compute the metrics of the distance alone."""
    answered, unknown = posteriors(model, candidates)
    whole, words = _distance(answered, unknown), words_of(candidates)
    halves = {
        "first_half": [each[: (len(each) + 1) // 2] + ["<unk>"] * (len(each) // 2) for each in words],
        "second_half": [["<unk>"] * ((len(each) + 1) // 2) + each[(len(each) + 1) // 2 :] for each in words],
    }
    found = {}
    for name, answers in halves.items():
        known = replace(candidates, answers=[" ".join(each) for each in answers])
        found[name] = estimate(_distance(posteriors(model, known)[0], unknown) / whole)
    against = cut_to_equal(against_other_answers(candidates))
    found["random_wins"] = estimate(answering.p_at_1(_ranks(_distance(*posteriors(model, against)), against)))
    return found | {"sigma_spread": {"value": float(unknown.log_variance.std() / 2), "error": 0.0}}


def model_scores(model: SentenceModel, candidates: Candidates) -> dict[str, np.ndarray]:
    """Score N pairs with a model's codes by each method, fp64 [N]. The smallest ranks first."""
    answered, unknown = posteriors(model, candidates)
    firsts = np.unique(candidates.groups, return_index=True)[1]
    other = [candidates.questions[row] for row in np.roll(firsts, 1)[candidates.groups]]
    chance = np.random.default_rng(0)
    mixed = [" ".join(chance.permutation(words)) for words in words_of(candidates)]
    asked, answers = (
        model.posterior(texts).mean for texts in ([f"{q} ?" for q in candidates.questions], candidates.answers)
    )
    center = answers.mean(0)
    return {
        "distance": _distance(answered, unknown),
        "distance_sigma_1": answering.distance(unknown.mean, answered.mean, torch.ones_like(answered.mean)).numpy(),
        "log_q": -log_prob_64(unknown, answered.mean).numpy(),
        "shuffled": _distance(*posteriors(model, replace(candidates, answers=mixed))),
        "other_question": _distance(*posteriors(model, replace(candidates, questions=other))),
        "cosine": -F.cosine_similarity(asked - center, answers - center).double().numpy(),
    }


def references(english: SentenceModel, candidates: Candidates) -> dict[str, np.ndarray]:
    """Score N pairs by `english-small`, words and length, fp64 [N]. The smallest ranks first."""
    codes = [english.encode(texts) for texts in (candidates.questions, candidates.answers)]
    asked, answers = (torch.from_numpy(each[:, : english.dimension_of("meaning")]) for each in codes)
    meaning = F.cosine_similarity(asked, answers).double().numpy()
    overlap = np.concatenate(
        [
            word_similarities([candidates.questions[rows[0]]], [candidates.answers[row] for row in rows])[0]
            for rows in np.split(np.arange(len(candidates)), np.cumsum(candidates.num_answers)[:-1])
        ]
    )
    rows, bm25 = answering.bm25_scores(candidates, np.arange(candidates.num_questions))
    by_words = np.empty(len(candidates))
    by_words[rows] = bm25
    return {
        "meaning": -meaning,
        "hybrid": -((1 - SHARE_OF_WORDS) * meaning + SHARE_OF_WORDS * overlap),
        "bm25": by_words,
        "length": -num_words(candidates).astype(np.float64),
    }


def posteriors(model: SentenceModel, candidates: Candidates) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """q(z|x) of the N texts with the answer, and of the N texts with `<unk>` instead."""
    *pairs, _ = answering.encode(model.tokenizer, candidates, limit=model.autoencoder.args.max_length)
    answered, unknown = (model.posterior_of_ids(each) for each in pairs)
    return answered, unknown


def words_of(candidates: Candidates) -> list[list[str]]:
    """The words of each answer, at least one, in lower case with separate punctuation."""
    return [words or ["?"] for words in split_words(pa.array(candidates.answers), "tweet").to_pylist()]


def num_words(candidates: Candidates) -> np.ndarray:
    """The number of words of each answer, int64 [N]."""
    return np.array([len(words) for words in words_of(candidates)])


def cut_to_equal(candidates: Candidates) -> Candidates:
    """Cut the answers of each question to the number of words of its shortest answer."""
    shortest = np.full(candidates.num_questions, np.iinfo(np.int64).max)
    np.minimum.at(shortest, candidates.groups, num_words(candidates))
    limits = shortest[candidates.groups]
    answers = [" ".join(words[:limit]) for words, limit in zip(words_of(candidates), limits, strict=True)]
    return replace(candidates, answers=answers)


def first_questions(candidates: Candidates, count: int) -> Candidates:
    kept = int((candidates.groups < count).sum())
    return Candidates(
        candidates.groups[:kept], candidates.questions[:kept], candidates.answers[:kept], candidates.right[:kept], 0
    )


def against_other_answers(candidates: Candidates) -> Candidates:
    """Make two candidates per question: its right answer, and that of the next question."""
    rows = np.unique(candidates.groups[candidates.right], return_index=True)[1]
    rows = np.flatnonzero(candidates.right)[rows]
    answers = [candidates.answers[row] for row in rows]
    return Candidates(
        groups=np.repeat(np.arange(len(rows)), 2),
        questions=[candidates.questions[row] for row in rows for _ in range(2)],
        answers=[text for pair in zip(answers, np.roll(answers, 1).tolist(), strict=True) for text in pair],
        right=np.tile([True, False], len(rows)),
        num_left_out=0,
    )


def correlation(a: np.ndarray, b: np.ndarray, candidates: Candidates) -> Estimate:
    """Compute Spearman's correlation of two scores [N] within each question, and its mean over questions.

    Questions whose candidates all have the same score are left out.
    """
    return estimate(answering.rank_correlations(a, b, candidates.groups))


def _rows(path: str | Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file]


def _asked(question: str) -> str:
    return question if question.endswith("?") else f"{question} ?"


def _ranks(values: np.ndarray, candidates: Candidates) -> np.ndarray:
    return answering.ranks(values[:, None], candidates.right, candidates.groups)


def _distance(answered: DiagonalGaussian, unknown: DiagonalGaussian) -> np.ndarray:
    return answering.distance(unknown.mean, answered.mean, unknown.standard_deviation).numpy()


if __name__ == "__main__":
    main(__doc__, texts, compare)
