import json
import subprocess
import sys

import pytest

from smim.errors import UserError
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID, Tokenizer
from smim.text.words import WordTokenizer

TEXTS = ["the cat sat", "the dog sat", "the bird flew"]


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer.train(TEXTS, splitter="whitespace")


def _edit(directory, **changes):
    path = directory / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_special_ids_are_the_first_four():
    assert (PAD_ID, SOS_ID, EOS_ID, UNK_ID) == (0, 1, 2, 3)


def test_saved_and_loaded_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded == tokenizer and loaded.hash == tokenizer.hash


def test_saving_replaces_the_tokenizer_that_stood_there(tokenizer, tmp_path):
    (tmp_path / "sentencepiece.model").write_bytes(b"of another tokenizer")
    tokenizer.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_edited_vocabulary_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    words = list(tokenizer.words)
    words[5], words[6] = words[6], words[5]
    _edit(tmp_path, words=words)
    with pytest.raises(UserError, match="its own hash"):
        Tokenizer.load(tmp_path)


def test_unknown_kind_is_refused_and_names_the_known(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    _edit(tmp_path, kind="wordpiece")
    with pytest.raises(UserError, match=r"'wordpiece'.*word, unigram, bpe"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("changes", [{"kind": ["word"]}, {"words": 3}, {"words": ["\ud800"]}, {"splitter": None}])
def test_damaged_file_is_refused(tokenizer, tmp_path, changes):
    tokenizer.save(tmp_path)
    _edit(tmp_path, **changes)
    with pytest.raises(UserError):
        Tokenizer.load(tmp_path)


def test_file_without_a_kind_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="holds a tokenizer of kind None"):
        Tokenizer.load(tmp_path)


def test_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Tokenizer.load(tmp_path)


def test_word_tokenizer_loads_without_sentencepiece_and_nltk(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    code = (
        "import sys; from smim.text.tokenizer import Tokenizer; "
        f"print(Tokenizer.load({str(tmp_path)!r}).encode('the'), 'nltk' in sys.modules, 'sentencepiece' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["[4]", "False", "False"]
