import numpy as np
import pytest
import torch

import smim
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model import noise
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.beam import beam_ids
from smim.model.decoding import decode_ids
from smim.model.directory import save_model
from smim.model.priors import GaussianMixture
from smim.search import index_texts
from smim.text.batch import collate
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID
from tests.models import sentence_args

TEXTS = ["a bank lost shares", "her brother sold the new law", "the company bought a small house"]


@pytest.fixture(scope="module")
def model(tiny_model):
    return smim.load(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def unknowing(unknowing_model):
    return smim.load(unknowing_model, device="cpu")


def test_codes_come_in_the_order_of_the_texts(model):
    together = model.encode(TEXTS)
    assert together.shape == (3, 8) and together.dtype == np.float32
    for text, code in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(model.encode([text])[0], code, rtol=1e-5, atol=1e-6)


def test_one_string_is_as_good_as_a_list(model):
    [code] = model.encode(TEXTS[:1])
    np.testing.assert_array_equal(model.encode(TEXTS[0]), code)
    assert model.reconstruct(TEXTS[0]) == model.decode(code) == model.decode(code[None]) == model.reconstruct(TEXTS[:1])


def test_codes_are_normalized_and_encoded_in_batches_as_asked(model):
    codes = model.encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS, batch_size=1), codes, rtol=1e-5, atol=1e-6)
    lengths = np.linalg.norm(codes, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(TEXTS, normalize=True), codes / lengths, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.encode(TEXTS[0], normalize=True)), 1, rtol=1e-5)
    with pytest.raises(UserError, match="batch_size is 0"):
        model.encode(TEXTS, batch_size=0)


def test_long_sentences_do_not_pad_many_short_ones(model, monkeypatch):
    texts = [" ".join(["the company sold shares"] * (1 + 4 * (i % 10 == 0))) for i in range(40)]
    one_by_one, shapes, posterior = model.encode(texts, batch_size=1), [], model.autoencoder.posterior

    def noting(batch, **how):
        shapes.append(tuple(batch.tokens.shape))
        return posterior(batch, **how)

    monkeypatch.setattr(model.autoencoder, "posterior", noting)
    np.testing.assert_allclose(model.encode(texts), one_by_one, rtol=1e-5, atol=1e-6)
    assert shapes == [(8, 20), (32, 4)]


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
def test_similarity_is_that_of_hits(model, tmp_path, metric):
    directory = tmp_path / "model"
    save_model(directory, model.autoencoder, model.tokenizer, training=model.config["training"], use={"metric": metric})
    own = smim.load(directory, device="cpu")
    index = index_texts(own, TEXTS, tmp_path / "index")
    expected = {hit.id: hit.similarity for hit in index.search(TEXTS[0], k=3)}
    found = own.similarity(TEXTS[0], TEXTS)
    assert found.shape == (1, 3) and found[0, 0] == max(found[0])
    np.testing.assert_allclose(found[0], [expected[i] for i in range(3)], rtol=1e-4, atol=1e-5)
    codes = own.encode(TEXTS)
    np.testing.assert_allclose(own.similarity(codes, codes[1]), own.similarity(TEXTS, TEXTS[1:2]), atol=1e-6)


def test_a_model_and_an_index_say_what_they_are(model, index, tiny_model):
    assert repr(model) == f"<SentenceModel {tiny_model}: gru; codes of 8 dimensions compared by l2>"
    assert repr(smim.load("english-small")).endswith(
        "codes of 512 dimensions, 128 of them meaning, compared by cosine>"
    )
    assert repr(index) == (
        f"<Index {index.directory}: 40 sentences, labels topic; codes of 8 dimensions, l2, Flat; of {tiny_model}>"
    )


@pytest.mark.parametrize("progress", [True, False])
def test_progress_of_encoding_is_shown_where_it_is_asked_for(model, progress, capsys):
    codes = model.encode(TEXTS, show_progress=progress)
    assert ("encoding: 3 sentences in" in capsys.readouterr().err) == progress
    np.testing.assert_array_equal(codes, model.encode(TEXTS))


def test_greedy_decoding_takes_the_likeliest_word_at_each_step(model):
    z = torch.as_tensor(model.encode(TEXTS[:1]))
    [ids] = decode_ids(model.autoencoder, z, 6, allow_unknown=True)
    assert len(ids) == 6
    state, token = model.autoencoder.start(z), torch.tensor([1])
    for expected in ids:
        logits, state = model.autoencoder.next_token(token, state)
        assert int(logits[0, 2:].argmax()) + 2 == expected
        token = torch.tensor([expected])


def test_a_beam_of_several_hypotheses_decodes_the_likeliest_sentence_that_it_finds(model):
    codes = model.encode(TEXTS)
    expected = [model.tokenizer.decode(ids) for ids in beam_ids(model.autoencoder, torch.as_tensor(codes), 20, 4)]
    assert model.decode(codes, beam=4, max_length=20) == expected != model.decode(codes, max_length=20)
    assert model.reconstruct(TEXTS, beam=4) == model.decode(codes, beam=4)


def test_decoding_does_not_depend_on_the_batch(model):
    z = torch.as_tensor(model.encode(TEXTS))
    uniform = noise.uniform(0, range(3), 0, 20)
    for draws in (None, uniform):
        together = decode_ids(model.autoencoder, z, 20, uniform=draws)
        assert len(set(map(tuple, together))) == 3
        alone = [
            decode_ids(model.autoencoder, z[[i]], 20, uniform=None if draws is None else draws[[i]])[0]
            for i in range(3)
        ]
        assert together == alone


def test_sentences_that_take_the_place_of_finished_ones_are_decoded_as_they_would_be_alone(model):
    z = torch.randn(700, model.latent_dim, generator=torch.Generator().manual_seed(0))
    uniform = noise.uniform(0, range(700), 0, 20)
    for draws in (None, uniform):
        together = decode_ids(model.autoencoder, z, 20, uniform=draws)
        assert len(set(map(tuple, together))) > 200
        parts = [slice(start, start + 50) for start in range(0, 700, 50)]
        apart = [
            ids
            for part in parts
            for ids in decode_ids(model.autoencoder, z[part], 20, uniform=None if draws is None else draws[part])
        ]
        assert together == apart


def test_a_transformer_decodes_a_sentence_alike_in_any_company(monkeypatch):
    torch.manual_seed(0)
    sizes = {"latent_dim": 6, "hidden_dim": 16, "embedding_dim": 8, "num_layers": 2, "num_heads": 2}
    transformer = SentenceAutoencoder(sentence_args(decoder="transformer", **sizes), vocabulary_size=30).eval()
    z, uniform = torch.randn(60, 6), noise.uniform(0, range(60), 0, 90)
    alone = [decode_ids(transformer, z[[i]], 90, uniform=uniform[[i]])[0] for i in range(60)]
    lengths = sorted(map(len, alone))
    assert lengths[0] < 5 and lengths[-1] > 64  # some leave early, and some outgrow a block of the cache
    monkeypatch.setattr("smim.model.decoding._DECODED_TOGETHER", 8)
    assert decode_ids(transformer, z, 90, uniform=uniform) == alone


@pytest.mark.parametrize("allow_unknown", [False, True])
def test_sampled_words_have_the_probabilities_of_the_model(model, allow_unknown):
    z = torch.as_tensor(model.encode(TEXTS[:1])).expand(4000, -1)
    first = [
        ids[0] if ids else 2
        for ids in decode_ids(
            model.autoencoder, z, 1, uniform=noise.uniform(0, range(4000), 0, 1), allow_unknown=allow_unknown
        )
    ]
    logits, _ = model.autoencoder.next_token(torch.tensor([1]), model.autoencoder.start(z[:1]))
    logits[:, [PAD_ID, SOS_ID] if allow_unknown else [PAD_ID, SOS_ID, UNK_ID]] = -torch.inf
    expected = torch.softmax(logits[0], -1).detach().numpy()
    observed = np.bincount(first, minlength=len(expected)) / 4000
    assert np.abs(observed - expected).max() < 0.03


def test_interpolation_starts_and_ends_at_the_two_reconstructions(model):
    path = model.interpolate(TEXTS[0], TEXTS[1], steps=4)
    assert len(path) == 4
    assert [path[0], path[-1]] == model.reconstruct(TEXTS[:2])
    assert path[0] != path[-1]


def test_same_seed_same_draws(model):
    assert model.sample(4, standard_deviation=1.0, seed=3) == model.sample(4, standard_deviation=1.0, seed=3)
    assert model.sample(4, standard_deviation=1.0, seed=3) != model.sample(4, standard_deviation=1.0, seed=4)
    assert len(set(model.perturb(TEXTS[0], num=3, seed=3))) == 3
    assert model.perturb(TEXTS[0], num=3, seed=3) == model.perturb(TEXTS[0], num=3, seed=3)
    assert model.perturb(TEXTS[0], num=3, seed=3) != model.perturb(TEXTS[0], num=3, seed=4)


def test_without_a_standard_deviation_codes_are_drawn_from_the_models_own_prior(tiny_model):
    model = smim.load(tiny_model, device="cpu")
    model.autoencoder.prior = GaussianMixture(model.latent_dim, num_components=1)
    with torch.no_grad():
        model.autoencoder.prior.means.fill_(3.0)
        model.autoencoder.prior.log_variances.fill_(-20.0)
    drawn = model.draw_codes(5, None, seed=3)
    torch.testing.assert_close(drawn, torch.full((5, 8), 3.0), atol=1e-3, rtol=0)
    assert torch.equal(drawn, model.draw_codes(5, None, seed=3))
    assert not torch.equal(drawn, model.draw_codes(5, None, seed=4))
    assert model.sample(5, prior=True, seed=3) == model.decode(drawn, sample=True, seed=3)


def test_a_markov_chain_draws_a_sentence_of_the_code_and_a_code_of_the_sentence_by_turns(model):
    codes = model.encode(TEXTS)
    chains = model.markov_chain(codes, steps=4, seed=3)
    assert [len(chain) for chain in chains] == [4, 4, 4] and len({text for chain in chains for text in chain}) > 4
    z = torch.as_tensor(codes)
    for step in range(4):
        ids = decode_ids(model.autoencoder, z, 20, uniform=noise.uniform(3, range(3), step, 20))
        assert [chain[step] for chain in chains] == [model.tokenizer.decode(sentence) for sentence in ids]
        z = model.posterior_of_ids(ids).sample(noise.normal(3, range(3), step + 1, model.latent_dim))
    assert chains == model.markov_chain(codes, steps=4, seed=3) != model.markov_chain(codes, steps=4, seed=4)
    assert model.markov_chain(codes[:1], steps=4, seed=3) == chains[:1]


def test_a_sample_by_a_chain_is_its_last_sentence(model):
    codes = model.draw_codes(3, 1.0, seed=2)
    ends = [chain[-1] for chain in model.markov_chain(codes, steps=5, seed=2)]
    assert model.sample(3, standard_deviation=1.0, chain_steps=5, seed=2) == ends and len(set(ends)) == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda model, **options: model.decode(model.encode(TEXTS), **options),
        lambda model, **options: model.decode(model.encode(TEXTS), sample=True, **options),
        lambda model, **options: model.reconstruct(TEXTS, **options),
        lambda model, **options: model.interpolate(*TEXTS[:2], **options),
        lambda model, **options: model.perturb(TEXTS[0], **options),
        lambda model, **options: model.sample(**options),
        lambda model, **options: model.sample(chain_steps=2, **options),
    ],
)
def test_unk_is_decoded_only_where_it_is_asked_for(unknowing, write):
    assert not any("<unk>" in text for text in write(unknowing))
    assert any("<unk>" in text for text in write(unknowing, allow_unknown=True))


def test_a_model_is_trained_with_the_unk_that_it_draws_itself(unknowing):
    drawn = unknowing.autoencoder.sample(torch.as_tensor(unknowing.encode(TEXTS)), max_length=5)
    assert (drawn.tokens == UNK_ID).all()


def test_perturbation_without_scale_is_the_reconstruction(model):
    reconstructed = model.reconstruct(TEXTS[:1])
    assert model.perturb(TEXTS[0], num=2, scale=0) == reconstructed * 2
    assert not set(model.perturb(TEXTS[0], num=2, scale=10)) & set(reconstructed)


@pytest.mark.parametrize("question", ["the company lost the new law", "a bank ?", "her brother sold shares??"])
@pytest.mark.parametrize("num_words", [1, 12])
def test_an_answer_is_what_the_likeliest_known_words_say_behind_the_first_question_mark(unknowing, question, num_words):
    text = question.rstrip(" ?") + " ?" + " zzz" * num_words
    state, token, words = unknowing.autoencoder.start(torch.tensor(unknowing.encode([text]))), SOS_ID, []
    while token != EOS_ID and len(words) < 100 + len(text.split()):
        logits, state = unknowing.autoencoder.next_token(torch.tensor([token]), state)
        logits[0, [PAD_ID, SOS_ID, UNK_ID]] = -torch.inf
        token = int(logits.argmax())
        words.append(unknowing.tokenizer.words[token])
    behind = " ".join(words[words.index("?") + 1 :]).removesuffix(" <eos>")
    assert unknowing.answer(question, num_words=num_words) == behind and len(behind.split()) > 1


def test_an_answer_depends_on_the_number_of_unknown_words_and_holds_none(unknowing):
    answers = [unknowing.answer("the law", num_words=num) for num in (1, 3, 12)]
    assert len(set(answers)) == 3 and not any("<unk>" in answer for answer in answers)


def test_a_model_that_knows_no_question_mark_answers_nothing(model, tmp_path):
    save_model(tmp_path, model.autoencoder, model.tokenizer, training={"objective": "amim"}, use={"answers": True})
    assert smim.load(tmp_path, device="cpu").answer("a bank lost") == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode([""]), "is empty"),
        (lambda m: m.encode(["   "]), "is empty"),
        (lambda m: m.encode(["bank " * 30], too_long="error"), "has 30 tokens, but this model takes at most 20"),
        (lambda m: m.reconstruct(["bank " * 30]), "has 30 tokens, but this model takes at most 20"),
        (lambda m: m.encode(["a bank", None]), "a text is needed, not None"),
        (lambda m: m.encode(["a bank", float("nan")]), "a text is needed, not nan"),
        (lambda m: m.encode(["a bank"], too_long="cut"), "too_long is 'cut'; valid: error, skip, truncate"),
        (lambda m: m.encode(["a bank"], empty="truncate"), "empty is 'truncate'; valid: error, skip"),
        (lambda m: m.reconstruct(["a bank", None]), "a text is needed, not None"),
        (lambda m: m.encode(3), "the sentences must be in a list of strings, not 3"),
        (lambda m: m.reconstruct(["xyzzy plugh"]), "has no word of 'xyzzy plugh'"),
        (lambda m: m.decode(np.zeros((2, 3))), r"shape \(2, 3\)"),
        (lambda m: m.decode(np.full((1, 8), np.nan)), "NaN"),
        (lambda m: m.decode([["a"] * 8]), "codes must be numbers"),
        (lambda m: m.sample(1, seed=-1), "the seed is -1"),
        (lambda m: m.perturb("a bank", seed=2**62), "the seed is 4611686018427387904"),
        (lambda m: m.sample(1, seed=1.5), "the seed is 1.5"),
        (lambda m: m.sample(1, prior=True, seed=10**30), "the seed is 10"),
        (
            lambda m: m.interpolate("a bank", "a bank", steps=1),
            "steps is 1, but it must be a whole number of at least 2",
        ),
        (lambda m: m.interpolate("a bank", "a bank", steps=2.5), "steps is 2.5, but it must be a whole number"),
        (lambda m: m.interpolate("a bank", 3), "the sentences must be in a list of strings, not"),
        (lambda m: m.perturb("a bank", num=0), "num is 0, but it must be a whole number of at least 1"),
        (lambda m: m.perturb("a bank", scale=float("nan")), "scale is nan, but it must be a number of at least 0"),
        (lambda m: m.sample("3"), "num is '3', but it must be a whole number"),
        (
            lambda m: m.sample(1, standard_deviation=-1),
            "standard_deviation is -1, but it must be a number of at least 0",
        ),
        (lambda m: m.answer(3), "the sentences must be in a list of strings, not"),
        (lambda m: m.answer("a bank", num_words=0), "num_words is 0, but it must be a whole number of at least 1"),
        (lambda m: m.arithmetic([]), "at least one sentence"),
        (lambda m: m.arithmetic(["a bank"], "a bank"), "the sentences must be in a list, not one string"),
        (lambda m: m.decode([[1.0], [1.0, 2.0]]), r"codes must be numbers of shape \[N, 8\]"),
        (lambda m: m.decode(np.zeros((1, 8)), max_length=0), "max_length is 0"),
        (lambda m: m.markov_chain(np.zeros((1, 8)), steps=0), "steps is 0"),
        (lambda m: m.sample(1, chain_steps=2.5), "steps is 2.5, but it must be a whole number"),
    ],
)
def test_bad_input_is_one_clear_error(model, call, message):
    with pytest.raises(UserError, match=message):
        call(model)


@pytest.mark.parametrize("kind", ["gru", "transformer", "superposition"])
def test_informative_embeddings_are_the_mean_of_the_states_that_decoding_goes_through(model, kind):
    tied = {"encoder": kind, "tied_output": True} if kind == "superposition" else {}
    layers = {} if kind == "gru" else {"num_layers": 1, "num_heads": 2}
    args = sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12, decoder=kind, **layers, **tied)
    autoencoder = SentenceAutoencoder(args, vocabulary_size=model.tokenizer.vocabulary_size).eval()
    embeddings = SentenceModel(autoencoder, model.tokenizer, model.config, hash="").informative(TEXTS)
    assert embeddings.shape == (3, autoencoder.decoder.output_dim) and embeddings.dtype == np.float32
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        [ids], outputs = model.token_ids([text]), []
        with torch.no_grad():
            state = autoencoder.decoder.start(autoencoder.posterior(collate([ids], [0])).mean)
            for token in [SOS_ID, *ids]:
                output, state = autoencoder.decoder.step(autoencoder.embedding(torch.tensor([token])), state)
                outputs.append(output[0])
        np.testing.assert_allclose(embedding, torch.stack(outputs).mean(0), rtol=1e-4, atol=1e-5)
