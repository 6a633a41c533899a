r"""Measure codes beside their likelihood: neighbours, answers, and decoding away from a sentence's code.

    python benchmarks/codes.py runs/*/model --stars data/stars --demo data/demo --yahoocqa data/yahoocqa \
        --sentences data/ptb -o results/codes.json

Words outside a model's vocabulary are `<unk>`. The metrics of each model, each with its standard error, are:

- `stars`: the accuracy of a review's stars from its 5 nearest training reviews.
- `paraphrases`: the share of the 5 nearest sentences of the demo corpus that have the same meaning.
- `mrr`, `p_at_1`: the ranks of YahooCQA's right answers by the distance of means.
- BLEU-1 with the sentence, decoded from its code with noise. The noise has 10 standard deviations of its posterior
  (an autoencoder has none), or 0.1 to 1 times the standard deviation of all codes.
- Midway between two sentences: the share of the words that occur in one of them.
- Nats per word under a trigram model, for the sentences, all decoded ones, and those from N(0, 0.1^2).

A trigram model does not judge meaning, but it separates sentences from random words.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from nltk.lm import Vocabulary, WittenBellInterpolated
from nltk.lm.preprocessing import padded_everygram_pipeline
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

import smim
from benchmarks.common import Estimate, estimate, main, save
from smim.evaluation import answering
from smim.generation import SentenceModel
from smim.model import noise
from smim.text.corpus import Corpus

_NEIGHBOURS = 5
_DECODED = 300
_SIGMAS = 10.0
_SHARES = (0.1, 0.3, 1.0)
_SAMPLE_DEVIATION = 0.1

Metrics = dict[str, Estimate]
Prepared = Annotated[Path, typer.Option(help="A prepared corpus.")]


def compare(
    models: list[Path],
    stars: Prepared,
    demo: Prepared,
    yahoocqa: Prepared,
    sentences: Prepared,
    star_column: str = "0",
    split: Annotated[str, typer.Option(help="test, or valid for choosing.")] = "test",
    output: Annotated[Path | None, typer.Option("--output", "-o")] = None,
) -> None:
    language = Trigrams(Corpus.open(sentences))
    found = {}
    for directory in models:
        model = smim.load(directory)
        found[str(directory)] = {
            **neighbours(model, Corpus.open(stars), Corpus.open(demo), star_column, split),
            **answers(model, Corpus.open(yahoocqa)),
            **decoded(model, Corpus.open(sentences).split(split), language),
        }
    save(found, output)


def neighbours(model: SentenceModel, stars: Corpus, demo: Corpus, column: str, split: str) -> Metrics:
    """Compute `stars` and `paraphrases` by the Euclidean distance of mean codes."""
    train, test = stars.split("train"), stars.split(split)
    nearest = _nearest(model.encode(test.texts()), model.encode(train.texts()), _NEIGHBOURS)
    labels = np.array([int(label) for label in train.labels(column)])
    votes = np.stack([(labels[nearest] == star).sum(1) for star in range(6)], axis=1)
    right = votes.argmax(1) == np.array([int(label) for label in test.labels(column)])
    sentences = demo.split(split)
    codes, families = model.encode(sentences.texts()), np.array(sentences.labels("family"))
    others = _nearest(codes, codes, _NEIGHBOURS + 1)
    is_self = others == np.arange(len(codes))[:, None]
    same = ((families[others] == families[:, None]) & ~is_self).sum(1)
    relatives = np.array([(families == family).sum() - 1 for family in families])
    # A sentence with fewer relatives than neighbours needs only as many as it has.
    share = same[relatives > 0] / np.minimum(relatives, _NEIGHBOURS)[relatives > 0]
    return {"stars": estimate(right), "paraphrases": estimate(np.minimum(share, 1))}


def answers(model: SentenceModel, corpus: Corpus) -> Metrics:
    """Compute `mrr` and `p_at_1` of the test questions (section 7.6) by the distance of means."""
    candidates = answering.read_candidates(corpus.split("test"))
    *pairs, _ = answering.encode(model.tokenizer, candidates, limit=model.autoencoder.args.max_length)
    answered, unknown = (model.posterior_of_ids(each) for each in pairs)
    sigma = torch.ones_like(unknown.mean) if model.deterministic else unknown.standard_deviation
    distance = answering.distance(unknown.mean, answered.mean, sigma)[:, None].numpy()
    ranks = answering.ranks(distance, candidates.right, candidates.groups)
    return {"mrr": estimate(answering.mrr(ranks)), "p_at_1": estimate(answering.p_at_1(ranks))}


def decoded(model: SentenceModel, split: Any, language: "Trigrams") -> Metrics:
    """Measure greedy decoding of codes near and between the codes of sentences."""
    decode = partial(model.decode, allow_unknown=True)
    rows = np.random.default_rng(0).permutation(len(split))[:_DECODED]
    ids = split.ids(rows)
    # Only the model's own words, because decoding produces no others.
    texts = [model.tokenizer.decode(sentence) for sentence in ids]
    posterior = model.posterior_of_ids(ids)
    draws = noise.normal(0, rows, 0, model.latent_dim)
    deviation = float(posterior.mean.std())
    beside = {f"{share:g}_deviation": decode(posterior.mean + share * deviation * draws) for share in _SHARES}
    if not model.deterministic:
        beside["10_sigma"] = decode(posterior.mean + _SIGMAS * posterior.standard_deviation * draws)
    half = len(texts) // 2
    ends = list(zip(texts[:half], texts[half : 2 * half], strict=True))
    midway = decode((posterior.mean[:half] + posterior.mean[half : 2 * half]) / 2)
    sampled = decode(_SAMPLE_DEVIATION * draws)
    shares = [_share_of_words(text, ends[i]) for i, text in enumerate(midway)]
    return {
        "bleu_own": _bleu(texts, decode(posterior.mean)),
        **{f"bleu_{name}": _bleu(texts, sentences) for name, sentences in beside.items()},
        "midway_words_of_ends": estimate(shares),
        "code_deviation": {"value": deviation, "error": 0.0},
        **{
            f"trigram_nats_{name}": language.nats_a_word(sentences)
            for name, sentences in {"of_sentences": texts, **beside, "midway": midway, "sampled": sampled}.items()
        },
    }


class Trigrams:
    """A Witten-Bell trigram model of a corpus's training sentences, with the words of its tokenizer."""

    def __init__(self, corpus: Corpus) -> None:
        self.tokenizer = corpus.tokenizer
        train = corpus.split("train")
        ngrams, words = padded_everygram_pipeline(3, [self._words(text) for text in train.texts()])
        self.model = WittenBellInterpolated(3, vocabulary=Vocabulary(unk_cutoff=1))
        self.model.fit(ngrams, words)

    def nats_a_word(self, texts: Sequence[str]) -> Estimate:
        """Compute the mean over texts of -log p per word, including `</s>`. An empty text counts as `</s>` alone."""
        return estimate([self._nats(self._words(text)) for text in texts])

    def _words(self, text: str) -> list[str]:
        return self.tokenizer.decode(self.tokenizer.encode(text)).split()

    def _nats(self, words: list[str]) -> float:
        padded = ["<s>", "<s>", *words, "</s>"]
        bits = [-self.model.logscore(padded[i], padded[i - 2 : i]) for i in range(2, len(padded))]
        return float(np.mean(bits) * np.log(2))


def _nearest(queries: np.ndarray, codes: np.ndarray, num: int) -> np.ndarray:
    squared = (codes**2).sum(1) - 2 * queries @ codes.T
    return np.argsort(squared, axis=1, kind="stable")[:, :num]


def _share_of_words(text: str, ends: tuple[str, str]) -> float:
    words, known = text.split(), {word for end in ends for word in end.split()}
    return float(np.mean([word in known for word in words])) if words else 0.0


def _bleu(references: Sequence[str], texts: Sequence[str]) -> Estimate:
    smoothing = SmoothingFunction().method1
    return estimate(
        [
            sentence_bleu([one.split()], other.split(), weights=(1, 0, 0, 0), smoothing_function=smoothing)
            for one, other in zip(references, texts, strict=True)
        ]
    )


if __name__ == "__main__":
    main(__doc__, compare)
