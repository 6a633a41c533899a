"""How literally codes are decoded where they have a meaning part, and what a model does where it is asked no more."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import smim
from smim.errors import Unsupported, UserError
from smim.generation import SentenceModel
from smim.model import noise
from smim.model.decoding import Drawing, decode_ids
from smim.model.directory import save_model
from smim.model.use import Literal, Use
from smim.text.tokenizer import PAD_ID, SOS_ID, UNK_ID

TEXTS = ["a bank lost shares", "her brother sold the new law", "the company bought a small house"]


@pytest.fixture(scope="module")
def free(meaning_model):
    return smim.load(meaning_model, device="cpu")


@pytest.fixture
def used(model, tmp_path):
    """The tiny model with defaults of its own."""

    def make(**use) -> SentenceModel:
        save_model(tmp_path / "used", model.autoencoder, model.tokenizer, training={"objective": "amim"}, use=use)
        return smim.load(tmp_path / "used", device="cpu")

    return make


def test_at_literal_0_a_code_is_decoded_from_its_meaning_part_alone(free):
    codes = free.encode(TEXTS)
    meanings = np.pad(codes[:, :6], ((0, 0), (0, 18)))
    for candidates in (1, 5):
        written = free.decode(codes, literal=0.0, candidates=candidates)
        assert written == free.decode(meanings, literal=0.0, candidates=candidates)
        assert written != free.decode(codes, candidates=candidates)


@pytest.mark.parametrize("literal", [1.0, 0.6, 0.0])
def test_what_is_written_depends_on_neither_the_batch_nor_what_was_drawn_before(free, literal):
    codes = free.encode(TEXTS)
    together = free.decode(codes, literal=literal, candidates=3, seed=5)
    torch.rand(7)
    assert free.decode(codes[:1], literal=literal, candidates=3, seed=5) == together[:1]
    assert together == free.decode(codes, literal=literal, candidates=3, seed=5) and len(set(together)) == 3


def test_variants_and_samples_differ_while_candidates_do(free):
    code = free.encode(TEXTS[:1])
    assert len(set(free.decode(np.repeat(code, 6, axis=0), literal=0.0, candidates=1))) == 1
    varied = free.perturb(TEXTS[0], num=6, scale=0.0, literal=0.0)
    assert len({text.replace(" ", "") for text in varied}) == 6
    how = free.writing(0.0, 4, distinct=True)
    codes = torch.as_tensor(np.concatenate([code] * 4))

    def uniform(draw):
        return noise.uniform(3, [0, 1, 0, 1], draw, 20)  # those of two calls, of two codes each

    together = free.ids_of_codes(codes, how, uniform, 20, calls=[2, 2])
    assert together[:2] == together[2:] and together[0] != together[1]


def test_of_the_candidates_the_one_nearest_in_meaning_is_kept(free):
    codes = torch.as_tensor(free.encode(TEXTS))
    uniform = torch.cat([noise.uniform(3, range(3), draw, 20) for draw in range(12)])
    drawn = decode_ids(free.autoencoder, codes.repeat(12, 1), 20, uniform=uniform, literal=0.0)
    meant = free.posterior_of_ids(drawn).mean[:, :6].view(12, 3, 6)
    best = F.cosine_similarity(meant, codes[:, :6], dim=-1).argmax(0).tolist()
    assert len({*map(tuple, drawn)}) > 20 and len({*best}) > 1
    expected = [free.tokenizer.decode(drawn[3 * draw + row]) for row, draw in enumerate(best)]
    assert free.decode(codes, literal=0.0, candidates=12, temperature=1, top_p=1, seed=3, max_length=20) == expected


def test_candidates_are_drawn_of_a_model_without_a_meaning_part_too(model):
    codes = model.encode(TEXTS)
    kept = model.decode(codes, candidates=10, seed=1, max_length=20)
    one = model.decode(codes, candidates=1, sample=True, seed=1, max_length=20)
    by_code = [F.cosine_similarity(torch.as_tensor(model.encode(each)), torch.as_tensor(codes)) for each in (kept, one)]
    assert (by_code[0] >= by_code[1] - 1e-6).all() and (by_code[0] > by_code[1] + 1e-3).any()


def test_between_two_sentences_the_meaning_parts_alone_are_blended(free):
    codes = free.interpolation(*TEXTS[:2], steps=5)
    way = free.interpolate(*TEXTS[:2], steps=5, seed=2)
    assert [way[0], way[-1]] == free.reconstruct(TEXTS[:2])
    assert way[1:-1] == free.decode(codes[1:-1], literal=0.0, seed=2) != free.decode(codes[1:-1])
    assert free.interpolate(*TEXTS[:2], steps=5, literal=1.0) == free.decode(codes)
    assert free.interpolate(*TEXTS[:2], steps=2) == free.reconstruct(TEXTS[:2])


def test_a_meaning_part_between_two_is_as_near_to_both_and_as_long_as_they_are(free):
    codes = free.interpolation(TEXTS[0], " ".join(TEXTS), steps=5)
    lengths = np.linalg.norm(codes[:, :6], axis=1)
    np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], 5), rtol=1e-5)
    assert lengths[-1] > 1.3 * lengths[0]
    directions = codes[:, :6] / lengths[:, None]
    to_ends = directions[2] @ directions[[0, -1]].T
    assert to_ends[0] == pytest.approx(to_ends[1], abs=1e-5)
    np.testing.assert_allclose(codes[2, 6:], codes[[0, -1], 6:].mean(0), atol=1e-6)


def test_in_a_sum_of_sentences_each_counts_the_same_however_long(free):
    texts = [TEXTS[0], " ".join(TEXTS), TEXTS[2]]
    of_texts = free.encode(texts)[:, :6]
    lengths = np.linalg.norm(of_texts, axis=1)
    expected = np.array([1, -1, 1]) @ (of_texts / lengths[:, None])
    found = free.arithmetic([texts[0], texts[2]], [texts[1]])[:6]
    np.testing.assert_allclose(found / lengths.mean(), expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_array_equal(free.combined([1.0], free.encode(texts[:1])), free.encode(texts[:1])[0])


def test_what_is_not_given_is_the_models_own(used):
    own = used(perturb_scale=25.0, sample={"standard_deviation": 2.0, "chain_steps": 3})
    assert own.perturb(TEXTS[0], num=4, seed=1) == own.perturb(TEXTS[0], num=4, scale=25, seed=1)
    assert own.perturb(TEXTS[0], num=4, seed=1) != own.perturb(TEXTS[0], num=4, scale=10, seed=1)
    given = own.sample(4, standard_deviation=2.0, chain_steps=3, seed=1)
    assert own.sample(4, seed=1) == given != own.sample(4, standard_deviation=2.0, chain_steps=0, seed=1)
    of_prior = used(sample={"prior": True})
    assert of_prior.sample(4, seed=1) == of_prior.sample(4, prior=True, seed=1) != own.sample(4, seed=1)


def test_perturbed_and_drawn_codes_are_decoded_as_literally_as_the_model_says(free):
    for call in (lambda **given: free.perturb(TEXTS[0], seed=1, **given), lambda **given: free.sample(seed=1, **given)):
        assert call() == call(literal=0.0) != call(literal=1.0)


def test_a_chain_at_literal_0_goes_on_from_meaning_to_meaning(free):
    codes = free.encode(TEXTS)
    meanings = np.pad(codes[:, :6], ((0, 0), (0, 18)))
    chains = free.markov_chain(codes, steps=3, literal=0.0)
    assert chains == free.markov_chain(meanings, steps=3, literal=0.0) != free.markov_chain(codes, steps=3)


def test_words_are_drawn_of_the_nucleus_at_a_temperature(model):
    z, num = torch.as_tensor(model.encode(TEXTS[:1])), 6000
    logits, _ = model.autoencoder.next_token(torch.tensor([1]), model.autoencoder.start(z))
    logits[:, [PAD_ID, SOS_ID, UNK_ID]] = -torch.inf
    for drawing in (Drawing(0.5, 1.0), Drawing(1.0, 0.5), Drawing(1.5, 0.8)):
        expected = torch.softmax(logits[0].detach() / drawing.temperature, -1)
        order = expected.argsort(descending=True)
        kept = int((expected[order].cumsum(0) < drawing.top_p).sum()) + 1
        expected[order[kept:]] = 0
        uniform = noise.uniform(0, range(num), 0, 1)
        ids = decode_ids(model.autoencoder, z.expand(num, -1), 1, uniform=uniform, drawing=drawing)
        observed = np.bincount([each[0] if each else 2 for each in ids], minlength=len(expected)) / num
        assert np.abs(observed - (expected / expected.sum()).numpy()).max() < 0.03
        assert not observed[expected == 0].any()


def test_a_nucleus_may_be_wide(model, monkeypatch):
    z = torch.as_tensor(model.encode(TEXTS)).repeat(50, 1)
    uniform = noise.uniform(0, range(len(z)), 0, 10)
    wide = decode_ids(model.autoencoder, z, 10, uniform=uniform, drawing=Drawing(3.0, 0.95))
    monkeypatch.setattr("smim.model.decoding._LIKELIEST", 1)
    assert decode_ids(model.autoencoder, z, 10, uniform=uniform, drawing=Drawing(3.0, 0.95)) == wide


def test_a_model_without_a_meaning_part_is_word_for_word_alone(model):
    calls = [
        lambda: model.decode(np.zeros((1, 8)), literal=0.5),
        lambda: model.reconstruct(TEXTS, literal=0),
        lambda: model.interpolate(*TEXTS[:2], literal=0),
        lambda: model.perturb(TEXTS[0], literal=0),
        lambda: model.sample(1, literal=0),
        lambda: model.markov_chain(np.zeros((1, 8)), literal=0),
    ]
    for call in calls:
        with pytest.raises(Unsupported, match=r"literal is 0.* this model's codes have no meaning part"):
            call()
    assert model.use.literal == Literal() and not model.has_meaning_part


def test_answers_are_not_offered_by_a_model_that_was_not_trained_on_any(model):
    with pytest.raises(Unsupported, match=r"was not trained on questions with answers.*use\.answers=true"):
        model.answer("who sold it")


def test_a_wrong_number_is_refused_before_anything_is_decoded(free):
    for given, message in (
        ({"literal": 2}, "literal is 2"),
        ({"candidates": 0}, "candidates is 0"),
        ({"beam": 0}, "beam is 0"),
        ({"beam": 4, "candidates": 2}, "beam is 4, but beam search draws nothing"),
        ({"beam": 4, "sample": True}, "leave out sample and candidates"),
    ):
        with pytest.raises(UserError, match=message):
            free.decode(np.zeros((1, 24)), **given)


def test_a_model_of_before_is_used_as_it_was(model):
    before = SentenceModel(model.autoencoder, model.tokenizer, {"training": {"objective": "amim"}}, hash="")
    assert before.use == Use()
