"""Corpora in which each sentence has another one beside it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from smim.errors import UserError
from tests.preparation.builds import build

SPLITS = ("train", "valid", "test")
WHITESPACE = ["corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=1"]


def rows(count: int = 60) -> list[dict[str, str]]:
    """The pairs have words that no text has."""
    numbers = [" ".join(f"{i:02d}") for i in range(count)]
    return [{"text": f"a {each} b", "other": f"so is {each}", "topic": each[0]} for each in numbers]


def source(folder: Path, lines: list[dict[str, str]]) -> list[str]:
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return ["corpus=text", f"corpus.path={folder / 'pairs.jsonl'}", "corpus.pair_column=other"]


@pytest.mark.parametrize("tokenizer", [WHITESPACE, ["corpus.tokenizer.kind=unigram", "corpus.tokenizer.size=280"]])
def test_the_other_sentences_are_tokenised_as_the_text_is_and_stay_beside_it(tmp_path: Path, tokenizer: list[str]):
    corpus = build(tmp_path / "out", *source(tmp_path, rows()), *tokenizer, "corpus.label_columns=[topic]")
    assert corpus.card["pair_column"] == "other"
    seen = []
    for split in map(corpus.split, SPLITS):
        batch = split.batch(range(len(split)))
        assert split.label_columns == ["topic"] and batch.pair is not None
        for tokens, length, text in zip(batch.pair.tokens, batch.pair.lengths, split.texts(), strict=True):
            assert corpus.tokenizer.decode(tokens[:length].tolist()) == text.replace("a", "so is").removesuffix(" b")
        seen += split.texts()
    assert sorted(seen) == sorted(row["text"] for row in rows())
    # Words of the other sentences of train are learned too.
    assert corpus.tokenizer.decode(corpus.tokenizer.encode("so is")) == "so is"


def test_a_sentence_without_another_one_is_left_out_and_both_are_cleaned(tmp_path: Path):
    odd = [{"text": "A b", "other": ""}, {"text": "A c", "other": None}, {"text": "A d"}]
    odd += [
        {"text": "A e", "other": "X y z v w"},
        {"text": "A b c d e", "other": "X"},
        {"text": "A f", "other": " X Y "},
    ]
    cleaning = ["corpus.lowercase=true", "corpus.max_words=4"]
    corpus = build(tmp_path / "out", *source(tmp_path, rows() + odd), *WHITESPACE, *cleaning)
    assert Counter(corpus.card["left_out"]) == {"no_pair": 3, "too_long_dropped": 2}
    splits = [corpus.split(split) for split in SPLITS]
    pairs = {
        text: other
        for split in splits
        for text, other in zip(split.texts(), split.table.column("pair_text").to_pylist(), strict=True)
    }
    assert len(pairs) == 61 and pairs["a f"] == "x y"


def test_a_pair_column_that_cannot_be_is_one_message(tmp_path: Path):
    lines = source(tmp_path, rows())
    (tmp_path / "table.tsv").write_text("text\tother\na\tb\n")
    table = ["corpus=text", f"corpus.path={tmp_path / 'table.tsv'}"]
    for overrides, message in [
        ([*lines, "corpus.pair_column=othr"], "no sentence has a column othr, which corpus.pair_column names"),
        ([*table, "corpus.pair_column=othr"], "no file has a column 'othr' for the pair; .*'text', 'other'"),
        ([*lines, "corpus.pair_column=text"], "corpus.pair_column=text is the column of the text"),
        ([*lines, "corpus.split_sentences=true"], "remove corpus.split_sentences=true"),
        ([*lines, "corpus.label_columns=[pair_ids]"], "corpus.label_columns has pair_ids"),
    ]:
        with pytest.raises(UserError, match=message):
            build(tmp_path / "out", *overrides, *WHITESPACE)
    assert not (tmp_path / "out").exists()
