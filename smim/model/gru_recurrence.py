"""A GRU over time on the CPU with a handwritten gradient. Everything that does not depend on the previous step is one
product for all steps. `nn.GRU` instead does a product per step for the gradient of its weights.

With input x, state h, and the rows of the weights in three blocks r, u, n, as in `nn.GRU` (Cho et al. 2014):

    r, u = sigmoid(W_ru x + V_ru h + bias)    n = tanh(W_n x + b_n + r (V_n h + c_n))    h' = n + u (h - n)

Sentences of several lengths are packed, as in torch's `PackedSequence`: the longest come first, and each step has a row
for each sentence that it reaches. So padding costs nothing.

Shapes: T steps, B sentences, N rows of all steps, E input, D constant part of the input, H hidden, V vocabulary. Gates
[.., 3H] hold r, u, and V_n h + c_n, the hidden part of n. A candidate [.., H] holds first the input part of n, then n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from smim.model.precision import add_product, product_dtype, sum_dtype


@dataclass(frozen=True)
class GRUWeights:
    """The parameters of one layer of `nn.GRU`, with shapes [3H, E + D], [3H, H], [3H] and [3H]."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor
    hidden_bias: Tensor


def states(input: PackedSequence, initial_BH: Tensor | None, constant_BD: Tensor | None, weights: GRUWeights) -> Tensor:
    """Compute the state after each step, fp32 [N, H] (fp64 if the weights are), in the order of `input`.

    The input of each step is `input` [N, E] followed by `constant`. The initial state is zero if it is None. `initial`
    and `constant` have the sentences in the order of `input`, the longest first.
    """
    dtype = product_dtype(weights.hidden)
    with torch.autocast("cpu", enabled=False):
        states_NH: Tensor = _States.apply(
            *(input.data, input.batch_sizes.tolist(), initial_BH, constant_BD),
            *(weights.input, weights.hidden, weights.input_bias, weights.hidden_bias, dtype),
        )
    return states_NH


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
        input_NE: Tensor,
        sizes: list[int],
        initial_BH: Tensor | None,
        constant_BD: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        num_rows, input_dim = input_NE.shape
        hidden_dim = weight_hh.shape[1]
        gates_dim = 2 * hidden_dim
        gates_NG = input_NE.new_empty(num_rows, 3 * hidden_dim, dtype=sum_dtype(dtype))
        candidate_NH = gates_NG.new_empty(num_rows, hidden_dim)
        # The initial states come first, so that the rows before a step's are always those of the state before it.
        all_states_MH = gates_NG.new_empty(sizes[0] + num_rows, hidden_dim)

        same_at_each_step = (bias_ih + F.pad(bias_hh[:gates_dim], (0, hidden_dim))).to(gates_NG.dtype)
        if constant_BD is not None:
            same_BG = same_at_each_step + F.linear(constant_BD.to(dtype), weight_ih[:, input_dim:].to(dtype))
            same_at_each_step = same_BG[_sentences(sizes)]
        gates_NG[:, :gates_dim] = same_at_each_step[..., :gates_dim]
        gates_NG[:, gates_dim:] = bias_hh[gates_dim:]
        candidate_NH[:] = same_at_each_step[..., gates_dim:]
        input_NE, weight_EG = input_NE.to(dtype), weight_ih[:, :input_dim].to(dtype).t()
        add_product(gates_NG[:, :gates_dim], input_NE, weight_EG[:, :gates_dim])
        add_product(candidate_NH, input_NE, weight_EG[:, gates_dim:])

        all_states_MH[: sizes[0]] = 0 if initial_BH is None else initial_BH
        weight_HG = weight_hh.to(dtype).t()
        hidden_BH, states_NH = all_states_MH[: sizes[0]], all_states_MH[sizes[0] :]
        steps = zip(gates_NG.split(sizes), candidate_NH.split(sizes), states_NH.split(sizes), strict=True)
        for gates_BG, candidate_BH, out_BH in steps:
            hidden_BH = _step(gates_BG, candidate_BH, hidden_BH[: len(out_BH)], weight_HG, out=out_BH)
        ctx.save_for_backward(input_NE, constant_BD, weight_ih, weight_hh, gates_NG, candidate_NH, all_states_MH)
        ctx.sizes, ctx.dtype, ctx.has_initial = sizes, dtype, initial_BH is not None
        return states_NH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _gradients(ctx, *grad)


def _sentences(sizes: list[int]) -> Tensor:
    """The sentence of each row, int64 [N]."""
    return torch.cat([torch.arange(size) for size in sizes])


def _gradients(ctx: Any, grad_NH: Tensor) -> tuple[Tensor | None, ...]:
    input_NE, constant_BD, weight_ih, weight_hh, gates_NG, candidate_NH, all_states_MH = ctx.saved_tensors
    input_dim, dtype, sizes = input_NE.shape[1], ctx.dtype, ctx.sizes
    reset_NH, update_NH, hidden_part_NH = gates_NG.chunk(3, -1)
    all_steps = all_states_MH.split([sizes[0], *sizes])[:-1]
    before_NH = torch.cat([state_BH[:size] for state_BH, size in zip(all_steps, sizes, strict=True)])

    # The gradient to the hidden parts of r, u and n of a step is the gradient to its new state times these factors.
    to_candidate_NH = (1 - update_NH) * (1 - candidate_NH.square())
    factors_N3H = torch.stack(
        [
            to_candidate_NH * hidden_part_NH * reset_NH * (1 - reset_NH),
            (before_NH - candidate_NH) * update_NH * (1 - update_NH),
            to_candidate_NH * reset_NH,
        ],
        dim=1,
    )
    grad_states_MH = torch.cat([grad_NH.new_zeros(sizes[0], grad_NH.shape[1]), grad_NH])
    grad_initial_BH, *grad_steps = grad_states_MH.split([sizes[0], *sizes])
    product_hh = weight_hh.to(dtype)
    steps = zip(factors_N3H.split(sizes), update_NH.split(sizes), grad_steps, strict=True)
    for (factors_B3H, update_BH, grad_state_BH), grad_before_BH in zip(
        reversed(list(steps)), reversed([grad_initial_BH, *grad_steps[:-1]]), strict=True
    ):
        grad_gates_BG = factors_B3H.mul_(grad_state_BH[:, None]).flatten(1)
        grad_before_BH = grad_before_BH[: len(grad_state_BH)]
        grad_before_BH.addcmul_(grad_state_BH, update_BH)
        add_product(grad_before_BH, grad_gates_BG.to(dtype), product_hh)

    grad_gates_NG = factors_N3H.flatten(1)
    grad_weight_hh = grad_gates_NG.to(dtype).t() @ before_NH.to(dtype)
    grad_bias_hh = grad_gates_NG.sum(0)
    # The input's part of n is not multiplied by r.
    torch.mul(grad_states_MH[sizes[0] :], to_candidate_NH, out=factors_N3H[:, 2])
    product_NG = grad_gates_NG.to(dtype)
    product_ih = weight_ih.to(dtype)
    grad_input_NE = product_NG @ product_ih[:, :input_dim]
    grad_weight_ih = torch.empty_like(product_ih)
    torch.mm(product_NG.t(), input_NE, out=grad_weight_ih[:, :input_dim])
    grad_constant_BD = None
    if constant_BD is not None:
        grad_same_BG = grad_gates_NG.new_zeros(sizes[0], grad_gates_NG.shape[1])
        grad_same_BG = grad_same_BG.index_add_(0, _sentences(sizes), grad_gates_NG).to(dtype)
        grad_constant_BD = grad_same_BG @ product_ih[:, input_dim:]
        torch.mm(grad_same_BG.t(), constant_BD.to(dtype), out=grad_weight_ih[:, input_dim:])
    return (
        grad_input_NE,
        None,
        grad_initial_BH if ctx.has_initial else None,
        grad_constant_BD,
        *(grad_weight_ih, grad_weight_hh, grad_gates_NG.sum(0), grad_bias_hh),
        None,
    )
