"""Beam search for the likeliest sentence of a code, log p(x|z) with `<eos>`, for every kind of decoder.

Shapes: N codes, B hypotheses of each, R = N B of all, T words so far, V vocabulary.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID

if TYPE_CHECKING:
    from smim.model.autoencoder import SentenceAutoencoder

_HYPOTHESES_TOGETHER = 512


@torch.no_grad()
def beam_ids(
    autoencoder: "SentenceAutoencoder",
    z: Tensor,
    max_length: int,
    beam: int,
    *,
    allow_unknown: bool = False,
    literal: float = 1.0,
) -> list[list[int]]:
    """Decode each code [N, D] to the word ids of the likeliest sentence that beam search finds, without `<eos>`.

    `beam`: the number of unfinished hypotheses per code. Every sentence that ends after one of them is compared. The
    search for a code ends if no hypothesis is likelier than the best sentence, because more words only lower the
    probability. A sentence is cut after `max_length` words, as in `decode_ids`, whose other arguments are the same.
    """
    parts = z.to(autoencoder.device).split(max(1, _HYPOTHESES_TOGETHER // beam)) if len(z) else ()
    never = [PAD_ID, SOS_ID] if allow_unknown else [PAD_ID, SOS_ID, UNK_ID]
    return [ids for part in parts for ids in _likeliest(autoencoder, part, max_length, beam, never, literal)]


def _likeliest(
    autoencoder: "SentenceAutoencoder", z: Tensor, max_length: int, beam: int, never: list[int], literal: float
) -> list[list[int]]:
    likeliest: list[list[int]] = [[] for _ in z]
    best_N = z.new_full((len(z),), -torch.inf)
    row_N = torch.arange(len(z), device=z.device)
    words_NBT = row_N.new_empty(len(z), beam, 0)
    # At first one empty hypothesis per code; the others are impossible.
    log_p_NB = z.new_full((len(z), beam), -torch.inf)
    log_p_NB[:, 0] = 0
    token_R = row_N.new_full((len(z) * beam,), SOS_ID)
    state = autoencoder.start(z.repeat_interleave(beam, 0), literal)
    while len(row_N):
        logits_RV, state = autoencoder.next_token(token_R, state)
        logits_RV[:, never] = -torch.inf
        log_p_NBV = log_p_NB[..., None] + logits_RV.log_softmax(-1).unflatten(0, (-1, beam))
        _take(words_NBT, log_p_NBV[..., EOS_ID], row_N, best_N, likeliest)
        log_p_NBV[..., EOS_ID] = -torch.inf
        log_p_NB, index_NB = log_p_NBV.flatten(1).topk(beam)
        parent_NB, word_NB1 = index_NB // logits_RV.shape[-1], index_NB[..., None] % logits_RV.shape[-1]
        words_NBT = torch.cat([words_NBT.take_along_dim(parent_NB[..., None], 1), word_NB1], dim=-1)
        if words_NBT.shape[-1] == max_length:
            _take(words_NBT, log_p_NB, row_N, best_N, likeliest)
            break
        going_N = log_p_NB[:, 0] > best_N[row_N]
        parent_NB = parent_NB + beam * torch.arange(len(row_N), device=z.device)[:, None]
        state = tuple(part.index_select(0, parent_NB[going_N].flatten()) for part in state)
        row_N, words_NBT, log_p_NB = row_N[going_N], words_NBT[going_N], log_p_NB[going_N]
        token_R = words_NBT[..., -1].flatten()
    return likeliest


def _take(words_NBT: Tensor, log_p_NB: Tensor, row_N: Tensor, best_N: Tensor, likeliest: list[list[int]]) -> None:
    """Replace the likeliest sentences, and their log probabilities `best`, by those that are likelier."""
    log_p_N, place_N = log_p_NB.max(1)
    for i in (log_p_N > best_N[row_N]).nonzero()[:, 0].tolist():
        best_N[row_N[i]] = log_p_N[i]
        likeliest[int(row_N[i])] = words_NBT[i, place_N[i]].tolist()
