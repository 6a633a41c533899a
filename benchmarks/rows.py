"""Compare weights of whole rows' words beside the code of a row's nearest sentence.

python benchmarks/rows.py english-small reviews.csv --text-column review --label stars

Each query is a sentence of a row, and is left out of its own results. The script prints the mean of 1/rank of the rest
of its row, and the mean absolute difference of its label from those of the first 5 other rows.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import smim
from benchmarks import common
from smim.cli.shared import show
from smim.search.sentences import Columns, read_sentences
from smim.search.words import Statistics, WordQuery, words_of
from smim.text.sentences import sentences_of


def weights(
    model: str,
    files: list[Path],
    text_column: str = "text",
    label: Annotated[str, typer.Option(help="A column of numbers.")] = "stars",
    queries: int = 600,
    seed: int = 0,
) -> None:
    rows = read_sentences(files, columns=Columns(text_column, labels=(label,)), empty="skip")
    parts = [sentences_of(text) for text in rows.texts]
    texts, own = [each for part in parts for each in part], np.repeat(np.arange(len(parts)), list(map(len, parts)))
    words, labels = list(map(words_of, texts)), np.array(rows.labels[label], float)
    codes = np.nan_to_num(smim.load(model).encode(texts, empty="skip", normalize=True, show_progress=True))
    counts, starts = [Counter[str]() for _ in parts], np.flatnonzero(np.diff(own, prepend=-1))
    for row, each in zip(own, words, strict=True):
        counts[row].update(each)
    holding = Counter(word for each in counts for word in each)
    lengths = np.array([each.total() for each in counts], float)
    asked = [i for i in range(len(texts)) if 6 <= len(words[i]) <= 15 and len(parts[own[i]]) > 3]
    shares = np.linspace(0, 1, 11)
    found, apart = np.zeros((2, len(shares)))
    chosen = np.random.default_rng(seed).choice(asked, queries, replace=False)
    for i in chosen:
        row, cosines = own[i], codes @ codes[i]
        cosines[i] = 0
        by_code = np.maximum(np.maximum.reduceat(cosines, starts), 0)
        query = WordQuery(texts[i], Statistics(len(parts), int(lengths.sum()), holding))
        left, kept = counts[row] - Counter(words[i]), counts[row]
        counts[row] = left
        by_words = np.zeros(len(parts))
        for word in query.counts:
            number = np.array([each[word] for each in counts], float)
            by_words += query.gain(word, number, lengths)
        counts[row] = kept
        by_words = np.minimum(by_words / query.most, 1)
        for at, share in enumerate(shares):
            both = (1 - share) * by_code + share * by_words
            found[at] += 1 / (both >= both[row]).sum() / queries
            others = np.argsort(-both, kind="stable")[:6]
            apart[at] += np.abs(labels[others[others != row][:5]] - labels[row]).mean() / queries
    table = [
        [f"{share:.1f}", f"{mrr:.3f}", f"{diff:.3f}"] for share, mrr, diff in zip(shares, found, apart, strict=True)
    ]
    show(table, header=["weight of words", "mean of 1/rank", f"difference of {label}"])


if __name__ == "__main__":
    common.main(__doc__, weights)
