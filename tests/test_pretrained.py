"""The model that comes with the package: English in, a code that says what it means, English out, offline."""

import numpy as np
import pytest

import smim
from smim.errors import Unsupported
from smim.generation import SentenceModel
from smim.model.directory import PRETRAINED
from smim.search import index_texts

NAME = "english-small"
SENTENCES = [
    "The old bridge was destroyed by a flood in 1910.",
    "He plays the piano and sings in a choir.",
    "She wrote three novels about the war.",
    "The food was good and the service was great.",
    "My soup was lukewarm and our server was impolite.",
    "The weather was cold and the journey was long.",
]


@pytest.fixture(scope="module")
def pretrained() -> SentenceModel:
    return smim.load(NAME, device="cpu")


def test_it_is_small_enough_to_come_along():
    assert sum(file.stat().st_size for file in (PRETRAINED / NAME).rglob("*")) < 20e6


def test_sentences_come_back_word_for_word(pretrained):
    assert pretrained.reconstruct(SENTENCES) == SENTENCES


@pytest.mark.parametrize(
    "text",
    [
        *("Do n't you see it , she said .", "a man is playing a guitar", "Zürich → 5 €!"),
        "Actor Noah Wyle, who has played Dr. John Carter since the show began in 1994, extended his contract with it.",
    ],
)
def test_text_comes_back_as_it_was_written(pretrained, text):
    assert pretrained.reconstruct([text]) == [text]


@pytest.mark.parametrize("part", [None, "meaning"])
def test_the_nearest_sentence_means_the_same_although_others_share_its_words(pretrained, tmp_path, part):
    index = index_texts(pretrained, SENTENCES, tmp_path / "index", model_dir=NAME, part=part)
    assert index.manifest.metric == "cosine"
    [hits] = index.search(["It was freezing and the trip took hours."], k=1, reconstruct=True)
    assert hits[0].text == hits[0].reconstruction == SENTENCES[5]


def test_from_the_meaning_alone_it_writes_sentences_near_it(pretrained):
    written = pretrained.decode(pretrained.encode(SENTENCES), literal=0.0)
    codes, others = (pretrained.encode(texts)[:, :128] for texts in (SENTENCES, written))
    cosines = np.sum(codes * others, axis=1) / np.linalg.norm(codes, axis=1) / np.linalg.norm(others, axis=1)
    assert cosines.min() > 0.6 and written != SENTENCES
    assert not any("<unk>" in text for text in written)


def test_a_text_of_letters_that_it_never_saw_has_a_code(pretrained):
    assert np.isfinite(pretrained.encode(["Ωμέγα ☃ zxqv"])).all()


def test_it_says_that_it_answers_no_questions(pretrained):
    with pytest.raises(Unsupported, match="not trained on questions with answers"):
        pretrained.answer("What is the capital of France?")
