"""Decoding of codes to token ids, greedy or sampled, many sentences at a time.

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
_LIKELIEST = 64  # the number of words in which `_nucleus` searches first
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
    """Decode each code to word ids, at most `max_length` of them, without `<eos>`.

    Decoding is greedy. With `uniform` numbers [N, max_length] in [0, 1) it samples by the inverse of the cumulative
    distribution, with the temperature and `top_p` of `drawing`. Unless `allow_unknown`, `<unk>` is excluded and its
    probability goes to the other words. Finished sentences leave the batch, and others replace them.
    `literal`: see `SentenceAutoencoder.start`.
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
    # Training never has <pad> and <sos> as targets.
    never = [PAD_ID, SOS_ID] if allow_unknown else [PAD_ID, SOS_ID, UNK_ID]
    output_NT = torch.full((len(z_ND), max_length), PAD_ID, device=z_ND.device)
    waiting = torch.arange(len(z_ND), device=z_ND.device)
    # For the B sentences in the batch: row, next position, last token, and the decoder's state.
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
            # Move the last rows into the gaps, because a copy of all caches would take longer than the step.
            left = int(going.sum())
            gaps, last = (~going[:left]).nonzero()[:, 0], left + going[left:].nonzero()[:, 0]
            for part in (running, position, token, *state):
                part.index_copy_(0, gaps, part.index_select(0, last))
            running, position, token = running[:left], position[:left], token[:left]
            state = tuple(part[:left] for part in state)
    return output_NT


def join_states(state: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Concatenate the rows of two states. The cache with the smaller capacity (second axis) is padded with zeros."""
    return tuple(torch.cat(_of_one_width(*pair)) for pair in zip(state, new, strict=True))


def _of_one_width(one: Tensor, other: Tensor) -> list[Tensor]:
    if one.shape[1:] == other.shape[1:]:
        return [one, other]
    width = max(one.shape[1], other.shape[1])
    return [F.pad(part, (*[0, 0] * (part.ndim - 2), 0, width - part.shape[1])) for part in (one, other)]


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the logits [B, V] of the likeliest words with total probability `top_p`; others become minus infinity."""
    num_likeliest, vocabulary_size = _LIKELIEST, logits.shape[-1]
    if top_p >= 1:
        return logits
    log_sum_B1 = logits.logsumexp(-1, keepdim=True)
    while True:  # few words have most of the probability, and sorting all takes as long as a decoding step
        likeliest_BK = logits.topk(min(num_likeliest, vocabulary_size)).values
        share_BK = (likeliest_BK - log_sum_B1).exp().cumsum(-1)
        if num_likeliest >= vocabulary_size or bool((share_BK[:, -1] >= top_p).all()):
            break
        num_likeliest *= 8
    last_B1 = (share_BK < top_p).sum(-1, keepdim=True).clamp(max=share_BK.shape[-1] - 1)
    return logits.masked_fill(logits < likeliest_BK.gather(1, last_B1), -torch.inf)


def _draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Find the word [B] at which the cumulative distribution passes `uniform`: first its block, then inside the block.

    A cumulative sum over all words would take as long as the matrix product for the logits.
    """
    vocabulary_size = logits.shape[-1]
    num_blocks = math.ceil(vocabulary_size / _WORDS_PER_BLOCK)
    weights_BW = logits.new_zeros(len(logits), num_blocks * _WORDS_PER_BLOCK)
    torch.exp(logits - logits.amax(-1, keepdim=True), out=weights_BW[:, :vocabulary_size])
    blocks_BNS = weights_BW.unflatten(-1, (num_blocks, _WORDS_PER_BLOCK))
    # In fp64 the sums are so accurate that the drawn word does not depend on the batch.
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
