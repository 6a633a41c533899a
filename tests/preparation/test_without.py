"""Sentences of an evaluation stay out of what is trained on."""

import gzip
from pathlib import Path

import pytest

from smim import storage
from smim.errors import UserError
from smim.preparation.without import normalised
from tests.preparation.builds import build

WHITESPACE = ["corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=1"]


@pytest.mark.parametrize(
    ("text", "same"),
    [("It does n't matter .", "it doesn't matter"), ("Café, STRASSE", "cafe straße"), ("2 p.m.", "2pm")],
)
def test_texts_are_compared_by_letters_and_digits_without_case_and_accents(text, same):
    assert normalised(text) == normalised(same) != ""


def test_sentences_that_stand_in_the_files_are_left_out_and_counted(tmp_path: Path):
    texts = [f"this is sentence {number} ." for number in range(60)]
    (tmp_path / "text.txt").write_text("\n".join([*texts, "38", "It is n't so ."]))
    pairs = "3.8\tThis is sentence 7.\tThis is   sentence 8!\n1\tIt isn't so\tno such text\n"
    (tmp_path / "scored.tsv.gz").write_bytes(gzip.compress(pairs.encode()))
    (tmp_path / "plain.txt").write_text("THIS IS SENTENCE 9\n")
    files = [tmp_path / "scored.tsv.gz", tmp_path / "plain.txt"]
    given = f"corpus.without=[{files[0]},{files[1]}]"
    path = f"corpus.path={tmp_path / 'text.txt'}"
    corpus = build(tmp_path / "out", "corpus=text", path, given, *WHITESPACE)
    assert corpus.card["left_out"] == {"in_without_files": 4}
    assert corpus.card["source"]["without"] == [{"file": file.name, "sha256": storage.sha256(file)} for file in files]
    found = [text for split in ("train", "valid", "test") for text in corpus.split(split).texts()]
    # A score alone is no text.
    assert sorted(found) == sorted([*(text for text in texts if text.split()[3] not in "789"), "38"])


def test_files_that_are_not_there_are_told_before_anything_is_read(tmp_path: Path):
    (tmp_path / "text.txt").write_text("a b\n")
    with pytest.raises(UserError, match=r"nowhere\.tsv"):
        build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path}", f"corpus.without={tmp_path}/nowhere.tsv")
