"""The words of sentences on disk, and BM25 of them."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from smim.errors import UserError
from smim.search.errors import Unreadable
from smim.search.words import (
    FILES,
    LENGTHS,
    ROWS_OF_WORDS,
    Statistics,
    WordQuery,
    Words,
    WordsWriter,
    spans_of,
    words_of,
)

TEXTS = ["A bank sold shares.", "the bank, the BANK; the river bank", "", "Straße über Wasser", "shares shares", "!?"]


def write(folder: Path, texts: list[str], *, at_once: int = 2) -> Words:
    writer = WordsWriter()
    for start in range(0, len(texts), at_once):
        writer.add([text.encode() for text in texts[start : start + at_once]])
    writer.write(folder)
    return open_words(folder, len(texts))


def open_words(folder: Path, num_rows: int) -> Words:
    return Words({name: folder / name for name in FILES}, num_rows)


def bm25(text: str, query: str, texts: list[str]) -> float:
    """Of one of the texts, by the formula as it stands in books."""
    words, lengths = Counter(words_of(text)), [len(words_of(each)) for each in texts]
    mean, score = sum(lengths) / len(texts), 0.0
    for word, times in Counter(words_of(query)).items():
        holding = sum(word in words_of(each) for each in texts)
        weight = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        count = words[word]
        score += times * weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * sum(words.values()) / mean))
    return score


def test_words_are_the_same_in_any_case_and_form_of_unicode() -> None:
    assert words_of("Don't STOP, e-mail 42x") == ["don", "t", "stop", "e", "mail", "42x"]
    assert words_of("ﬁne CAFE\u0301") == words_of("fine Caf\u00e9") == ["fine", "caf\u00e9"]
    assert words_of("Straße") == words_of("STRASSE")
    assert words_of("你好 мир") == ["你好", "мир"]
    assert words_of(" !? ") == []


def test_words_are_found_again_in_their_text() -> None:
    text = "The BANK's ﬁne, a bank"
    spans = spans_of(text, words_of("bank fine"))
    assert [text[start:end] for start, end in spans] == ["BANK", "ﬁne", "bank"]
    assert spans_of(text, []) == [] and spans_of("!?", ["bank"]) == []


@pytest.mark.parametrize("at_once", [1, 2, 6])
def test_similarities_are_bm25_by_the_querys_own(at_once: int, tmp_path: Path) -> None:
    words = write(tmp_path, TEXTS, at_once=at_once)
    for text in ["bank", "the bank sold the shares", "über river xyz", "Shares bank bank"]:
        query = WordQuery(text, words.statistics(words_of(text), None))
        scores = np.array([bm25(each, text, TEXTS) for each in TEXTS])
        assert scores.any()
        # The query as a sentence among those that there are.
        lengths = [len(words_of(each)) for each in TEXTS]
        size, own = len(words_of(text)), 0.0
        for word, times in Counter(words_of(text)).items():
            holding = sum(word in words_of(each) for each in TEXTS)
            weight = math.log(1 + (len(TEXTS) - holding + 0.5) / (holding + 0.5))
            own += times * weight * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * size / np.mean(lengths)))
        np.testing.assert_allclose(words.similarities(query), scores / own)


def test_a_sentence_is_as_similar_to_itself_as_can_be(tmp_path: Path) -> None:
    words = write(tmp_path, TEXTS)
    for row, text in enumerate(TEXTS):
        query = WordQuery(text, words.statistics(words_of(text), None))
        assert words.similarities(query)[row] == pytest.approx(1.0 if words_of(text) else 0.0)


def test_rows_that_are_gone_count_for_nothing(tmp_path: Path) -> None:
    words = write(tmp_path, TEXTS)
    live = np.array([True, False, True, True, True, True])
    assert words.statistics(["bank", "shares", "none"], live) == Statistics(5, 9, {"bank": 1, "shares": 2, "none": 0})
    assert words.statistics(["bank"], None) == Statistics(6, 16, {"bank": 2})
    parts = Statistics(2, 5, {"a": 1}) + Statistics(3, 1, {"a": 2})
    assert parts == Statistics(5, 6, {"a": 3})


def test_a_query_of_rare_words_alone_counts_more_by_its_words(tmp_path: Path) -> None:
    texts = [f"this is a sentence about the number w{i}" for i in range(200)]
    words = write(tmp_path, texts)

    def share(text: str) -> float:
        return WordQuery(text, words.statistics(words_of(text), None)).share

    assert share("w3 w7") == pytest.approx(0.9)
    assert share("this is a sentence about the number w3") == pytest.approx(0.2)
    assert 0.2 < share("the number w3 w4 w5") < 0.9
    assert share("!?") == 0


def test_a_word_that_is_repeated_is_counted_to_255(tmp_path: Path) -> None:
    texts = ["word " * 255, "word " * 1000, "another"]
    words = write(tmp_path, texts)
    query = WordQuery("word", words.statistics(["word"], None))
    assert (words.similarities(query)[:2] > 1).all()
    assert np.load(tmp_path / LENGTHS).tolist() == [255, 1000, 1]


def test_files_of_no_word_at_all_can_be_read(tmp_path: Path) -> None:
    words = write(tmp_path, ["", "!?"])
    query = WordQuery("bank", words.statistics(["bank"], None))
    assert words.similarities(query).tolist() == [0, 0]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, TEXTS)
    with pytest.raises(UserError):
        open_words(tmp_path, len(TEXTS) + 1)
    rows = np.load(tmp_path / ROWS_OF_WORDS)
    for wrong in (rows - 6, rows + 6, rows[::-1].copy()):
        np.save(tmp_path / ROWS_OF_WORDS, wrong)
        words = open_words(tmp_path, len(TEXTS))
        with pytest.raises(Unreadable, match="rows that do not exist"):
            words.statistics(["bank", "shares"], None)
    np.save(tmp_path / ROWS_OF_WORDS, rows[:-1])
    with pytest.raises(UserError):
        open_words(tmp_path, len(TEXTS))
    (tmp_path / "words.arrow").write_bytes(b"no Arrow")
    with pytest.raises(UserError):
        open_words(tmp_path, len(TEXTS))
