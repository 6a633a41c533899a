import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from smim.model.autoencoder import SentenceAutoencoder
from smim.model.gru import GRU, GRUDecoder, GRUEncoder, _without_tf32
from smim.text.batch import collate
from tests.models import sentence_args

SENTENCES, STEPS, EMBEDDING, HIDDEN, CONSTANT = 3, 5, 4, 6, 2


def made(*, initial: bool, constant: bool, dtype=torch.float32):
    """A layer, and its inputs by name."""
    torch.manual_seed(0)
    gru = GRU(EMBEDDING, HIDDEN, constant_dim=CONSTANT if constant else 0).to(dtype)
    inputs = {"input_BTE": torch.randn(SENTENCES, STEPS, EMBEDDING, dtype=dtype)}
    if initial:
        inputs["initial_BH"] = torch.randn(SENTENCES, HIDDEN, dtype=dtype)
    if constant:
        inputs["constant_BD"] = torch.randn(SENTENCES, CONSTANT, dtype=dtype)
    return gru, {name: tensor.requires_grad_() for name, tensor in inputs.items()}


def plain(gru, inputs):
    """The states as `nn.GRU` itself gives them, zero from `lengths` on."""
    joined = inputs["input_BTE"]
    if "constant_BD" in inputs:
        joined = torch.cat([joined, inputs["constant_BD"][:, None].expand(-1, STEPS, -1)], dim=-1)
    initial = inputs["initial_BH"][None] if "initial_BH" in inputs else None
    if "lengths_B" in inputs:
        joined = pack_padded_sequence(joined, inputs["lengths_B"], batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(nn.GRU.forward(gru, joined, initial)[0], batch_first=True)[0]
    return nn.GRU.forward(gru, joined, initial)[0]


PARTS = pytest.mark.parametrize(("initial", "constant"), [(False, False), (True, False), (False, True), (True, True)])


@pytest.mark.parametrize("lengths", [None, [2, 5, 1]])
@PARTS
def test_states_and_gradients_are_those_of_nn_gru(initial, constant, lengths):
    gru, inputs = made(initial=initial, constant=constant)
    read = inputs | ({"lengths_B": torch.tensor(lengths)} if lengths else {})
    expected, actual = plain(gru, read), gru(**read)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(expected)
    wanted = [*inputs.values(), *gru.parameters()]
    pairs = zip(*(torch.autograd.grad(states, wanted, weight) for states in (actual, expected)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lengths", [None, [2, 5, 1]])
@PARTS
def test_gradient_is_the_limit_of_differences(initial, constant, lengths):
    gru, inputs = made(initial=initial, constant=constant, dtype=torch.float64)
    lengths_B = torch.tensor(lengths) if lengths else None
    names = [name for name, _ in gru.named_parameters()]

    def states(*values):
        parameters = dict(zip(names, values[len(inputs) :], strict=True))
        read = dict(zip(inputs, values, strict=False)) | {"lengths_B": lengths_B}
        return torch.func.functional_call(gru, parameters, (), read)

    values = [*inputs.values(), *(parameter.detach().requires_grad_() for parameter in gru.parameters())]
    assert torch.autograd.gradcheck(states, values)


def test_bf16_is_close_and_its_states_are_fp32():
    gru, inputs = made(initial=True, constant=True)
    expected = gru(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        actual = gru(**inputs)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=0.02, rtol=0.02)
    wanted = [*inputs.values(), *gru.parameters()]
    pairs = zip(*(torch.autograd.grad(states.sum(), wanted) for states in (actual, expected)), strict=True)
    for one, other in pairs:
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()


def test_a_gpu_rounds_to_tf32_outside_of_evaluation_alone():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark
    with _without_tf32():
        assert (cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark) == (False, *before[1:])
    assert (cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark) == before


def test_parameters_are_named_as_those_of_nn_gru():
    gru, _ = made(initial=True, constant=True)
    assert list(gru.state_dict()) == list(nn.GRU(EMBEDDING + CONSTANT, HIDDEN).state_dict())


def test_encoder_reads_each_sentence_to_its_own_end():
    torch.manual_seed(0)
    encoder = GRUEncoder(embedding_dim=EMBEDDING, hidden_dim=HIDDEN)
    embedded, lengths = torch.randn(SENTENCES, STEPS, EMBEDDING), torch.tensor([5, 1, 3])
    packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
    expected = nn.GRU.forward(encoder.gru, packed)[1][0]
    torch.testing.assert_close(encoder(embedded, lengths), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_reading_from_a_table_of_words_gives_the_same_state():
    torch.manual_seed(0)
    encoder = GRUEncoder(embedding_dim=EMBEDDING, hidden_dim=HIDDEN)
    embedding, tokens = torch.randn(9, EMBEDDING), torch.randint(9, (SENTENCES, STEPS))
    lengths = torch.tensor([5, 1, 3])
    table = encoder.word_table(embedding, STEPS)
    expected = encoder(embedding[tokens], lengths)
    torch.testing.assert_close(encoder.read(tokens, lengths, table), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@torch.no_grad()
def test_posterior_from_a_table_of_words_is_the_same(dtype, tolerance):
    torch.manual_seed(0)
    model = SentenceAutoencoder(sentence_args(latent_dim=6, hidden_dim=16, embedding_dim=8), vocabulary_size=30).eval()
    batch = collate([[5, 6, 7, 8], [9]], [0, 1])
    expected = model.posterior(batch)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        actual = model.posterior(batch, word_table=model.word_table(batch.tokens))
    torch.testing.assert_close(actual.mean, expected.mean, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(actual.log_variance, expected.log_variance, atol=tolerance, rtol=tolerance)


def test_decoding_step_by_step_gives_the_states_of_teacher_forcing():
    torch.manual_seed(0)
    decoder = GRUDecoder(embedding_dim=EMBEDDING, hidden_dim=HIDDEN, latent_dim=CONSTANT)
    embedded, z = torch.randn(SENTENCES, STEPS, EMBEDDING), torch.randn(SENTENCES, CONSTANT)
    state, outputs = decoder.start(z), []
    for step in range(STEPS):
        output, state = decoder.step(embedded[:, step], state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs, 1), decoder(embedded, z), atol=1e-5, rtol=1e-5)
