"""Keywords, codes and both, compared on texts that are cut in two."""

import numpy as np
import pytest

from smim.evaluation.halves import (
    KEYWORDS,
    Found,
    Halves,
    compare,
    cut,
    measure,
    share_that_comes_back,
    word_similarities,
)
from smim.generation import SentenceModel
from smim.search import index_texts

ACTORS = ["a bank", "the company", "her brother", "the old minister"]
THINGS = ["shares", "a small house", "the new law"]
TEXTS = [f"{actor} sold {thing}\n\n{actor} lost {thing}" for actor in ACTORS for thing in THINGS] * 2


def test_a_text_is_cut_between_sentences_or_words() -> None:
    assert cut("One came. Two came. Three came.") == ("One came. Two came.", "Three came.")
    assert cut("one two three four five six seven eight nine") == ("one two three four five", "six seven eight nine")
    assert cut("one two three four five six seven") is None
    assert cut("") is None


def test_what_is_as_similar_as_the_own_half_comes_before_it() -> None:
    similarities = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.9, 0.8, 0.7]])
    assert measure("x", similarities) == Found("x", 1 / 3, 1.0, pytest.approx((1 + 1 / 2 + 1 / 3) / 3))


def test_words_are_compared_as_a_search_by_words_does(model: SentenceModel, tmp_path) -> None:
    firsts, seconds = zip(*map(cut, TEXTS[:12]), strict=True)
    index = index_texts(model, seconds, tmp_path / "index")
    found = np.zeros((12, 12))
    for row, hits in enumerate(index.search(list(firsts), k=12, mode="sparse")):
        for hit in hits:
            found[row, hit.id] = hit.similarity
    np.testing.assert_allclose(word_similarities(list(firsts), list(seconds)), found, atol=1e-12)
    assert found.max() > 0.5


def test_keywords_models_and_both_are_compared_and_the_best_is_recommended(model: SentenceModel) -> None:
    texts = [text.replace("lost", f"lost no. {i}").replace("sold", f"sold no. {i}") for i, text in enumerate(TEXTS)]
    report = compare(texts, {"tiny": model})
    assert report.count == 24
    assert [each.name for each in report.found] == [KEYWORDS, "tiny", "tiny and keywords (hybrid)"]
    assert report.best.name == KEYWORDS and report.best.hit_1 == 1.0  # the numbers tell texts apart
    head, *table, advice = report.lines()
    assert "(24)" in head and len(table) == 3
    assert "100.0% first" in table[0] and advice.startswith(f"Recommended: {KEYWORDS}.")
    assert compare(texts, {"tiny": model}, most=20).count == 20


def test_sentences_that_come_back_are_counted(model: SentenceModel) -> None:
    sentences = [half for text in TEXTS for half in text.split("\n\n")]
    back = [a == b for a, b in zip(sentences[:20], model.reconstruct(sentences[:20]), strict=True)]
    assert share_that_comes_back(model, ["bank " * 70, *sentences], most=20) == np.mean(back)


def test_few_texts_say_nothing(model: SentenceModel) -> None:
    report = compare(["One came. Two came."] * 19 + ["short"] * 9, {"tiny": model})
    assert report == Halves(19, [])
    assert report.lines() == ["19 texts can be cut in two, but 20 are needed to compare searches on your own text"]
