"""From codes to token ids: greedy, or drawn, many sentences at a time.

Shapes: N sentences, B of them in the batch, T tokens, V vocabulary.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from smim.model.use import Drawing
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID

if TYPE_CHECKING:
    from smim.model.autoencoder import SentenceAutoencoder

_DECODED_TOGETHER = 512
_DECODED_IN_ONE_GO = 8192
_WORDS_PER_BLOCK = 128
_LIKELIEST = 64  # words among which a nucleus is looked for first
_AS_THEY_ARE = Drawing()


@torch.no_grad()
def decode_ids(
    autoencoder: "SentenceAutoencoder",
    z: Tensor,
    max_length: int,
    *,
    uniform: Tensor | None = None,
    drawing: Drawing = _AS_THEY_ARE,
    allow_unknown: bool = False,
    literal: float = 1.0,
) -> list[list[int]]:
    """Word ids of each code's sentence, without `<eos>`, at most `max_length` of them.

    Greedy; or, where `uniform` numbers [N, max_length] in [0, 1) are given, one draw by the inverse of the cumulative
    distribution, of the words that `drawing` says. Unless `allow_unknown`, no word is `<unk>`: the others share its
    probability. Finished sentences leave the batch, and others take their place.
    `literal`: as of `SentenceAutoencoder.start`.
    """
    decoded: list[list[int]] = []
    for start in range(0, len(z), _DECODED_IN_ONE_GO):
        part = slice(start, start + _DECODED_IN_ONE_GO)
        draws = None if uniform is None else uniform[part].to(autoencoder.device)
        codes = z[part].to(autoencoder.device)
        tokens = _decode_part(autoencoder, codes, max_length, draws, drawing, allow_unknown, literal)
        decoded += [list(_words(row)) for row in tokens.tolist()]
    return decoded


def _decode_part(
    autoencoder: "SentenceAutoencoder",
    z_ND: Tensor,
    max_length: int,
    uniform_NT: Tensor | None,
    drawing: Drawing,
    allow_unknown: bool,
    literal: float,
) -> Tensor:
    # <pad> and <sos> are never a target in training.
    never = [PAD_ID, SOS_ID] if allow_unknown else [PAD_ID, SOS_ID, UNK_ID]
    output_NT = torch.full((len(z_ND), max_length), PAD_ID, device=z_ND.device)
    waiting = torch.arange(len(z_ND), device=z_ND.device)
    # Of the B sentences that are being decoded: row, next position, last token, and the decoder's state.
    running = position = token = waiting[:0]
    state = autoencoder.start(z_ND[:0], literal)
    while len(waiting) or len(running):
        if len(waiting) and len(running) <= _DECODED_TOGETHER // 2:
            new, waiting = waiting.tensor_split([_DECODED_TOGETHER - len(running)])
            running = torch.cat([running, new])
            position = torch.cat([position, torch.zeros_like(new)])
            token = torch.cat([token, torch.full_like(new, SOS_ID)])
            state = join_states(state, autoencoder.start(z_ND[new], literal))
        logits, state = autoencoder.next_token(token, state)
        logits[:, never] = -torch.inf
        if uniform_NT is None:
            token = logits.argmax(-1)
        else:
            token = _draw(_nucleus(logits.div_(drawing.temperature), drawing.top_p), uniform_NT[running, position])
        output_NT[running, position] = token
        position = position + 1
        going = (token != EOS_ID) & (position < max_length)
        if not going.all():
            # The last rows move up into the gaps: a copy of all caches would take longer than the step.
            left = int(going.sum())
            gaps, last = (~going[:left]).nonzero()[:, 0], left + going[left:].nonzero()[:, 0]
            for part in (running, position, token, *state):
                part.index_copy_(0, gaps, part.index_select(0, last))
            running, position, token = running[:left], position[:left], token[:left]
            state = tuple(part[:left] for part in state)
    return output_NT


def join_states(state: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The rows of both; of two caches the one with room for fewer tokens (second axis) is filled up with zeros."""
    return tuple(torch.cat(_of_one_width(*pair)) for pair in zip(state, new, strict=True))


def _of_one_width(one: Tensor, other: Tensor) -> list[Tensor]:
    if one.shape[1:] == other.shape[1:]:
        return [one, other]
    width = max(one.shape[1], other.shape[1])
    return [F.pad(part, (*[0, 0] * (part.ndim - 2), 0, width - part.shape[1])) for part in (one, other)]


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Logits [B, V] of the likeliest words that together have the probability `top_p`; of the others minus infinity."""
    num_likeliest, vocabulary_size = _LIKELIEST, logits.shape[-1]
    if top_p >= 1:
        return logits
    log_sum_B1 = logits.logsumexp(-1, keepdim=True)
    while True:  # few words have most of the probability, and to sort all takes as long as the step
        likeliest_BK = logits.topk(min(num_likeliest, vocabulary_size)).values
        share_BK = (likeliest_BK - log_sum_B1).exp().cumsum(-1)
        if num_likeliest >= vocabulary_size or bool((share_BK[:, -1] >= top_p).all()):
            break
        num_likeliest *= 8
    last_B1 = (share_BK < top_p).sum(-1, keepdim=True).clamp(max=share_BK.shape[-1] - 1)
    return logits.masked_fill(logits < likeliest_BK.gather(1, last_B1), -torch.inf)


def _draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """The word [B] at which the cumulative distribution passes `uniform`: first its block of words, then within it.

    A running sum over all words would take as long as the matrix product that made the logits.
    """
    vocabulary_size = logits.shape[-1]
    num_blocks = math.ceil(vocabulary_size / _WORDS_PER_BLOCK)
    weights_BW = logits.new_zeros(len(logits), num_blocks * _WORDS_PER_BLOCK)
    torch.exp(logits - logits.amax(-1, keepdim=True), out=weights_BW[:, :vocabulary_size])
    blocks_BNS = weights_BW.unflatten(-1, (num_blocks, _WORDS_PER_BLOCK))
    # In fp64 the sums are accurate enough that batches agree on the word drawn.
    cumulative_BN = blocks_BNS.sum(-1).double().cumsum(-1)
    target_B1 = uniform.double()[:, None] * cumulative_BN[:, -1:]
    block_B1 = torch.searchsorted(cumulative_BN, target_B1, right=True).clamp(max=num_blocks - 1)
    before_B1 = F.pad(cumulative_BN, (1, 0)).gather(1, block_B1)
    inside_BS = blocks_BNS[torch.arange(len(logits), device=logits.device), block_B1[:, 0]].double().cumsum(-1)
    within_B1 = torch.searchsorted(inside_BS, target_B1 - before_B1, right=True).clamp(max=_WORDS_PER_BLOCK - 1)
    return (block_B1 * _WORDS_PER_BLOCK + within_B1)[:, 0].clamp(max=vocabulary_size - 1)


def _words(ids: list[int]) -> Iterator[int]:
    for i in ids:
        if i in (EOS_ID, PAD_ID):
            return
        yield i
