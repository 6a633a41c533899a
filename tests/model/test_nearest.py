"""The sentence whose own code is nearest to a code that is a sum of words."""

import pytest
import torch

from smim.model.decoding import decode_ids
from smim.model.nearest import EXACT, nearest_ids, share_left
from smim.model.registry import make_args, make_model
from smim.objectives.amim import AMIM
from smim.text.batch import collate
from smim.text.tokenizer import UNK_ID

VOCABULARY, NUM, LENGTH = 100, 40, 10
SETTINGS = {
    "decoder": "superposition",
    "latent_dim": 128,
    "embedding_dim": 24,
    "tied_output": True,
    "hidden_dim": 32,
    "num_layers": 1,
    "num_heads": 2,
}


def make(meaning_dim: int):
    """Trained a little, on random words: right about most words, and about few sentences."""
    torch.manual_seed(0)
    encoder = {"name": "superposition", "meaning": {"dim": meaning_dim, "table_dim": 8}}
    latent_dim = SETTINGS["latent_dim"] + (meaning_dim and meaning_dim - 32)
    settings = {**SETTINGS, "latent_dim": latent_dim, "encoder": encoder}
    model = make_model(make_args(settings), input_size=VOCABULARY).train()
    optimizer, objective = torch.optim.Adam(model.parameters(), lr=1e-2), AMIM(name="amim")
    for step in range(15):
        batch = collate(torch.randint(UNK_ID, VOCABULARY, (64, LENGTH)).tolist(), range(64))
        optimizer.zero_grad()
        objective.terms(model, batch, step=step)["loss"].mean().backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module", params=[0, 8])
def model(request):
    return make(request.param)


@pytest.fixture(scope="module")
def sentences() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(4, VOCABULARY, (NUM, LENGTH), generator=generator).tolist()


@torch.no_grad()
def encode(model, sentences):
    return model.posterior(collate(sentences, range(len(sentences)))).mean


def test_it_finds_sentences_that_the_likeliest_word_at_each_step_does_not(model, sentences):
    z = encode(model, sentences)
    found, left = nearest_ids(model, z, 20)
    right = torch.tensor([own == ids for own, ids in zip(found, sentences, strict=True)])
    greedy = [own == ids for own, ids in zip(decode_ids(model, z, 20), sentences, strict=True)]
    assert sum(right) > 0.9 * NUM > 1.5 * sum(greedy)
    assert ((left < EXACT) == right).all()


def test_what_it_says_is_left_is_what_the_sentence_leaves_that_it_found(model, sentences):
    noisy = encode(model, sentences)
    noisy += 0.05 * noisy.std() * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(2))
    found, left = nearest_ids(model, noisy, 20)
    torch.testing.assert_close(left, share_left(model, noisy, encode(model, found)), rtol=1e-3, atol=1e-4)
    assert left.min() > EXACT
    assert sum(own == ids for own, ids in zip(found, sentences, strict=True)) > 0.9 * NUM


def test_a_sentence_is_the_same_in_any_company(model, sentences):
    z = encode(model, sentences)
    together, _ = nearest_ids(model, z, 20)
    assert [nearest_ids(model, z[[row]], 20)[0][0] for row in (0, 7, 39)] == [together[row] for row in (0, 7, 39)]


def test_no_more_words_are_written_than_asked_for_and_of_no_code_none(model, sentences):
    found, _ = nearest_ids(model, encode(model, sentences), 4)
    assert max(map(len, found)) <= 4
    found, left = nearest_ids(model, torch.zeros(2, model.args.latent_dim), 20)
    assert found == [[], []] and left.isfinite().all()
    assert nearest_ids(model, torch.zeros(0, model.args.latent_dim), 20)[0] == []


def test_unknown_words_are_written_where_they_are_allowed(model):
    z = encode(model, [[UNK_ID, 20, 21]])
    assert nearest_ids(model, z, 20, allow_unknown=True)[0] == [[UNK_ID, 20, 21]]
    [without], _ = nearest_ids(model, z, 20)
    assert UNK_ID not in without


def test_codes_of_other_encoders_are_no_sum():
    args = make_args({"latent_dim": 8, "hidden_dim": 8, "embedding_dim": 8})
    assert make_model(args, input_size=VOCABULARY).words_of_sum is None
