"""How much of the hardware's arithmetic a training uses: model FLOPs utilisation (PaLM, 2022, appendix B).

It is tokens a second x FLOPs a token / what the device achieves in a large matrix product. FLOPs are those that
the model needs: neither padding nor what is computed twice to save memory counts.
"""

import time

import torch
from torch import nn

from smim.model.autoencoder import SentenceAutoencoder
from smim.model.gru import GRUDecoder
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.transformer import TransformerDecoder, TransformerEncoder
from smim.training.processes import resolve_precision

_SMALLEST = 256
_LARGEST = {"cpu": 1024}
_SECONDS = 0.3


def flops_per_token(model: LatentVariableModel, mean_length: float) -> float:
    """FLOPs of one training step, forward and backward, for each word of sentences of `mean_length` words.

    Each weight of a matrix that a token passes takes 2 FLOPs forward and 4 backward. So does each pair of tokens
    and each channel in attention, twice: the scores, and the sum of the values (12 x layers x hidden x length for a
    token; a causal mask saves nothing). The sentence has a token more than words, `<sos>` or `<eos>`; a
    transformer decoder also reads its memory tokens; what a sentence passes once is shared by its words.
    A vector counts as one word, and passes each matrix once. What a learned prior takes is left out: it is a step's.
    """
    weights = _matrix_weights(model) - _matrix_weights(model.prior)
    if not isinstance(model, SentenceAutoencoder):
        return 6.0 * weights
    args = model.args
    num_tokens = mean_length + 1
    from_latent = [child for name, child in model.decoder.named_children() if name.startswith("latent_to")]
    once = sum(map(_matrix_weights, [model.to_mean, model.to_log_variance, *from_latent]))
    if isinstance(model.decoder, GRUDecoder):
        once += 3 * args.hidden_dim * args.latent_dim  # z's part of the gates is the same at every step
    each_token = weights - _matrix_weights(model.embedding) - once
    products = num_tokens * each_token + once
    attended = 0.0
    if isinstance(model.encoder, TransformerEncoder):
        attended += num_tokens * (args.num_layers * num_tokens + args.num_pooling_queries)
    if isinstance(model.decoder, TransformerDecoder):
        products += args.num_memory_tokens * _matrix_weights(model.decoder.blocks)
        attended += args.num_layers * (num_tokens + args.num_memory_tokens) ** 2
    return (6 * products + 12 * args.hidden_dim * attended) / mean_length


@torch.no_grad()
def matrix_rate(device: torch.device, precision: str) -> float:
    """FLOPs a second of a matrix product, the best of as many as 0.3 seconds hold: of 2048^3 (CPU: 1024^3), or
    smaller ones where that takes too long. `precision` is auto, fp32 or bf16, as `train.precision`.
    """
    dtype = torch.bfloat16 if resolve_precision(precision) == "bf16" else torch.float32
    size, largest, best = _SMALLEST, _LARGEST.get(device.type, 2048), 0.0
    _product_seconds(size, device, dtype)  # the first product also loads libraries
    deadline = time.perf_counter() + _SECONDS
    while True:
        seconds = _product_seconds(size, device, dtype)
        best = max(best, 2 * size**3 / seconds)
        left = deadline - time.perf_counter()
        if size < largest and 8 * seconds < left:
            size *= 2
        elif seconds > left:
            return best


def _product_seconds(size: int, device: torch.device, dtype: torch.dtype) -> float:
    one, other = torch.ones(2, size, size, device=device, dtype=dtype)
    _synchronize(device)
    started = time.perf_counter()
    one @ other
    _synchronize(device)
    return time.perf_counter() - started


def _matrix_weights(module: nn.Module) -> int:
    # A pooling query has three axes: it is no matrix that a token is multiplied with, but a party of the attention.
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 2)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
