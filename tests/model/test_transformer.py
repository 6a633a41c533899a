"""Facts about the transformer, the superposition and mixed models, seen from outside."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.decoding import decode_ids, join_states
from smim.model.directory import load_model, save_model
from smim.objectives import OBJECTIVES, objective_class
from smim.text.batch import Batch, collate
from smim.text.tokenizer import EOS_ID, SOS_ID, UNK_ID
from smim.text.words import WordTokenizer
from tests.models import sentence_args

VOCABULARY = 30
SUPERPOSITION = {"encoder": "superposition", "decoder": "superposition", "tied_output": True}
MIXES = [
    *product(["gru", "transformer", "superposition"], ["gru", "transformer"]),
    ("superposition", "superposition"),
]
SMALL = {"latent_dim": 8, "hidden_dim": 16, "embedding_dim": 8, "num_layers": 2, "num_heads": 2}
SENTENCES = [[5, 6], [7, 8, 9, 10, 11], [12], [13, 14, 15]]


def make(encoder: str = "transformer", decoder: str = "transformer", **settings) -> SentenceAutoencoder:
    torch.manual_seed(0)
    tied = decoder == "superposition"
    args = sentence_args(**{**SMALL, "encoder": encoder, "decoder": decoder, "tied_output": tied, **settings})
    return SentenceAutoencoder(args, vocabulary_size=VOCABULARY)


@pytest.fixture(scope="module", params=[{"norm": "rms"}, {"norm": "layer"}, SUPERPOSITION], ids=["rms", "layer", "sum"])
def model(request) -> SentenceAutoencoder:
    return make(**request.param).eval()


def batch_of(sentences: list[list[int]]) -> Batch:
    return collate(sentences, range(len(sentences)))


def codes(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, SMALL["latent_dim"], generator=torch.Generator().manual_seed(seed))


def test_padding_changes_neither_posterior_nor_log_prob(model):
    z = codes(len(SENTENCES))
    posterior, log_prob = model.posterior(batch_of(SENTENCES)), model.log_prob(batch_of(SENTENCES), z)
    for i, sentence in enumerate(SENTENCES):
        alone = model.posterior(batch_of([sentence]))
        torch.testing.assert_close(alone.mean[0], posterior.mean[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.log_variance[0], posterior.log_variance[i], atol=1e-5, rtol=1e-5)
        words = model.log_prob(batch_of([sentence]), z[[i]]).tokens[0]
        torch.testing.assert_close(words, log_prob.tokens[i, : len(words)], atol=1e-5, rtol=1e-5)


def test_a_later_word_does_not_change_what_is_predicted_before_it(model):
    z = codes(1).expand(2, -1)
    one, other = model.log_prob(batch_of([[5, 6, 7, 8], [5, 6, 7, 20]]), z).tokens
    torch.testing.assert_close(one[:3], other[:3])
    assert (one[3:] - other[3:]).abs().min() > 1e-3


def test_the_order_of_the_words_changes_posterior_and_prediction(model):
    batch = batch_of([[5, 6, 7, 8], [6, 5, 8, 7], [5, 7, 6, 8]])
    mean = model.posterior(batch).mean
    assert torch.pdist(mean).min() > 1e-2
    last = model.log_prob(batch, codes(1).expand(3, -1)).eos
    assert torch.pdist(last[:, None]).min() > 1e-3


def test_a_repeated_word_is_not_the_word_alone(model):
    mean = model.posterior(batch_of([[5], [5, 5], [5, 5, 5]])).mean
    assert torch.pdist(mean).min() > 1e-2


def test_every_prediction_depends_on_z(model):
    batch = batch_of([[5, 6, 7]] * 2)
    z = codes(2).requires_grad_()
    tokens = model.log_prob(batch, z).tokens
    assert (tokens[0] - tokens[1]).abs().min() > 1e-3
    for token in tokens[0]:
        [gradient] = torch.autograd.grad(token, z, retain_graph=True)
        assert gradient[0].abs().min() > 0 and gradient[1].abs().max() == 0


def test_a_fresh_decoder_is_told_as_much_by_z_as_by_the_words_before():
    model = make(hidden_dim=64, embedding_dim=64, latent_dim=64, num_heads=4).eval()
    ids = torch.randint(4, VOCABULARY, (64, 10), generator=torch.Generator().manual_seed(0))
    embedded, z = model.embedding(ids), torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states = model.decoder(embedded, z)
        other_z = (model.decoder(embedded, z.roll(1, 0)) - states).square().mean()
        other_words = (model.decoder(embedded.roll(1, 0), z) - states).square().mean()
    assert other_z > 0.5 * other_words


# A language model has no code, so the decoder's maps of z have no gradient (tests/objectives/test_language_model.py).
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "language_model"])
@pytest.mark.parametrize(("encoder", "decoder"), MIXES)
def test_every_mix_has_a_finite_loss_and_a_gradient_on_every_trained_parameter(encoder, decoder, objective):
    model, loss = make(encoder, decoder), objective_class(objective)()
    loss.prepare(model)
    critic = loss.make_critic(model)
    network = critic.network if critic else None
    value = loss.terms(model, batch_of(SENTENCES), step=3, critic=network)["loss"].mean()
    value.backward()
    assert torch.isfinite(value)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("encoder", "decoder"), MIXES)
def test_a_few_steps_teach_every_mix_a_few_sentences(encoder, decoder):
    model, loss = make(encoder, decoder, embedding_dropout=0.0, dropout=0.0), objective_class("autoencoder")()
    loss.prepare(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss.terms(model, batch_of(SENTENCES), step=0)["loss"].mean().backward()
        optimizer.step()
    model.eval()
    assert decode_ids(model, model.posterior(batch_of(SENTENCES)).mean.detach(), 9) == SENTENCES


@pytest.mark.parametrize(("encoder", "decoder"), MIXES)
def test_a_mix_loads_as_it_was_saved(encoder, decoder, tmp_path):
    tokenizer = WordTokenizer.train([" ".join(f"w{i}" for i in range(VOCABULARY - 4))], splitter="whitespace")
    model = make(encoder, decoder, norm="layer", feedforward_dim=20).eval()
    save_model(tmp_path / "model", model, tokenizer, training={"objective": "amim"})
    loaded, _, _ = load_model(tmp_path / "model")
    assert loaded.args == model.args
    batch, z = batch_of(SENTENCES), codes(len(SENTENCES))
    assert torch.equal(loaded.posterior(batch).mean, model.posterior(batch).mean)
    assert torch.equal(loaded.log_prob(batch, z).tokens, model.log_prob(batch, z).tokens)


def teacher_forced(model: SentenceAutoencoder, sentence: list[int], z: Tensor) -> Tensor:
    """Log probabilities of all words at each position, [T, V], without a cache."""
    ids = torch.tensor([[SOS_ID, *sentence]])
    return torch.stack(
        [
            torch.cat(
                [model.log_prob(batch_of([[*sentence[:t], word]]), z[None]).tokens[0, t : t + 1] for word in WORDS]
            )
            for t in range(ids.shape[1])
        ]
    )


WORDS = range(4, VOCABULARY)  # `<eos>` is never a sentence's word; softmax differences over the others suffice


def cached(
    model: SentenceAutoencoder, token: list[int], state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    logits, state = model.next_token(torch.tensor(token), state)
    return torch.log_softmax(logits, -1)[:, 4:], state


@torch.no_grad()
def test_cached_steps_predict_what_teacher_forcing_does(model):
    sentence, z = [5, 6, 7, 8, 9], codes(1)
    expected, state = teacher_forced(model, sentence, z[0]), model.start(z)
    for t, token in enumerate([SOS_ID, *sentence]):
        log_prob, state = cached(model, [token], state)
        torch.testing.assert_close(log_prob[0], expected[t], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_step_does_not_depend_on_the_other_rows_and_their_positions(model):
    sentences, z = [[5, 6, 7, 8], [20, 21, 22], [10, 11]], codes(3)
    expected = [teacher_forced(model, sentence, z[i]) for i, sentence in enumerate(sentences)]
    _, state = cached(model, [SOS_ID], model.start(z[:1]))
    state = join_states(state, model.start(z[1:2]))
    _, state = cached(model, [5, SOS_ID], state)
    state = join_states(state, model.start(z[2:]))
    log_prob, state = cached(model, [6, 20, SOS_ID], state)
    for row, t in enumerate([2, 1, 0]):
        torch.testing.assert_close(log_prob[row], expected[row][t], atol=1e-5, rtol=1e-5)
    state = tuple(part[torch.tensor([True, False, True])] for part in state)
    log_prob, state = cached(model, [7, 10], state)
    torch.testing.assert_close(log_prob, torch.stack([expected[0][3], expected[2][1]]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_sentence_longer_than_a_block_of_the_cache_is_predicted_as_in_teacher_forcing(model):
    sentence = [5 + i % 20 for i in range(150)]
    z = codes(1)
    state, steps = model.start(z), []
    for token, target in zip([SOS_ID, *sentence], [*sentence, EOS_ID], strict=True):
        logits, state = model.next_token(torch.tensor([token]), state)
        steps.append(torch.log_softmax(logits, -1)[0, target])
    # A superposition's logits are in the hundreds here: z is no sum of these words.
    torch.testing.assert_close(
        torch.stack(steps), model.log_prob(batch_of([sentence]), z).tokens[0], atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_long_caches_are_not_made_for_short_sentences(model):
    z = codes(2)
    _, state = model.next_token(torch.tensor([SOS_ID, SOS_ID]), model.start(z))
    assert max(part[0].numel() for part in state) < 100 * 2 * SMALL["hidden_dim"]


def test_under_autocast_products_are_bf16_and_statistics_fp32(model):
    batch, z = batch_of(SENTENCES), codes(len(SENTENCES))
    expected, expected_log_prob = model.posterior(batch).mean, model.log_prob(batch, z).with_eos
    with torch.autocast("cpu", torch.bfloat16):
        posterior, log_prob = model.posterior(batch), model.log_prob(batch, z).with_eos
    assert posterior.mean.dtype == posterior.log_variance.dtype == log_prob.dtype == torch.float32
    torch.testing.assert_close(posterior.mean, expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(log_prob, expected_log_prob, atol=0.1, rtol=0.05)
    assert not torch.equal(log_prob, expected_log_prob)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_dim": 18, "num_heads": 4}, r"hidden_dim is 18 and model\.encoder\.num_heads is 4.*multiple of 8"),
        ({"hidden_dim": 12, "num_heads": 4}, "even number of channels"),
        ({"num_heads": 0, "num_layers": 0}, r"num_layers is 0.*num_heads is 0"),
        ({"feedforward_dim": 0, "num_pooling_queries": 0}, r"feedforward_dim is 0.*num_pooling_queries is 0"),
        ({"num_memory_tokens": 0, "norm": "rsm"}, r"num_memory_tokens is 0.*norm is 'rsm'; did you mean 'rms'"),
        ({"dropout": 1.0, "word_dropout": -0.1}, r"word_dropout is -0\.1.*dropout is 1\.0"),
        (
            {"encoder": "tranformer", "decoder": "lstm"},
            "did you mean 'transformer'.*'lstm'; valid: conv, gru",
        ),
    ],
)
def test_wrong_settings_are_refused_together(settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_the_norm_is_the_one_asked_for():
    assert isinstance(make(norm="rms").decoder.norm, nn.RMSNorm)
    assert isinstance(make(norm="layer").decoder.norm, nn.LayerNorm)


def test_a_pure_gru_takes_no_notice_of_a_transformers_settings():
    sentence_args(hidden_dim=15, num_heads=4, num_layers=0, norm="none", dropout=7)


def inputs(model: SentenceAutoencoder, batch: Batch) -> tuple[Tensor, Tensor]:
    """The ids that encoder and decoder read."""
    read: list[Tensor] = []
    handle = model.embedding.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    model.log_prob(batch, model.posterior(batch).mean)
    handle.remove()
    return read[0], read[1]


def test_word_dropout_replaces_its_share_of_the_words_and_nothing_else():
    lengths = [30, 40, 50] * 20
    batch = batch_of([[5 + i % 20 for i in range(length)] for length in lengths])
    plain = inputs(make().eval(), batch)
    dropped = inputs(make(encoder_word_dropout=0.2, word_dropout=0.4), batch)
    for before, after, share in zip(plain, dropped, (0.2, 0.4), strict=True):
        changed = before != after
        assert (after[changed] == UNK_ID).all() and (before[changed] >= 5).all()
        assert changed.sum() / sum(lengths) == pytest.approx(share, abs=0.04)


def test_words_are_dropped_in_training_only():
    model = make(encoder_word_dropout=0.9, word_dropout=0.9).eval()
    assert not any((ids == UNK_ID).any() for ids in inputs(model, batch_of(SENTENCES)))


def test_without_word_dropout_training_draws_no_number_for_it():
    model = make(embedding_dropout=0.0, dropout=0.0).train()
    before = torch.get_rng_state()
    inputs(model, batch_of(SENTENCES))
    assert torch.equal(torch.get_rng_state(), before)
