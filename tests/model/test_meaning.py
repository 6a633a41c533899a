"""The meaning part of a code, and how literally a code is decoded."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from smim.errors import UserError
from smim.model.decoding import decode_ids
from smim.model.meaning import initial_table
from smim.model.registry import make_args, make_model
from smim.objectives.amim import AMIM
from smim.text.batch import collate

VOCABULARY = 100
SETTINGS = {
    "decoder": "superposition",
    "latent_dim": 64,
    "embedding_dim": 16,
    "tied_output": True,
    "hidden_dim": 32,
    "num_layers": 1,
    "num_heads": 2,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
}
MEANING = {"dim": 16, "table_dim": 16, "hidden_dim": 32, "num_heads": 2}


def make(order_weight: float = 0.5, latent_dim: int = 64, **meaning):
    torch.manual_seed(0)
    encoder = {"name": "superposition", "order_weight": order_weight, "meaning": {**MEANING, **meaning}}
    return make_model(make_args({**SETTINGS, "latent_dim": latent_dim, "encoder": encoder}), input_size=VOCABULARY)


def codes(model, *sentences):
    return model.eval().posterior(collate([list(each) for each in sentences], range(len(sentences)))).mean.detach()


ONE, SHUFFLED, OTHER = [5, 6, 7, 8], [8, 6, 5, 7], [15, 16, 17, 18, 19]


@pytest.mark.parametrize("num_layers", [0, 2])
def test_the_order_part_has_its_weight_in_the_cosine_of_two_codes(num_layers):
    model = make(order_weight=0.3, num_layers=num_layers)
    one, other = codes(model, ONE, OTHER)
    of_meaning = F.cosine_similarity(model.meaning(one[None]), model.meaning(other[None]))
    of_order = F.cosine_similarity(one[None, 16:], other[None, 16:])
    expected = (of_meaning + 0.09 * of_order) / 1.09
    torch.testing.assert_close(F.cosine_similarity(one[None], other[None]), expected)


def test_the_sum_of_words_knows_no_order_and_layers_do():
    for num_layers, same in ((0, True), (2, False)):
        model = make(num_layers=num_layers)
        if num_layers:  # which add nothing before training
            torch.nn.init.normal_(model.encoder.meaning.to_gate.weight)
        one, shuffled = F.normalize(model.meaning(codes(model, ONE, SHUFFLED)), dim=-1)
        assert torch.allclose(one, shuffled, atol=1e-6) == same


@pytest.mark.parametrize("num_layers", [0, 2])
def test_padding_is_not_read(num_layers):
    model = make(num_layers=num_layers)
    torch.testing.assert_close(codes(model, ONE, OTHER)[:1], codes(model, ONE))


def test_a_meaning_part_that_is_held_has_no_dropout():
    batch = collate([ONE, OTHER], range(2))
    for is_held in (False, True):
        model = make(num_layers=1, dropout=0.5)
        torch.nn.init.normal_(model.encoder.meaning.to_meaning.weight)
        if is_held:
            model.encoder.hold_meaning()
        model.train()
        one, again = (model.meaning_of(batch) for _ in range(2))
        assert torch.equal(one, again) == is_held
    assert model.train().encoder.words.training


def test_at_literal_0_nothing_but_the_meaning_is_decoded():
    model = make()
    one, other = codes(model, ONE, OTHER)
    # Of the other's order part, but no louder: how long the meaning part is says how many words there are.
    mixed = torch.cat([one[:16], other[16:]])
    free = decode_ids(model, torch.stack([one, mixed]), 8, literal=0.0)
    literal = decode_ids(model, torch.stack([one, mixed]), 8)
    assert free[0] == free[1] and literal[0] != literal[1]


def test_what_is_decoded_at_once_is_decoded_step_by_step_at_any_literal():
    model = make().eval()
    z, batch = codes(model, ONE, ONE[:3]), collate([ONE, ONE[:3]], range(2))
    for literal in (1.0, 0.0):
        state, token, logits = model.start(z, literal), torch.full((2,), 1), []
        for step in range(4):
            out, state = model.next_token(token, state)
            logits.append(out)
            token = batch.tokens[:, step]
        at_once = model.log_prob(batch, z, literal=literal).tokens[:, :3]
        by_step = torch.stack(logits[:3], 1).log_softmax(-1).gather(2, batch.tokens[:, :3, None])[..., 0]
        torch.testing.assert_close(at_once, by_step, rtol=1e-4, atol=1e-4)


def test_words_that_were_drawn_at_random_are_always_decoded_literally():
    model, batch = make(), collate([ONE] * 60, range(60))
    z, random = codes(model, ONE).expand(60, -1), torch.arange(60) % 2 == 0
    literal = model.log_prob(batch, z, literal=1.0).with_eos
    model.train()
    drawn = model.log_prob(replace(batch, random=random), z).with_eos
    torch.testing.assert_close(drawn[random], literal[random])
    assert 5 < (drawn != literal).sum() < 30


def test_sentences_are_learned_word_for_word_and_from_their_meaning():
    model = make()
    sentences = [[4 + (7 * i + j * j) % 90 for j in range(3 + i % 4)] for i in range(8)]
    batch = collate(sentences, range(8))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    objective = AMIM(name="amim")
    model.train()
    for step in range(250):
        optimizer.zero_grad()
        objective.terms(model, batch, step=step)["loss"].mean().backward()
        optimizer.step()
    z = codes(model, *sentences)
    assert decode_ids(model, z, 8) == sentences
    assert decode_ids(model, z, 8, literal=0.0) == sentences


def test_a_model_without_a_meaning_part_is_always_literal():
    torch.manual_seed(0)
    model = make_model(make_args({**SETTINGS, "encoder": "superposition"}), input_size=VOCABULARY)
    assert model.meaning_dim == 64
    with pytest.raises(UserError, match=r"literal is 0\.5, .* this model's codes have no meaning part"):
        decode_ids(model, torch.zeros(1, 64), 8, literal=0.5)


def test_a_meaning_part_that_leaves_no_room_for_whole_pairs_is_refused():
    with pytest.raises(UserError, match=r"latent_dim is 66 .*meaning\.dim is 16.*multiple of 6"):
        make(latent_dim=66)


def test_the_table_begins_with_the_teachers_vectors_of_words():
    model, pieces, counts = make(), torch.randn(VOCABULARY, 24), torch.ones(VOCABULARY)
    said = model.embedding.weight[:, :16].clone()
    model.initialize_words(pieces, counts)
    assert torch.equal(model.embedding.weight[:, :16], said)
    assert torch.equal(model.embedding.weight[:, 16:], initial_table(pieces, counts)[:, :16])
    one, other = codes(model, [5], [6])
    torch.testing.assert_close(
        F.cosine_similarity(model.meaning(one[None]), model.meaning(other[None])),
        F.cosine_similarity(pieces[5:6, :16], pieces[6:7, :16]),
    )


def test_common_words_count_little_at_the_beginning():
    table = initial_table(torch.ones(2, 3), torch.tensor([999.0, 1.0]))
    assert table[0, 0] < 0.01 and table[1, 0] == 0.5


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"dim": 0}])
@torch.no_grad()
def test_a_table_of_the_texts_words_gives_the_same_codes(settings):
    model = make(**settings).eval()
    for name, weights in model.encoder.named_parameters():
        if "to_gate" in name or "to_meaning" in name:  # they add nothing before training
            torch.nn.init.normal_(weights)
    batch = collate([ONE, OTHER * 30, SHUFFLED[:1], []], range(4))
    expected = model.posterior(batch).mean
    actual = model.posterior(batch, word_table=model.word_table(batch.tokens)).mean
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * expected.abs().max())
