"""The output layer: log p(token) from hidden states, without the logits of a whole batch in memory.

Shapes: N tokens, H hidden, V vocabulary, W vocabulary padded to a multiple of 16.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.precision import add_product, product_dtype, sum_dtype

# Logits in memory at a time: 32 MB in fp32, about the size of a processor's last-level cache.
_LOGITS_PER_CHUNK = 2**23
# With fewer rows, matrix products are slower. Without this limit, a vocabulary of 89,247 would give 93 rows.
_MIN_TOKENS_PER_CHUNK = 256
# Each row of logits begins on a cache line. Products are then 1.3 times as fast as with rows of 9877.
_ROW_MULTIPLE = 16


class VocabularyLayer(nn.Module):
    """A linear layer to the vocabulary. Its forward pass returns the log probability of given tokens.

    It works in chunks and is 1.5 times as fast as torch's `F.linear_cross_entropy`. Without reduction, the latter
    repeats a product for the gradient, as Liger's fused kernel does. `cut-cross-entropy` (25.1.1) has no bias.
    """

    def __init__(self, hidden_dim: int, vocabulary_size: int) -> None:
        super().__init__()
        linear = nn.Linear(hidden_dim, vocabulary_size)
        self.weight, self.bias = linear.weight, linear.bias

    @property
    def matrix(self) -> Tensor:
        """The output vectors of all tokens, [V, H]."""
        return self.weight

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Compute the unnormalised log probabilities of all tokens, [N, V]."""
        return F.linear(hidden_NH, self.matrix, self.bias)

    def forward(self, hidden_NH: Tensor, target_N: Tensor, *, gradient_at_once: bool = True) -> Tensor:
        """Compute log p of each target token in nats, fp32 [N] (fp64 if the weights are).

        `gradient_at_once`: compute the gradient here, while the logits exist, for equal weights of all tokens. False:
        compute it in the backward pass, which then does not inspect the gradient that it gets.
        """
        matrix_VH = self.matrix
        dtype = product_dtype(matrix_VH)
        log_prob_N: Tensor = _TokenLogProb.apply(
            hidden_NH, matrix_VH, self.bias, target_N, dtype, gradient_at_once and torch.is_grad_enabled()
        )
        return log_prob_N


class TiedVocabularyLayer(VocabularyLayer):
    """A vocabulary layer whose matrix is the first `hidden_dim` columns of the embedding (Press and Wolf 2017)."""

    def __init__(self, embedding: nn.Embedding, hidden_dim: int) -> None:
        nn.Module.__init__(self)
        self.hidden_dim = hidden_dim
        self.shared = (embedding,)  # in a tuple it is not registered a second time
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    @property
    def matrix(self) -> Tensor:
        [embedding] = self.shared
        return embedding.weight[:, : self.hidden_dim]


class _TokenLogProb(torch.autograd.Function):
    """The function log softmax(h W' + b)[target], which also computes the gradient of the sum.

    A chunk's logits exist only once. In our losses all tokens have the same weight, so the gradient is that of the sum
    times the weight. If weights differ, the backward pass computes the gradient again, equally exactly.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor,
        target_N: Tensor,
        dtype: torch.dtype,
        with_gradient: bool,
    ) -> Tensor:
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, target_N)
        ctx.dtype = dtype
        scale_N = torch.ones_like(target_N, dtype=sum_dtype(dtype)) if with_gradient else None
        log_prob_N, ctx.gradients = _compute(hidden_NH, weight_VH, bias_V, target_N, scale_N, dtype)
        return log_prob_N

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        [grad_N] = grad
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is not None and len(grad_N) and (grad_N == grad_N[0]).all():
            gradients = [gradient.mul_(grad_N[0]) for gradient in gradients]
        else:
            hidden_NH, weight_VH, bias_V, target_N = ctx.saved_tensors
            _, gradients = _compute(hidden_NH, weight_VH, bias_V, target_N, grad_N, ctx.dtype)
        return *gradients, None, None, None


def _compute(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, target_N: Tensor, scale_N: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor] | None]:
    """Compute log p of each token [N], and the gradients of its sum, weighted by `scale_N`, to the three inputs."""
    with torch.autocast(hidden_NH.device.type, enabled=False):
        hidden_NH, product_VH = hidden_NH.to(dtype), weight_VH.to(dtype)
        size, vocabulary_size = len(hidden_NH), len(weight_VH)
        row = -(-vocabulary_size // _ROW_MULTIPLE) * _ROW_MULTIPLE
        chunk_size = max(1, min(size, max(_MIN_TOKENS_PER_CHUNK, _LOGITS_PER_CHUNK // row)))
        log_prob_N = hidden_NH.new_empty(size, dtype=sum_dtype(dtype))
        buffer_NW = log_prob_N.new_empty(chunk_size, row)
        if scale_N is not None:
            grad_hidden_NH = torch.empty_like(hidden_NH)
            grad_weight_VH = torch.zeros_like(weight_VH, dtype=log_prob_N.dtype)
            grad_bias_V = torch.zeros_like(bias_V, dtype=log_prob_N.dtype)
        for start in range(0, size, chunk_size):
            chunk = slice(start, start + chunk_size)
            hidden, target_N1 = hidden_NH[chunk], target_N[chunk, None]
            values_NW = buffer_NW[: len(hidden)]
            values_NV = values_NW[:, :vocabulary_size]
            values_NW[:, vocabulary_size:] = -torch.inf
            values_NV.copy_(bias_V)
            add_product(values_NV, hidden, product_VH.t())
            torch.log_softmax(values_NW, -1, out=values_NW)
            log_prob_N[chunk] = values_NW.gather(1, target_N1)[:, 0]
            if scale_N is None:
                continue
            # The gradient to the logits: scale (onehot - softmax).
            scale_N1 = scale_N[chunk, None]
            values_NW.exp_().mul_(-scale_N1).scatter_add_(1, target_N1, scale_N1)
            grad_logits_NV = values_NV.to(dtype)
            torch.mm(grad_logits_NV, product_VH, out=grad_hidden_NH[chunk])
            add_product(grad_weight_VH, grad_logits_NV.t(), hidden)
            grad_bias_V += values_NV.sum(0)
    return log_prob_N, None if scale_N is None else [grad_hidden_NH, grad_weight_VH, grad_bias_V]
