"""A tokenizer is made of what was drawn into train, and of nothing else."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xxhash

import smim
from smim.preparation.vocabulary import TokenizerArgs
from smim.text.pieces import SentencePieceTokenizer
from smim.text.tokenizer import SPECIAL
from smim.text.words import WordTokenizer
from tests.preparation.builds import build

DRAW = random.Random(0)
TRAIN = [" ".join(DRAW.choices([f"word-{i:02d}" for i in range(60)], k=8)) for _ in range(400)]
OTHERS = [f"{line} only here" for line in TRAIN[:50]]


def sources(folder: Path) -> list[str]:
    """Splits that are given, of which all but train have two words more."""
    for split, lines in (("train", TRAIN), ("valid", OTHERS), ("test", OTHERS[::-1])):
        (folder / f"{split}.txt").write_text("\n".join(lines))
    return ["corpus=text", *(f"corpus.splits.{split}={folder}/{split}.txt" for split in ("train", "valid", "test"))]


def test_words_are_counted_in_all_parts_of_train_and_in_no_other_split(tmp_path: Path) -> None:
    settings = ["corpus.shard_bytes=1000", "corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=40"]
    corpus = build(tmp_path / "out", *sources(tmp_path), *settings)
    assert len(list((tmp_path / "out" / "train").iterdir())) > 20
    counts = Counter(word for line in TRAIN for word in line.split())
    kept = sorted((word for word in counts if counts[word] >= 40), key=lambda word: (-counts[word], word))
    assert isinstance(corpus.tokenizer, WordTokenizer) and 20 < len(kept) < 60
    assert corpus.tokenizer.words == (*SPECIAL, *kept)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_pieces_are_those_of_train(tmp_path: Path, kind: str) -> None:
    settings = [f"corpus.tokenizer.kind={kind}", "corpus.tokenizer.size=300"]
    corpus = build(tmp_path / "out", *sources(tmp_path), *settings)
    assert corpus.tokenizer.hash == SentencePieceTokenizer.train(TRAIN, algorithm=kind, vocabulary_size=300).hash
    with_others = SentencePieceTokenizer.train(TRAIN + OTHERS, algorithm=kind, vocabulary_size=300)
    assert with_others.hash != corpus.tokenizer.hash


def test_of_a_large_train_pieces_are_those_of_a_sample_that_its_texts_decide(tmp_path: Path) -> None:
    total = sum(map(len, TRAIN))
    settings = ["corpus.tokenizer.kind=bpe", "corpus.tokenizer.size=300", f"corpus.tokenizer.sample_bytes={total // 4}"]
    corpus = build(tmp_path / "out", *sources(tmp_path), *settings)
    half = [np.frombuffer(xxhash.xxh3_128_digest(line.encode()), np.uint64)[1] / 2.0**64 for line in TRAIN]
    sample = [line for line, value in zip(TRAIN, half, strict=True) if value <= 0.25]
    assert 70 < len(sample) < 130
    assert corpus.tokenizer.hash == SentencePieceTokenizer.train(sample, algorithm="bpe", vocabulary_size=300).hash


def test_the_tokenizer_of_a_packaged_model_is_had_by_its_name() -> None:
    packaged = Path(smim.__file__).parent / "pretrained" / "english-small" / "tokenizer"
    for given in ("english-small", str(packaged), str(packaged.parent)):
        assert TokenizerArgs(dir=given).dir == str(packaged)
    assert TokenizerArgs(dir="elsewhere").dir == "elsewhere"
