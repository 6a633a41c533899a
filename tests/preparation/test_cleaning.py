"""Cleaning: what each step makes of texts, and that the fast word limits agree with `str.split`."""

import unicodedata
from collections import Counter

import pyarrow as pa
import pytest
import sentencex
from hypothesis import given, settings
from hypothesis import strategies as st

from smim.errors import UserError
from smim.preparation.cleaning import Cleaning

SPACES = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())


def clean(texts: list[str], **options) -> tuple[list[str], dict[str, int]]:
    rows, counts = clean_rows(texts, **options)
    return [row["text"] for row in rows], counts


def clean_rows(texts: list[str], **options) -> tuple[list[dict[str, str]], dict[str, int]]:
    block = pa.table({"text": pa.array(texts, pa.string()), "n": pa.array([str(i) for i in range(len(texts))])})
    counts: Counter[str] = Counter()
    cleaned = Cleaning(**options).apply(block, counts)
    assert cleaned.schema == block.schema
    cleaned.validate(full=True)
    return cleaned.to_pylist(), dict(counts)


def test_without_settings_a_block_stays_as_it_is():
    assert clean(["A  b.", "É"]) == (["A  b.", "É"], {})


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_texts_are_normalised_as_unicodedata_does(form):
    texts = ["e\u0301 ﬁ①", "\uac00 Å \u1e9b\u0323", "plain"]
    assert clean(texts, normalize=form) == ([unicodedata.normalize(form, text) for text in texts], {})


def test_what_normalising_leaves_at_the_ends_is_trimmed():
    assert clean(["\u00a8x"], normalize="NFKC") == (["\u0308x"], {})


def test_texts_are_lower_cased():
    assert clean(["ÀB Cd ẞ"], lowercase=True) == (["àb cd ß"], {})


def test_texts_are_split_into_sentences_with_their_labels():
    rows, counts = clean_rows(["Dr. Smith came.  He left. \n\n And so?", "", "No end"], split_sentences=True)
    assert [(row["text"], row["n"]) for row in rows] == [
        ("Dr. Smith came.", "0"), ("He left.", "0"), ("And so?", "0"), ("No end", "2")
    ]  # fmt: skip
    assert counts == {}


def test_sentences_follow_the_rules_of_the_language():
    text = "Wir sehen ggf. Bäume. Sie sind grün."
    assert clean([text], split_sentences=True, language="de")[0] == ["Wir sehen ggf. Bäume.", "Sie sind grün."]
    assert len(clean([text], split_sentences=True, language="en")[0]) == 3


@pytest.mark.parametrize("language", ["deu", "ger", "xx", "sv"])
def test_a_language_that_would_be_taken_for_english_is_refused(language):
    text = "Wir sehen ggf. Bäume. Sie sind grün."
    assert sentencex.segment(language, text) == sentencex.segment("en", text)
    with pytest.raises(UserError, match=f"corpus.language is '{language}'; .* one of am, .*, de, .*, en, .*, uk: take"):
        Cleaning(split_sentences=True, language=language)


TEXTS = ["a", "a b", "ä  b\tc", "a b c d", "a\u3000b c d\xa0e f g"]


@pytest.mark.parametrize(
    ("options", "expected", "counts"),
    [
        ({"min_words": 3}, TEXTS[2:], {"too_short": 2}),
        ({"max_words": 3}, TEXTS[:3], {"too_long_dropped": 2}),
        ({"max_words": 3, "min_words": 2}, TEXTS[1:3], {"too_long_dropped": 2, "too_short": 1}),
        ({"max_words": 3, "too_long": "truncate"}, [*TEXTS[:3], "a b c", "a\u3000b c"], {"truncated": 2}),
        (
            {"max_words": 3, "too_long": "split"},
            [*TEXTS[:3], "a b c", "d", "a\u3000b c", "d\xa0e f", "g"],
            {"split": 2},
        ),
        (
            {"max_words": 3, "min_words": 2, "too_long": "split"},
            ["a b", "ä  b\tc", "a b c", "a\u3000b c", "d\xa0e f"],
            {"split": 2, "too_short": 3},
        ),
        ({"min_words": 9}, [], {"too_short": 5}),
    ],
)
def test_limits_count_words_that_white_space_parts(options, expected, counts):
    assert clean(TEXTS, **options) == (expected, counts)


def test_labels_go_along_with_split_texts():
    rows, _ = clean_rows(["a", "a b c", "d e"], max_words=2, too_long="split")
    assert [(row["text"], row["n"]) for row in rows] == [("a", "0"), ("a b", "1"), ("c", "1"), ("d e", "2")]


def test_sentences_are_limited_after_they_are_split_and_lower_cased():
    rows, counts = clean(["One Two. Three Four Five. Six."], split_sentences=True, lowercase=True, max_words=2,
                         min_words=2)  # fmt: skip
    assert (rows, counts) == (["one two."], {"too_long_dropped": 1, "too_short": 1})


def test_no_text_without_a_word_is_left_whatever_the_least_number_is():
    for too_long in ("drop", "truncate", "split"):
        assert clean(["", "a", " \t "], min_words=0, max_words=2, too_long=too_long) == (["a"], {"too_short": 2})


def test_a_block_without_rows_stays_one():
    for options in ({"max_words": 2}, {"split_sentences": True}, {"normalize": "NFC", "lowercase": True}):
        assert clean([], **options) == ([], {})


def test_a_slice_of_a_block_is_limited_by_its_own_words():
    block = pa.table({"text": ["x y z", "a b c", "d", "e f"]}).slice(1, 2)
    assert Cleaning(max_words=2, too_long="truncate").apply(block, Counter()).column("text").to_pylist() == ["a b", "d"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(st.one_of(st.sampled_from(SPACES), st.characters(exclude_categories=["Cs"])))),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_words_are_those_of_str_split(texts, most, least):
    texts = [text.strip() for text in texts if text.strip()]
    pieces = [text.split()[i : i + most] for text in texts for i in range(0, len(text.split()), most)]
    found, counts = clean(texts, max_words=most, min_words=min(least, most), too_long="split")
    assert [text.split() for text in found] == [piece for piece in pieces if len(piece) >= min(least, most)]
    assert counts.get("split", 0) == sum(len(text.split()) > most for text in texts)
    cut, _ = clean(texts, max_words=most, too_long="truncate")
    assert [text.split() for text in cut] == [text.split()[:most] for text in texts]
    assert all(text.startswith(begin) for text, begin in zip(texts, cut, strict=True))


def test_all_mistakes_are_listed_together():
    with pytest.raises(UserError) as error:
        Cleaning(normalize="nfc", split_sentences=True, language="English", min_words=-1, max_words=0, too_long="cut")
    for part in ("corpus.normalize is 'nfc'; valid: NFC, ", "corpus.language is 'English'",
                 "corpus.min_words is -1", "corpus.max_words is 0", "corpus.too_long is 'cut'"):  # fmt: skip
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"corpus\.max_words is 3, but it must be at least corpus\.min_words"):
        Cleaning(min_words=4, max_words=3)
