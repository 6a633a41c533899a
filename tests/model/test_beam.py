"""Beam search for the likeliest sentence of a code."""

import pytest
import torch

from smim.model.beam import beam_ids
from smim.model.decoding import decode_ids
from smim.model.registry import make_args, make_model
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID

VOCABULARY, LONGEST, NUM = 8, 3, 12
NEVER = [PAD_ID, SOS_ID, UNK_ID]
SETTINGS = {"latent_dim": 48, "hidden_dim": 16, "embedding_dim": 8, "tied_output": True}
LAYERS = {"num_layers": 1, "num_heads": 2}
PARTS = {
    "gru": {"encoder": "gru", "decoder": "gru"},
    "transformer": {"encoder": "gru", "decoder": "transformer", **LAYERS},
    "superposition": {"encoder": "superposition", "decoder": "superposition", **LAYERS},
    "meaning": {
        "encoder": {"name": "superposition", "meaning": {"dim": 24, "table_dim": 8}},
        "decoder": "superposition",
        **LAYERS,
    },
}


def make(kind: str):
    torch.manual_seed(0)
    model = make_model(make_args({**SETTINGS, **PARTS[kind]}), input_size=VOCABULARY).eval()
    torch.nn.init.normal_(model.embedding.weight)
    for name, weights in model.decoder.named_parameters():
        if name == "match_gain":
            weights.data *= 0.3
        elif weights.ndim == 2:
            torch.nn.init.normal_(weights, std=0.5 * weights.shape[1] ** -0.5)
    return model


@pytest.fixture(scope="module", params=PARTS)
def model(request):
    return make(request.param)


@pytest.fixture(scope="module")
def z():
    return 3 * torch.randn(NUM, SETTINGS["latent_dim"], generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def next_log_probs(model, code, prefix, never=NEVER, literal=1.0) -> list[float]:
    """Those of every token after a prefix, which is read token by token."""
    state = model.start(code[None], literal)
    for token in [SOS_ID, *prefix]:
        logits, state = model.next_token(torch.tensor([token]), state)
    logits[:, never] = -torch.inf
    return logits.log_softmax(-1)[0].tolist()


def words_but(never) -> list[int]:
    return [word for word in range(VOCABULARY) if word not in (*never, EOS_ID)]


def all_sentences(model, code, never=NEVER, literal=1.0) -> dict[tuple[int, ...], float]:
    """The log probability of each sentence, with <eos> unless it is as long as allowed."""
    found = {}

    def extend(prefix: tuple[int, ...], log_p: float) -> None:
        if len(prefix) == LONGEST:
            found[prefix] = log_p
            return
        log_probs = next_log_probs(model, code, prefix, never, literal)
        found[prefix] = log_p + log_probs[EOS_ID]
        for word in words_but(never):
            extend((*prefix, word), log_p + log_probs[word])

    extend((), 0.0)
    return found


def check_likeliest(model, z, never=NEVER, **options) -> None:
    tables = [all_sentences(model, code, never, options.get("literal", 1.0)) for code in z]
    likeliest = [list(max(table, key=table.__getitem__)) for table in tables]
    assert beam_ids(model, z, LONGEST, len(words_but(never)) ** LONGEST, **options) == likeliest
    assert len(set(map(len, likeliest))) > 1


@pytest.mark.parametrize("allow_unknown", [False, True])
def test_a_beam_of_all_sentences_finds_the_likeliest_one(model, z, allow_unknown):
    check_likeliest(model, z, NEVER[: 2 + (not allow_unknown)], allow_unknown=allow_unknown)


def test_the_likeliest_sentence_of_the_meaning_alone_is_found(z):
    check_likeliest(make("meaning"), z, literal=0.0)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_beams_find_likelier_sentences_than_the_likeliest_word_at_each_step(kind, z):
    model = make(kind)
    greedy, beams = decode_ids(model, z, LONGEST), beam_ids(model, z, LONGEST, 4)
    likelihoods = [all_sentences(model, code) for code in z]
    gains = [of[tuple(b)] - of[tuple(g)] for of, g, b in zip(likelihoods, greedy, beams, strict=True)]
    assert sum(gains) > 0.05


@pytest.mark.parametrize("beam", [1, 2])
def test_a_narrow_beam_keeps_the_likeliest_hypotheses_of_each_length(model, z, beam):
    for code, found in zip(z, beam_ids(model, z, LONGEST, beam), strict=True):
        kept, ended = [((), 0.0)], []
        for _ in range(LONGEST):
            longer = []
            for prefix, log_p in kept:
                log_probs = next_log_probs(model, code, prefix)
                ended.append((prefix, log_p + log_probs[EOS_ID]))
                longer += [((*prefix, word), log_p + log_probs[word]) for word in words_but(NEVER)]
            kept = sorted(longer, key=lambda each: -each[1])[:beam]
        assert tuple(found) == max(ended + kept, key=lambda each: each[1])[0]


def test_a_sentence_is_the_same_in_any_company_and_of_no_code_there_is_none(model, z):
    together = beam_ids(model, z.repeat(60, 1), LONGEST, 4)
    assert together == 60 * [beam_ids(model, code[None], LONGEST, 4)[0] for code in z]
    assert beam_ids(model, z[:0], LONGEST, 4) == []
