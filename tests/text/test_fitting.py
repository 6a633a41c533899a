"""Texts that do not fit a model: cut, left out or refused, and told."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from smim.errors import RowError, UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index, index_texts
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.latents import Latents
from smim.text.corpus import Corpus
from smim.text.fitting import TextsChanged, at_places

LONG = "bank " * 25  # the model takes 20 words
ROWS = ["a bank", LONG, "", None, "her brother", float("nan"), pd.NA, "zyzzyva"]


def test_long_texts_are_cut_and_empty_ones_get_no_code(model: SentenceModel) -> None:
    with pytest.warns(TextsChanged) as told:
        codes = model.encode(ROWS, empty="skip", allow_unknown=False)
    assert [(str(each.message), each.message.rows) for each in told] == [
        ("1 of 8 texts were cut after this model's 20 tokens: sentence 2", [1]),
        (
            "5 of 8 texts hold no word and were left out: sentence 3, sentence 4, sentence 6, sentence 7, sentence 8",
            [2, 3, 5, 6, 7],
        ),
    ]
    assert np.isnan(codes).all(1).tolist() == [False, False, True, True, False, True, True, True]
    np.testing.assert_allclose(codes[[0, 1, 4]], model.encode(["a bank", "bank " * 20, "her brother"]), atol=1e-6)


def test_long_texts_may_be_left_out_or_refused(model: SentenceModel) -> None:
    with pytest.warns(
        TextsChanged, match="1 of 2 texts have more than this model's 20 tokens and were left out: sentence 2"
    ):
        assert np.isnan(model.encode(["a bank", LONG], too_long="skip")).all(1).tolist() == [False, True]
    with pytest.raises(RowError, match="has 25 tokens, but this model takes at most 20") as refused:
        model.encode(["a bank", LONG], too_long="error")
    assert refused.value.row == 1


def test_what_fits_is_not_spoken_of(model: SentenceModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(["a bank", "bank " * 20])


def test_an_index_keeps_places_as_ids_and_each_label_with_its_text(model: SentenceModel, tmp_path) -> None:
    with pytest.warns(TextsChanged):
        index = index_texts(model, ROWS, tmp_path / "index", labels={"n": list(range(8))})
    assert [(row.id, row.text, row.labels) for row in index.get([0, 1, 4])] == [
        (0, "a bank", {"n": 0}),
        (1, LONG, {"n": 1}),
        (4, "her brother", {"n": 4}),
    ]
    assert len(index) == 3
    with pytest.warns(TextsChanged):
        index = index_texts(model, ROWS, tmp_path / "skipped", ids=list(range(20, 28)), too_long="skip")
    assert [row.id for row in index.get([20, 24])] == [20, 24] and len(index) == 2
    with pytest.raises(UserError, match=r"sentence 2: the text 'bank .* has 25 tokens"):
        index_texts(model, ROWS[:2], tmp_path / "refused", too_long="error")
    assert not (tmp_path / "refused").exists()


def test_sentences_are_added_in_the_same_way(index: Index, model: SentenceModel) -> None:
    with IndexWriter(index.directory, model=model) as writer:
        with pytest.raises(UserError, match="a text is needed, not None"):
            writer.add(["a bank", None])
        with pytest.warns(TextsChanged):
            assert writer.add(ROWS, labels={"topic": list("abcdefgh")}, empty="skip") == [40, 41, 42]
        with pytest.warns(TextsChanged):
            assert writer.upsert(["", "a bank lost"], ids=[3, 42], empty="skip") == [42]
        with pytest.warns(TextsChanged):
            assert writer.add(["", None], empty="skip") == []
    assert [(row.text, row.labels["topic"]) for row in index.get([40, 41, 42])] == [
        ("a bank", "a"),
        (LONG, "b"),
        ("a bank lost", None),
    ]
    assert len(index) == 43


def test_places_take_the_place_of_row_numbers() -> None:
    with pytest.warns(TextsChanged, match="cut: file, line 9$"), at_places(["file, line 7", "file, line 9"]):
        warnings.warn(TextsChanged("cut", [1]), stacklevel=1)
    with pytest.raises(UserError, match=r"^file, line 9: is bad$"), at_places(["file, line 7", "file, line 9"]):
        raise RowError("is bad", 1)
    with pytest.warns(DeprecationWarning, match="old"), at_places([]):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_sentences_of_a_prepared_corpus_are_cut_and_told_or_refused(
    odd_corpus, tiny_model, model: SentenceModel, tmp_path
) -> None:
    corpus = Corpus.open(odd_corpus)
    lengths = corpus.split("test").lengths
    long = int((lengths > 20).sum())
    assert 1 < long < len(lengths)
    told = f"{long} of {len(lengths)} sentences of {odd_corpus}, split test are cut after this model's 20 tokens"
    with pytest.warns(TextsChanged, match=re.escape(told)):
        index = build_index(model, corpus, tmp_path / "index", split="test")
    row = int(np.argmax(lengths > 20))
    [code] = model.posterior_of_ids([corpus.split("test").ids([row])[0][:20]]).mean.numpy()
    np.testing.assert_allclose(index.codes([row])[0], code, atol=1e-5)
    with pytest.raises(UserError, match=f"split test, row {row}, has {lengths[row]} tokens, but this model takes"):
        build_index(model, corpus, tmp_path / "no", split="test", too_long="error")
    with pytest.raises(UserError, match="it must be truncate or error"):
        build_index(model, corpus, tmp_path / "no", split="test", too_long="skip")
    with pytest.warns(TextsChanged, match=re.escape(told)):
        encode_corpus(tiny_model, odd_corpus, tmp_path / "latents", args=EncodeArgs(split="test"))
    np.testing.assert_allclose(Latents.open(tmp_path / "latents").mean([row])[0], code, atol=1e-4)
    with pytest.raises(UserError, match="this model takes at most 20"):
        strict = EncodeArgs(split="test", too_long="error")
        encode_corpus(tiny_model, odd_corpus, tmp_path / "refused", args=strict)
