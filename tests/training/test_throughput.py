import time
from itertools import product

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from smim.model.autoencoder import SentenceAutoencoder
from smim.model.mlp import VectorAutoencoder
from smim.text.batch import collate
from smim.training.throughput import matrix_rate
from tests.models import sentence_args, vector_args

KINDS = ["gru", "transformer", "superposition"]
SIZES = {"latent_dim": 48, "hidden_dim": 64, "embedding_dim": 32, "num_layers": 2, "num_heads": 4}


# A sum that a product is added to in place is the one matrix product that torch's counter does not know; nor does
# it know the fused attention on the CPU.
@pytest.mark.parametrize(
    ("encoder", "decoder"), [*product(KINDS, ["gru", "transformer"]), ("superposition", "superposition")]
)
def test_flops_are_those_that_torch_counts_in_a_step(encoder, decoder):
    args = sentence_args(encoder=encoder, decoder=decoder, dropout=0.0, tied_output=decoder == "superposition", **SIZES)
    model = SentenceAutoencoder(args, vocabulary_size=500).train()
    batch = collate([[5] * 20] * 3, range(3))
    in_place = {torch.ops.aten.addmm_: lambda _, *shapes, **options: mm_flop(*shapes)}
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    with sdpa_kernel(SDPBackend.MATH), counter:
        posterior = model.posterior(batch)
        loss = posterior.log_variance.sum() - model.log_prob(batch, posterior.sample()).with_eos.sum()
        loss.backward()
    assert model.flops_per_token(20) == pytest.approx(counter.get_total_flops() / 60, rel=1e-6)


def test_a_word_of_a_gru_takes_six_flops_for_each_weight_that_it_passes():
    # Encoder 3 x 2 x (2 + 2), decoder the same without z, vocabulary 2 x 10; 5 words and <eos> pass them. Once a
    # sentence: mean, log variance, first state, 2 x 3 each, and z's part of the gates, 3 x 2 x 3.
    model = SentenceAutoencoder(sentence_args(latent_dim=3, hidden_dim=2, embedding_dim=2), vocabulary_size=10)
    assert model.flops_per_token(5) == pytest.approx(6 * ((24 + 24 + 20) * 6 + 3 * 6 + 18) / 5)


@pytest.mark.parametrize("prior", ["gaussian_mixture", "vamp"])
def test_what_a_prior_learns_is_no_matrix_that_a_word_or_a_vector_passes(prior):
    plain, learned = (
        [
            SentenceAutoencoder(sentence_args(prior=kind, **SIZES), vocabulary_size=500),
            VectorAutoencoder(vector_args(prior=kind), dimension=3),
        ]
        for kind in ("standard_normal", prior)
    )
    assert [model.flops_per_token(5) for model in learned] == [model.flops_per_token(5) for model in plain]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_rate_of_products_is_measured_in_half_a_second(precision):
    device = torch.device("cpu")
    matrix_rate(device, precision)
    started = time.process_time()
    rate = matrix_rate(device, precision)
    assert time.process_time() - started < 0.5 * torch.get_num_threads()
    # A product of another size, timed here: the same hardware, give or take a busy machine.
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    one = torch.ones(384, 384, dtype=dtype)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - begun)
    assert rate / 20 < 2 * 384**3 / min(seconds) < rate * 20
