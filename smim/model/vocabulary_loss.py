"""The output layer: log p(token) from hidden states, without the logits of a whole batch in memory.

Shapes: N tokens, H hidden, V vocabulary, W vocabulary with the end of a row filled up.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.precision import add_product, product_dtype, sum_dtype

# Logits that are held at once, 32 MB in fp32: about what a processor's last cache holds.
_LOGITS_PER_CHUNK = 2**23
# With fewer rows than this the products no longer reach their rate: at a vocabulary of 89,247 it would be 93.
_MIN_TOKENS_PER_CHUNK = 256
# A row of logits begins on a cache line: products that write them are 1.3 times as fast as with rows of 9877.
_ROW_MULTIPLE = 16


class VocabularyLayer(nn.Module):
    """A linear layer to the vocabulary whose forward is the log probability of given tokens.

    In chunks, 1.5 times as fast as torch's `F.linear_cross_entropy`: without reduction that multiplies a second time
    for the gradient, as Liger's fused kernel does. `cut-cross-entropy` on PyPI (25.1.1) knows no bias.
    """

    def __init__(self, hidden_dim: int, vocabulary_size: int) -> None:
        super().__init__()
        linear = nn.Linear(hidden_dim, vocabulary_size)
        self.weight, self.bias = linear.weight, linear.bias

    @property
    def matrix(self) -> Tensor:
        """The token's vectors [V, H] that a hidden state is multiplied with."""
        return self.weight

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Unnormalised log probabilities of all tokens, [N, V]."""
        return F.linear(hidden_NH, self.matrix, self.bias)

    def forward(self, hidden_NH: Tensor, target_N: Tensor, *, gradient_at_once: bool = True) -> Tensor:
        """log p of each target token in nats, fp32 [N] (fp64 where the weights are).

        `gradient_at_once`: compute the gradient here, while the logits are at hand, as if all tokens weighed the same;
        False: in the backward pass, which then asks nothing of what it is given.
        """
        matrix_VH = self.matrix
        dtype = product_dtype(matrix_VH)
        log_prob_N: Tensor = _TokenLogProb.apply(
            hidden_NH, matrix_VH, self.bias, target_N, dtype, gradient_at_once and torch.is_grad_enabled()
        )
        return log_prob_N


class TiedVocabularyLayer(VocabularyLayer):
    """A vocabulary layer whose matrix is the embedding's first columns (Press and Wolf 2017), as wide as its input."""

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
    """log softmax(h W' + b)[target], with the gradient of the sum computed along with it.

    A chunk's logits are at hand only once. All tokens have the same weight in our losses, and then the gradient
    is that of the sum times the weight; where weights differ, it is computed anew, token by token as exactly.
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
    """log p of each token [N]; of their sum weighted by `scale_N`, the gradients to hidden, weight and bias."""
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
            # The gradient to the logits, scale (onehot - softmax).
            scale_N1 = scale_N[chunk, None]
            values_NW.exp_().mul_(-scale_N1).scatter_add_(1, target_N1, scale_N1)
            grad_logits_NV = values_NV.to(dtype)
            torch.mm(grad_logits_NV, product_VH, out=grad_hidden_NH[chunk])
            add_product(grad_weight_VH, grad_logits_NV.t(), hidden)
            grad_bias_V += values_NV.sum(0)
    return log_prob_N, None if scale_N is None else [grad_hidden_NH, grad_weight_VH, grad_bias_V]
