"""The model that comes with the package: English in, a code, English out, offline."""

import numpy as np
import pytest

import smim
from smim.generation import SentenceModel
from smim.model.directory import PRETRAINED
from smim.search import index_texts

SENTENCES = [
    "The old bridge was destroyed by a flood in 1910.",
    "He plays the piano and sings in a choir.",
    "The storm reached the coast early in the morning.",
    "She wrote three novels about the war.",
    "The flood destroyed the bridge in 1911.",
]


@pytest.fixture(scope="module")
def pretrained() -> SentenceModel:
    return smim.load("wikitext-small", device="cpu")


def test_it_is_small_enough_to_come_along():
    assert sum(file.stat().st_size for file in (PRETRAINED / "wikitext-small").rglob("*")) < 15e6


def test_sentences_come_back_from_their_codes(pretrained):
    assert pretrained.reconstruct(SENTENCES) == SENTENCES


def test_the_nearest_sentence_is_the_one_of_the_same_words(pretrained, tmp_path):
    index = index_texts(pretrained, SENTENCES, tmp_path / "index", model_dir="wikitext-small")
    [hits] = index.search([SENTENCES[0]], k=2)
    assert [hit.id for hit in hits] == [0, 4]


def test_a_text_of_letters_that_it_never_saw_has_a_code(pretrained):
    assert np.isfinite(pretrained.encode(["Ωμέγα ☃ zxqv"])).all()
