import json
from itertools import product

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smim.errors import UserError
from smim.text.pieces import ALGORITHMS, SentencePieceTokenizer
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID, Tokenizer

# Sentences of 60 made-up words, "the cat" in each.
TEXTS = [
    f"the cat {first}{middle}{last} <unk> {last}{first}"
    for first, middle, last in product(["bo", "mi", "sha", "ter"], ["l", "nd", "ss"], ["ing", "ous", "er", "y", "ck"])
]
SIZE = 300

# What needs care, between any other characters.
any_text = st.lists(
    st.one_of(
        st.sampled_from(["the", " ", "  ", "cat", " ,", "n't", "( a )", "-lrb-", "\t", "\n", "\u00a0", "\u0939\u093f"]),
        st.sampled_from(["<unk>", "<un", "k>", "<pad>", "<0x41>", "\0", "\u2581", "\u2585", "\u2047", "\u200d"]),
        st.text(),
    )
).map("".join)


@pytest.fixture(scope="module", params=ALGORITHMS)
def tokenizer(request) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(TEXTS, algorithm=request.param, vocabulary_size=SIZE)


def test_vocabulary_has_the_size_asked_for(tokenizer):
    assert tokenizer.vocabulary_size == SIZE


def test_special_tokens_come_first(tokenizer):
    assert [tokenizer.token(i) for i in range(5)] == ["<pad>", "<sos>", "<eos>", "<unk>", "<0x00>"]


def test_frequent_strings_are_one_piece(tokenizer):
    assert [tokenizer.token(i) for i in tokenizer.encode("boingous")][-2:] == ["ing", "ous"]


def test_a_word_at_the_beginning_has_the_pieces_that_it_has_further_on(tokenizer):
    assert tokenizer.encode("cat cat") == tokenizer.encode("cat") * 2


def test_bpe_learns_words_with_their_apostrophes_and_vowel_signs_but_not_with_other_marks():
    text = "I don't. \tl\u2019homme. do n't. \u0939\u093f\u0928\u094d\u0926\u0940. 1,000."
    tokenizer = SentencePieceTokenizer.train([text] * 9, algorithm="bpe", vocabulary_size=330)
    words = ["▁I", "▁don't", ".", "▁", "<0x09>", "l’homme", ".", "▁do", "▁n't", ".", "▁हिन्दी", ".", "▁1,000."]
    assert [tokenizer.token(i) for i in tokenizer.encode(text)] == words


@given(text=any_text)
def test_any_text_comes_back_whole(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(texts=st.lists(any_text))
def test_batch_equals_one_by_one(tokenizer, texts):
    ids = tokenizer.encode_batch(texts)
    assert ids.type == pa.list_(pa.int32())
    assert ids.to_pylist() == [tokenizer.encode(text) for text in texts]


def test_slice_of_an_array_is_encoded_as_its_own_texts(tokenizer):
    sliced = pa.array(["a", "the \u2581", "<unk>", "b"]).slice(1, 2)
    assert tokenizer.encode_batch(sliced).to_pylist() == [tokenizer.encode("the \u2581"), tokenizer.encode("<unk>")]


def test_literal_unk_is_the_unknown_token(tokenizer):
    ids = tokenizer.encode("the <unk> sat")
    assert ids.count(UNK_ID) == 1 and tokenizer.decode(ids) == "the <unk> sat"


@given(text=any_text)
def test_nothing_but_literal_unk_becomes_a_special_id(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.count(UNK_ID) == text.count("<unk>") and not {PAD_ID, SOS_ID, EOS_ID} & set(ids)


@pytest.mark.parametrize("text", ["<pad>", "<sos>", "<eos>", "<0x41>", "<s>"])
def test_text_that_looks_like_a_token_is_plain_characters(tokenizer, text):
    assert len(tokenizer.encode("cat" + text)) == len(tokenizer.encode("cat")) + len(text)


def test_decode_leaves_out_padding_and_sentence_marks(tokenizer):
    ids = [SOS_ID, *tokenizer.encode(" the cat"), EOS_ID, PAD_ID]
    assert tokenizer.decode(ids) == " the cat"


@given(ids=st.lists(st.integers(0, SIZE - 1)))
def test_any_ids_decode(tokenizer, ids):
    tokenizer.decode(ids).encode()


def test_broken_bytes_decode_as_the_replacement_character(tokenizer):
    [_, first, *_] = tokenizer.encode("日")
    assert tokenizer.decode([first, *tokenizer.encode("cat")]) == "\ufffd cat"


def test_same_texts_give_the_same_model(tokenizer):
    again = SentencePieceTokenizer.train(TEXTS, algorithm=tokenizer.kind, vocabulary_size=SIZE)
    assert again == tokenizer and again.hash == tokenizer.hash


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("text", ["x" * 10_000 + " qqq", "qqq\u2585", "qqq\u2581", "qqq\0", "qqq\t\n"])
def test_no_text_is_skipped_in_training(algorithm, text):
    tokenizer = SentencePieceTokenizer.train([*TEXTS, *[text] * 50], algorithm=algorithm, vocabulary_size=285)
    assert any("qq" in tokenizer.token(i) for i in range(285))


def test_saved_and_loaded_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded == tokenizer and loaded.hash == tokenizer.hash
    assert loaded.encode("the \u2581 <unk>") == tokenizer.encode("the \u2581 <unk>")


def test_damaged_model_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (tmp_path / "sentencepiece.model").write_bytes(tokenizer.model[:-1] + b"?")
    with pytest.raises(UserError, match="its own hash"):
        Tokenizer.load(tmp_path)


def test_missing_model_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (tmp_path / "sentencepiece.model").unlink()
    with pytest.raises(UserError, match=r"sentencepiece\.model cannot be read"):
        Tokenizer.load(tmp_path)


def test_file_that_names_no_model_is_refused(tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"kind": tokenizer.kind, "hash": tokenizer.hash}))
    with pytest.raises(UserError, match="damaged"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_too_large_vocabulary_names_the_bound(algorithm):
    with pytest.raises(UserError, match="at most") as refused:
        SentencePieceTokenizer.train(TEXTS, algorithm=algorithm, vocabulary_size=5000)
    bound = int(str(refused.value).split("at most ")[1].split()[0])
    assert SentencePieceTokenizer.train(TEXTS, algorithm=algorithm, vocabulary_size=bound).vocabulary_size == bound


@pytest.mark.parametrize("size", [-1, 0, 100, 266])
def test_too_small_vocabulary_names_the_bound(size):
    # 4 special tokens, 256 bytes, and the space and a, c, e, h, s, t.
    with pytest.raises(UserError, match=rf"vocabulary_size is {size};.*need at least 267"):
        SentencePieceTokenizer.train(["the cat sat"], algorithm="bpe", vocabulary_size=size)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_training_on_no_text_is_refused(texts):
    with pytest.raises(UserError, match="no text"):
        SentencePieceTokenizer.train(texts, algorithm="unigram", vocabulary_size=SIZE)


def test_unknown_algorithm_names_the_nearest():
    with pytest.raises(UserError, match="'unigram'"):
        SentencePieceTokenizer.train(TEXTS, algorithm="unigrams", vocabulary_size=SIZE)


def test_error_in_reading_the_texts_is_passed_on():
    def texts():
        yield "the cat"
        raise UserError("the file is damaged")

    with pytest.raises(UserError, match="the file is damaged"):
        SentencePieceTokenizer.train(texts(), algorithm="bpe", vocabulary_size=SIZE)
