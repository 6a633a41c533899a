import sys

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize import TweetTokenizer

from smim.errors import UserError
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID, Tokenizer
from smim.text.words import WordTokenizer, nearest_min_count, split_words

TEXTS = ["the cat sat", "the dog sat", "the bird flew"]
# The hash of `the`, `é` in the version that trained the first models.
HASH = "a75c08bf29a1b0e0382dea23e66e9544d4ab5b021b5d9542913eecc3c564c587"
WORDS, COUNTS = pa.array(["a", "b", "c", "d", "<unk>", "<pad>"]), pa.array([9, 5, 5, 1, 7, 7])

# Known words, special names and whitespace of several kinds, between any other characters.
any_text = st.lists(
    st.one_of(
        st.sampled_from(["the", "cat", "sat", "<unk>", "<pad>", "<eos>", " ", "  ", "\t", "\n", "\x1c", "\u3000"]),
        st.text(),
    )
).map("".join)


def _whitespace(words: int = 0) -> WordTokenizer:
    return WordTokenizer.train([*TEXTS, *(f"w{i}" for i in range(words))], splitter="whitespace")


def test_words_are_ordered_by_count_then_spelling():
    assert _whitespace().words[4:] == ("the", "sat", "bird", "cat", "dog", "flew")


def test_ties_are_ordered_by_code_points():
    # In UTF-16 the emoji, a surrogate pair, would come before U+FF01.
    words = WordTokenizer.train(["\U0001f600 \uff01 Z a"], splitter="whitespace").words
    assert words[4:] == ("Z", "a", "\uff01", "\U0001f600")


def test_rare_words_become_unknown():
    tokenizer = WordTokenizer.train(TEXTS, splitter="whitespace", min_count=2)
    assert tokenizer.encode("the cat sat") == [4, UNK_ID, 5]


def test_decode_leaves_out_padding_and_sentence_marks():
    tokenizer = _whitespace()
    ids = [SOS_ID, *tokenizer.encode("the cat flew"), EOS_ID, PAD_ID]
    assert tokenizer.decode(ids) == "the cat flew"


def test_unknown_words_are_decoded_as_unk():
    assert _whitespace().decode([4, UNK_ID]) == "the <unk>"


def test_marks_in_the_text_are_never_read_as_marks():
    tokenizer = _whitespace()
    assert tokenizer.encode("<pad> <sos> <eos> <unk>") == [UNK_ID] * 4
    assert tokenizer.encode_batch(["<pad> <sos> <eos> <unk>"] * 20).to_pylist() == [[UNK_ID] * 4] * 20


def test_tweet_splitter_lowers_case_and_parts_punctuation():
    tokenizer = WordTokenizer.train(["Don't stop, <unk>!"], splitter="tweet")
    assert set(tokenizer.words[4:]) == {"don't", "stop", ",", "!"}


def test_tweet_splitter_makes_no_surrogates_of_html_entities():
    assert split_words(pa.array(["a &#55296; b"]), "tweet").to_pylist() == [["a", "?", "b"]]


# NLTK makes words of these, with spaces inside, beside and between. U+0663 is a digit, U+00B2 is not.
_PIECES = [
    *(" ", "  ", "    ", "\t", "\n", "\xa0", "\x1c", ".", "...", ". .", "-", "--", "(", ")", "*", "+1", "555", "1234"),
    *("5551234", "0", "1,000", "3.5", "\u0663", "\xb2", "a", "B", "é", "中文", "n", "_", "x_1", "Don't", "well-known"),
    *("'", "’", ":", ":-)", "D", "8", "=", "<", ">", "<b>", "<3", "<unk>", "->", "<-", "!", "/", "@", "@me", "#tag"),
    *("me@x.org", "http://x.org/(a)", "x.com", "www.", "&", ";", "&amp;", "&#49;", "&#32;", "&#46;", "&#55296;"),
    *("&#x110000;", "\u0301", "\u200d", "\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f1e9"),
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join) | st.text(max_size=20))
def test_tweet_splitter_gives_the_words_of_nltk(text):
    words = TweetTokenizer(preserve_case=False).tokenize(text)
    expected = [word.encode("utf-8", "replace").decode() for word in words]
    assert split_words(pa.array([text]), "tweet").to_pylist() == [expected]


def test_hash_of_trained_models_is_unchanged():
    tokenizer = WordTokenizer(splitter="whitespace", words=("<pad>", "<sos>", "<eos>", "<unk>", "the", "é"))
    assert tokenizer.hash == HASH


def test_file_of_trained_models_is_still_read(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        f'{{"kind": "word", "splitter": "whitespace", "hash": "{HASH}",'
        ' "words": ["<pad>", "<sos>", "<eos>", "<unk>", "the", "é"]}'
    )
    assert Tokenizer.load(tmp_path).encode("é the cat") == [5, 4, UNK_ID]


def test_vocabulary_that_holds_a_word_twice_is_refused():
    with pytest.raises(UserError, match="each word once"):
        WordTokenizer(splitter="whitespace", words=("<pad>", "<sos>", "<eos>", "<unk>", "a", "a"))


@pytest.mark.parametrize("make", [lambda name: _train(name), lambda name: split_words(pa.array(["a"]), name)])
def test_unknown_splitter_names_the_nearest(make):
    with pytest.raises(UserError, match="'tweet'"):
        make("twet")


def _train(splitter: str) -> WordTokenizer:
    return WordTokenizer.train(TEXTS, splitter=splitter)


def test_counts_make_a_vocabulary_without_special_names():
    tokenizer = WordTokenizer.from_counts(WORDS, COUNTS, splitter="whitespace")
    assert tokenizer.words[4:] == ("a", "b", "c", "d")


def test_words_below_the_minimum_count_are_left_out():
    assert WordTokenizer.from_counts(WORDS, COUNTS, splitter="tweet", min_count=5).words[4:] == ("a", "b", "c")


def test_max_size_keeps_the_most_frequent_words():
    tokenizer = WordTokenizer.from_counts(WORDS, COUNTS, splitter="whitespace", max_size=6)
    assert tokenizer.words[4:] == ("a", "b") and tokenizer.vocabulary_size == 6


def test_max_size_without_room_for_a_word_is_refused():
    with pytest.raises(UserError, match="max_size is 4"):
        WordTokenizer.from_counts(WORDS, COUNTS, splitter="whitespace", max_size=4)


# Sizes by minimum count: 8 from 1, 7 from 2, 5 from 6, 4 from 10.
@pytest.mark.parametrize(("near", "chosen"), [(100, 1), (8, 1), (7, 2), (6, 2), (5, 6), (0, 10)])
def test_minimum_count_is_the_smallest_whose_vocabulary_is_nearest(near, chosen):
    assert nearest_min_count(WORDS, COUNTS, near=near) == chosen


def test_minimum_count_is_never_below_the_given_one():
    assert nearest_min_count(WORDS, COUNTS, near=100, min_count=3) == 3


@given(near=st.integers(0, 12), counts=st.lists(st.integers(1, 9), max_size=8), min_count=st.integers(1, 10))
def test_nearest_minimum_count_equals_a_search_over_all(near, counts, min_count):
    words, array = pa.array([f"w{i}" for i in range(len(counts))], pa.string()), pa.array(counts, pa.int64())

    def distance(m: int) -> int:
        tokenizer = WordTokenizer.from_counts(words, array, splitter="whitespace", min_count=m)
        return abs(tokenizer.vocabulary_size - near)

    expected = min(range(min_count, 12), key=distance)
    assert nearest_min_count(words, array, near=near, min_count=min_count) == expected


def test_every_character_splits_words_exactly_where_str_split_does():
    characters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    parts = pc.list_value_length(split_words(pa.array([f"a{c}b" for c in characters]), "whitespace")).to_numpy()
    assert [c for c, n in zip(characters, parts, strict=True) if n == 2] == [c for c in characters if c.isspace()]


@given(st.lists(any_text))
def test_whitespace_split_equals_str_split(texts):
    assert split_words(pa.array(texts, pa.string()), "whitespace").to_pylist() == [text.split() for text in texts]


@pytest.mark.parametrize("behind", [b"", b"\x85", b"\x80\x80", b" "])
@pytest.mark.parametrize("text", ["a ", "a\x85", "\u3000", "a  ", " \x1c"])
def test_split_does_not_depend_on_the_bytes_behind_the_last_text(text, behind):
    content = text.encode()
    offsets = pa.array([0, len(content)], pa.int32()).buffers()[1]
    texts = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(content + behind))
    assert split_words(texts, "whitespace").to_pylist() == [text.split()]


def test_slice_of_an_array_is_split_as_its_own_texts():
    sliced = pa.array([" a b", "c ", "", "d e"]).slice(1, 2)
    assert split_words(sliced, "whitespace").to_pylist() == [["c"], []]


@pytest.mark.parametrize("splitter", ["whitespace", "tweet"])
@pytest.mark.parametrize("more_words", [0, 1000], ids=["small vocabulary", "large vocabulary"])
def test_batch_equals_one_by_one(splitter, more_words):
    tokenizer = WordTokenizer.train([*TEXTS, *(f"w{i}" for i in range(more_words))], splitter=splitter)

    @given(st.lists(any_text), st.integers(1, 9))
    def check(texts, times):
        texts = texts * times  # many words make the small vocabulary's lookup Arrow's
        ids = tokenizer.encode_batch(texts)
        assert ids.type == pa.list_(pa.int32())
        assert ids.to_pylist() == [tokenizer.encode(text) for text in texts]

    check()


def test_one_token_is_shown_as_its_word():
    assert [_whitespace().token(i) for i in (0, 3, 4)] == ["<pad>", "<unk>", "the"]
