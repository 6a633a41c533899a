"""Facts about codes that are sums of words' codes, and about an output layer that shares the embedding."""

import copy

import pytest
import torch

from smim.errors import UserError
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.decoding import decode_ids
from smim.text.batch import Batch, collate
from smim.text.tokenizer import EOS_ID
from tests.models import sentence_args

VOCABULARY = 300
SIZES = {"latent_dim": 256, "hidden_dim": 32, "embedding_dim": 64, "num_layers": 1, "num_heads": 2}


def make(**settings) -> SentenceAutoencoder:
    torch.manual_seed(0)
    kinds = {"encoder": "superposition", "decoder": "superposition", "tied_output": True}
    return SentenceAutoencoder(sentence_args(**{**SIZES, **kinds, **settings}), vocabulary_size=VOCABULARY).eval()


def random_sentences(*lengths: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(4, VOCABULARY, (length,), generator=generator).numpy() for length in lengths]
    return collate(ids, range(len(ids)))


@torch.no_grad()
def test_an_untrained_model_finds_the_words_of_a_sentence_it_never_saw():
    model, batch = make(latent_dim=1024), random_sentences(6, 9, 12)
    # It has not learned to stop.
    decoded = decode_ids(model, model.posterior(batch).mean, 12)
    for ids, sentence, length in zip(decoded, batch.tokens.tolist(), batch.lengths.tolist(), strict=True):
        assert sum(one == other for one, other in zip(ids, sentence[:length], strict=False)) >= 0.9 * length


@torch.no_grad()
def test_nothing_is_left_of_a_code_when_all_words_are_out():
    model, batch = make(), random_sentences(40)
    z = model.posterior(batch).mean
    embedded = model.embedding(torch.cat([torch.full((1, 1), 1), batch.tokens], dim=1))
    left = model.encoder.words.remaining(z, embedded, torch.ones(1))[0].norm(dim=1)
    assert left[-1] < 1e-4 * left[0]
    one_word = model.encoder.words.encode(embedded[:, -1:], torch.zeros(1, 1, dtype=torch.int64))
    torch.testing.assert_close(left[-2], one_word[0].norm(), rtol=1e-3, atol=0)


@torch.no_grad()
def test_the_next_word_is_in_front_wherever_the_sentence_is():
    words = make().encoder.words
    ids = torch.randint(4, VOCABULARY, (1, 91), generator=torch.Generator().manual_seed(1))
    ids[0, 90] = 7
    embedded = torch.randn(VOCABULARY, 64)[ids]
    for length in (1, 4, 91):
        part = embedded[:, 91 - length :]
        z = words.encode(part, torch.arange(length)[None])
        said = torch.cat([torch.zeros(1, 1, 64), part], dim=1)
        before_last = words.remaining(z, said, torch.ones(1))[:, length - 1]
        alone = words.encode(embedded[:, 90:], torch.zeros(1, 1, dtype=torch.int64))
        torch.testing.assert_close(before_last, alone, rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_sentences_of_the_same_words_are_neighbours_and_no_twins():
    model = make()
    one, shuffled, other = model.posterior(
        collate([[5, 6, 7, 8, 9], [9, 7, 5, 8, 6], [5, 16, 7, 18, 9]], range(3))
    ).mean
    assert 0 < (one - shuffled).norm() < 0.5 * (one - other).norm()


@torch.no_grad()
def test_a_text_of_a_thousand_words_has_finite_probabilities():
    model, batch = make(), random_sentences(999)
    posterior = model.posterior(batch)
    assert torch.isfinite(posterior.mean).all()
    assert torch.isfinite(model.log_prob(batch, posterior.mean).tokens).all()


def test_a_copy_takes_out_what_its_own_encoder_puts_in():
    model = make()
    other = copy.deepcopy(model)
    assert other.decoder.words is other.encoder.words and other.decoder.words is not model.encoder.words
    assert other.to_vocabulary.matrix.data_ptr() == other.embedding.weight.data_ptr()


@pytest.mark.parametrize("decoder", ["gru", "transformer", "superposition"])
def test_a_tied_output_layer_has_no_matrix_of_its_own(decoder):
    tied = make(decoder=decoder)
    matrices = [name for name, tensor in tied.state_dict().items() if VOCABULARY in tensor.shape and tensor.ndim == 2]
    assert matrices == ["embedding.weight"]
    with torch.no_grad():
        tied.embedding.weight[7] *= 3
        z = torch.randn(2, 256)
        logits, _ = tied.next_token(torch.tensor([1, 1]), tied.start(z))
        before = logits[:, 7] - tied.to_vocabulary.bias[7]
        tied.embedding.weight[7] *= 2
        logits, _ = tied.next_token(torch.tensor([1, 1]), tied.start(z))
    torch.testing.assert_close(logits[:, 7] - tied.to_vocabulary.bias[7], 2 * before)


def test_what_matches_counts_less_where_the_gates_close():
    model, batch = make(), random_sentences(5)
    model.decoder.to_match_gate.bias.data.fill_(-100.0)
    z = model.posterior(batch).mean
    assert decode_ids(model, z, 5) != [batch.tokens[0].tolist()]
    logits, _ = model.next_token(torch.tensor([EOS_ID]), model.start(z))
    other, _ = model.next_token(torch.tensor([EOS_ID]), model.start(z * 1e-3))
    assert (logits - other).std() < 3  # with half open gates it is 8.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 12}, r"latent_dim is 12.*multiple of 8"),
        ({"encoder": "gru"}, r"decoder=superposition.*needs model\.encoder=superposition"),
        ({"tied_output": False}, r"model\.tied_output=true"),
        ({"order_weight": 0.0}, r"order_weight is 0\.0.*above 0"),
        ({"hidden_dim": 18, "num_heads": 4}, "multiple of 8"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)
