"""A GRU over time on the CPU with a handwritten gradient. Everything that does not depend on the previous step is one
product for all steps. `nn.GRU` instead does a product per step for the gradient of its weights.

With input x, state h, and the rows of the weights in three blocks r, u, n, as in `nn.GRU` (Cho et al. 2014):

    r, u = sigmoid(W_ru x + V_ru h + bias)    n = tanh(W_n x + b_n + r (V_n h + c_n))    h' = n + u (h - n)

Shapes: T steps, B sentences, E input, D constant part of the input, H hidden, V vocabulary. Gates [.., 3H] hold
r, u, and V_n h + c_n, the hidden part of n. A candidate [.., H] holds first the input part of n, then n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smim.model.precision import add_product, product_dtype, sum_dtype


@dataclass(frozen=True)
class GRUWeights:
    """The parameters of one layer of `nn.GRU`, with shapes [3H, E + D], [3H, H], [3H] and [3H]."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor
    hidden_bias: Tensor


def states(input_TBE: Tensor, initial_BH: Tensor | None, constant_BD: Tensor | None, weights: GRUWeights) -> Tensor:
    """Compute the state after each step, fp32 [T, B, H] (fp64 if the weights are).

    The input of each step is `input` followed by `constant`. The initial state is zero if it is None.
    """
    dtype = product_dtype(weights.hidden)
    with torch.autocast("cpu", enabled=False):
        states_TBH: Tensor = _States.apply(
            *(input_TBE, initial_BH, constant_BD),
            *(weights.input, weights.hidden, weights.input_bias, weights.hidden_bias, dtype),
        )
    return states_TBH


def word_gates(embedding_VE: Tensor, weights: GRUWeights) -> Tensor:
    """Compute each word's contribution to the gates with biases, [V, 3H]: a lookup table for `last_state`."""
    hidden_dim = weights.hidden.shape[1]
    bias = weights.input_bias + F.pad(weights.hidden_bias[:-hidden_dim], (0, hidden_dim))
    return F.linear(embedding_VE, weights.input, bias).to(sum_dtype(bias.dtype))


def last_state(tokens_TB: Tensor, lengths_B: Tensor, word_gates_VG: Tensor, weights: GRUWeights) -> Tensor:
    """Compute the state [B, H] after each sentence's last token, from a zero state and without a gradient."""
    hidden_dim, num_sentences = weights.hidden.shape[1], len(lengths_B)
    hidden_BH = word_gates_VG.new_zeros(num_sentences, hidden_dim)
    last_BH = torch.empty_like(hidden_BH)
    gates_BG = word_gates_VG.new_empty(num_sentences, 3 * hidden_dim)
    words_BG = torch.empty_like(gates_BG)
    weight_HG = weights.hidden.to(product_dtype(weights.hidden)).t()
    # In fp32, codes must not depend on whether a table was used. In bf16, products round much more than this tanh.
    tanh = Tensor.tanh_ if weight_HG.dtype == gates_BG.dtype else _fast_tanh
    for step, tokens_B in enumerate(tokens_TB):
        torch.index_select(word_gates_VG, 0, tokens_B, out=words_BG)
        gates_BG[:, :-hidden_dim] = words_BG[:, :-hidden_dim]
        gates_BG[:, -hidden_dim:] = weights.hidden_bias[-hidden_dim:]
        out_BH, candidate_BH = torch.empty_like(hidden_BH), words_BG[:, -hidden_dim:]
        hidden_BH = _step(gates_BG, candidate_BH, hidden_BH, weight_HG, out=out_BH, tanh=tanh)
        ended_B = lengths_B == step + 1
        last_BH[ended_B] = hidden_BH[ended_B]
    return last_BH


def _fast_tanh(x: Tensor) -> Tensor:
    """Compute tanh in place, with an error of at most 2e-7. torch computes the sigmoid ten times faster than tanh."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def _step(
    gates_BG: Tensor,
    candidate_BH: Tensor,
    hidden_BH: Tensor,
    weight_HG: Tensor,
    *,
    out: Tensor,
    tanh: Callable[[Tensor], Tensor] = Tensor.tanh_,
) -> Tensor:
    """Write the next state into `out`. Gates and candidate lack the hidden state's part, which is added in place."""
    hidden_dim = hidden_BH.shape[1]
    add_product(gates_BG, hidden_BH.to(weight_HG.dtype), weight_HG)
    reset_BH, update_BH = gates_BG[:, :-hidden_dim].sigmoid_().chunk(2, -1)
    tanh(candidate_BH.addcmul_(reset_BH, gates_BG[:, -hidden_dim:]))
    return torch.lerp(candidate_BH, hidden_BH, update_BH, out=out)


class _States(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input_TBE: Tensor,
        initial_BH: Tensor | None,
        constant_BD: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        num_steps, num_sentences, input_dim = input_TBE.shape
        hidden_dim = weight_hh.shape[1]
        gates_dim = 2 * hidden_dim
        size = (num_steps, num_sentences)
        gates_TBG = input_TBE.new_empty(*size, 3 * hidden_dim, dtype=sum_dtype(dtype))
        candidate_TBH = gates_TBG.new_empty(*size, hidden_dim)
        states_TBH = gates_TBG.new_empty(num_steps + 1, num_sentences, hidden_dim)

        same_at_each_step = (bias_ih + F.pad(bias_hh[:gates_dim], (0, hidden_dim))).to(gates_TBG.dtype)
        if constant_BD is not None:
            same_at_each_step = same_at_each_step + F.linear(constant_BD.to(dtype), weight_ih[:, input_dim:].to(dtype))
        gates_TBG[..., :gates_dim] = same_at_each_step[..., :gates_dim]
        gates_TBG[..., gates_dim:] = bias_hh[gates_dim:]
        candidate_TBH[:] = same_at_each_step[..., gates_dim:]
        input_NE, weight_EG = input_TBE.flatten(0, 1).to(dtype), weight_ih[:, :input_dim].to(dtype).t()
        add_product(gates_TBG.flatten(0, 1)[:, :gates_dim], input_NE, weight_EG[:, :gates_dim])
        add_product(candidate_TBH.flatten(0, 1), input_NE, weight_EG[:, gates_dim:])

        states_TBH[0] = 0 if initial_BH is None else initial_BH
        weight_HG = weight_hh.to(dtype).t()
        for step in range(num_steps):
            _step(gates_TBG[step], candidate_TBH[step], states_TBH[step], weight_HG, out=states_TBH[step + 1])
        ctx.save_for_backward(input_NE, constant_BD, weight_ih, weight_hh, gates_TBG, candidate_TBH, states_TBH)
        ctx.dtype, ctx.has_initial = dtype, initial_BH is not None
        return states_TBH[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _gradients(ctx, *grad)


def _gradients(ctx: Any, grad_TBH: Tensor) -> tuple[Tensor | None, ...]:
    input_NE, constant_BD, weight_ih, weight_hh, gates_TBG, candidate_TBH, states_TBH = ctx.saved_tensors
    num_steps, num_sentences, _ = grad_TBH.shape
    input_dim, dtype = input_NE.shape[1], ctx.dtype
    reset_TBH, update_TBH, hidden_part_TBH = gates_TBG.chunk(3, -1)
    before_TBH = states_TBH[:-1]

    # The gradient to the hidden parts of r, u and n of a step is the gradient to its new state times these factors.
    to_candidate_TBH = (1 - update_TBH) * (1 - candidate_TBH.square())
    factors_TB3H = torch.stack(
        [
            to_candidate_TBH * hidden_part_TBH * reset_TBH * (1 - reset_TBH),
            (before_TBH - candidate_TBH) * update_TBH * (1 - update_TBH),
            to_candidate_TBH * reset_TBH,
        ],
        dim=2,
    )
    grad_states_TBH = torch.empty_like(before_TBH).copy_(grad_TBH)
    grad_initial_BH = torch.zeros_like(before_TBH[0])
    product_hh = weight_hh.to(dtype)
    for step in reversed(range(num_steps)):
        grad_state_BH = grad_states_TBH[step]
        grad_gates_BG = factors_TB3H[step].mul_(grad_state_BH[:, None]).flatten(1)
        grad_before_BH = grad_states_TBH[step - 1] if step else grad_initial_BH
        grad_before_BH.addcmul_(grad_state_BH, update_TBH[step])
        add_product(grad_before_BH, grad_gates_BG.to(dtype), product_hh)

    grad_gates_NG = factors_TB3H.flatten(0, 1).flatten(1)
    grad_weight_hh = grad_gates_NG.to(dtype).t() @ before_TBH.flatten(0, 1).to(dtype)
    grad_bias_hh = grad_gates_NG.sum(0)
    # The input's part of n is not multiplied by r.
    torch.mul(grad_states_TBH, to_candidate_TBH, out=factors_TB3H[:, :, 2])
    product_NG = grad_gates_NG.to(dtype)
    product_ih = weight_ih.to(dtype)
    grad_input_NE = product_NG @ product_ih[:, :input_dim]
    grad_weight_ih = torch.empty_like(product_ih)
    torch.mm(product_NG.t(), input_NE, out=grad_weight_ih[:, :input_dim])
    grad_constant_BD = None
    if constant_BD is not None:
        grad_constant_gates_BG = factors_TB3H.sum(0).flatten(1).to(dtype)
        grad_constant_BD = grad_constant_gates_BG @ product_ih[:, input_dim:]
        torch.mm(grad_constant_gates_BG.t(), constant_BD.to(dtype), out=grad_weight_ih[:, input_dim:])
    return (
        grad_input_NE.unflatten(0, (num_steps, num_sentences)),
        grad_initial_BH if ctx.has_initial else None,
        grad_constant_BD,
        *(grad_weight_ih, grad_weight_hh, grad_gates_NG.sum(0), grad_bias_hh),
        None,
    )
