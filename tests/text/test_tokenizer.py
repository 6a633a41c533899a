import json

import pytest

from smim.errors import UserError
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID, Tokenizer

TEXTS = ["the cat sat", "the dog sat", "the bird flew"]


def test_words_are_ordered_by_count_then_spelling():
    tokenizer = Tokenizer.train(TEXTS, splitter="whitespace")
    assert tokenizer.words[4:] == ("the", "sat", "bird", "cat", "dog", "flew")


def test_rare_words_become_unknown():
    tokenizer = Tokenizer.train(TEXTS, splitter="whitespace", min_count=2)
    assert tokenizer.encode("the cat sat") == [4, UNK_ID, 5]


def test_decode_leaves_out_padding_and_sentence_marks():
    tokenizer = Tokenizer.train(TEXTS, splitter="whitespace")
    ids = [SOS_ID, *tokenizer.encode("the cat flew"), EOS_ID, PAD_ID]
    assert tokenizer.decode(ids) == "the cat flew"


def test_marks_in_the_text_are_never_read_as_marks():
    tokenizer = Tokenizer.train(TEXTS, splitter="whitespace")
    assert tokenizer.encode("<pad> <sos> <eos> <unk>") == [UNK_ID] * 4


def test_tweet_splitter_lowers_case_and_parts_punctuation():
    tokenizer = Tokenizer.train(["Don't stop, <unk>!"], splitter="tweet")
    assert set(tokenizer.words[4:]) == {"don't", "stop", ",", "!"}


def test_saved_and_loaded_tokenizer_has_the_same_hash(tmp_path):
    tokenizer = Tokenizer.train(TEXTS, splitter="whitespace")
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded == tokenizer and loaded.hash == tokenizer.hash


def test_edited_tokenizer_file_is_refused(tmp_path):
    Tokenizer.train(TEXTS, splitter="whitespace").save(tmp_path)
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state["words"][5], state["words"][6] = state["words"][6], state["words"][5]
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="its own hash"):
        Tokenizer.load(tmp_path)


def test_unknown_splitter_names_the_nearest():
    with pytest.raises(UserError, match="'tweet'"):
        Tokenizer.train(TEXTS, splitter="twet")
