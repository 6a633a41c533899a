"""The sentence whose own code is nearest to a code, where codes are sums of words (`smim.model.superposition`).

Such a code can be checked: what is left of it when a sentence's words are taken out is zero for the right sentence
alone. Word by word the decoder is right nearly always, but after one wrong word it reads what is not there. So a beam
of hypotheses goes on from several words at a time. Those are kept that the decoder finds likely and that leave little
of the code: a right word takes its own power out of it, a wrong one adds to it. This is how superposition codes are
read near capacity (Barron and Joseph 2012), with the decoder to propose words.

Shapes: N sentences, B hypotheses of each, K words proposed for each of these, D of the sum of words.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID

if TYPE_CHECKING:
    from smim.model.autoencoder import SentenceAutoencoder

_HYPOTHESES = 8
_SENTENCES_TOGETHER = 32
# Nats for what is left of a code, in units of a word's power.
_WEIGHT_OF_REST = 3.0
# The share of a code's length that rounding may leave of it.
EXACT = 1e-3
# The share of its own power that a word must take out of a code at least, or the sentence ends before it.
_LEAST_TAKEN = 0.5
# So many words' power above the best, hypotheses have gone astray.
_ASTRAY = 4.0


@torch.no_grad()
def nearest_ids(
    autoencoder: "SentenceAutoencoder", z: Tensor, max_length: int, *, allow_unknown: bool = False
) -> tuple[list[list[int]], Tensor]:
    """Of each code [N, ...] the words of the nearest sentence that was found, and the share of the code that it leaves.

    That share is [N], of its length: 0 where the sentence has exactly this code.
    """
    parts = z.split(_SENTENCES_TOGETHER) if len(z) else ()
    found = [_nearest(autoencoder, part, max_length, allow_unknown) for part in parts]
    return [ids for of_part, _ in found for ids in of_part], torch.cat(
        [z.new_zeros(0), *(left.to(z.device) for _, left in found)]
    )


def share_left(autoencoder: "SentenceAutoencoder", z: Tensor, encoded: Tensor) -> Tensor:
    """The share [N] of each code's sum of words that is left when those of the sentence encoded beside it are out."""
    sum_ND, other_ND = autoencoder.sum_of_words(z), autoencoder.sum_of_words(encoded)
    return (sum_ND - other_ND).norm(dim=-1) / sum_ND.norm(dim=-1).clamp(min=torch.finfo(sum_ND.dtype).tiny)


def _nearest(
    autoencoder: "SentenceAutoencoder", z: Tensor, max_length: int, allow_unknown: bool
) -> tuple[list[list[int]], Tensor]:
    z = z.to(autoencoder.device)
    never = [PAD_ID, SOS_ID] if allow_unknown else [PAD_ID, SOS_ID, UNK_ID]
    words, width = autoencoder.words_of_sum, _HYPOTHESES
    assert words is not None
    table_VE = autoencoder.embedding.weight[:, : autoencoder.args.embedding_dim]
    power = words.added(table_VE[None], z.new_zeros(1, 1)).square().sum(-1).mean()
    sum_ND = autoencoder.sum_of_words(z)
    length_N = sum_ND.norm(dim=-1).clamp(min=torch.finfo(sum_ND.dtype).tiny)
    nearest: list[list[int]] = [[] for _ in z]
    nearest_N, least_cost_N = length_N.clone(), length_N.square()
    # Of the sentences that are still read: their rows, and of each hypothesis its words, what they leave, their log p.
    rows_N = torch.arange(len(z), device=z.device)
    written_NBT = rows_N.new_zeros(len(z), width, 0)
    left_NBD = sum_ND[:, None].repeat(1, width, 1)
    spent_NB = left_NBD.new_zeros(len(z), width)
    log_p_NB = left_NBD.new_full((len(z), width), -torch.inf)
    log_p_NB[:, 0] = 0
    token = rows_N.new_full((len(z) * width,), SOS_ID)
    state = autoencoder.start(z.repeat_interleave(width, 0))
    for place in range(max_length):
        logits, state = autoencoder.next_token(token, state)
        logits[:, never] = -torch.inf
        next_NBV = logits.log_softmax(-1).unflatten(0, (-1, width))
        next_NBV[..., EOS_ID] = -torch.inf  # any may be the last word: what is left says which
        next_NBK, word_NBK = next_NBV.topk(min(width, next_NBV.shape[-1]))
        added_NBKD = words.added(table_VE[word_NBK].flatten(1, 2), rows_N.new_full((1, 1), place)).unflatten(
            1, word_NBK.shape[1:]
        )
        left_NBKD = left_NBD[:, :, None] - added_NBKD
        sum_NBK = log_p_NB[..., None] + next_NBK
        rank_NBK = sum_NBK - _WEIGHT_OF_REST * left_NBKD.square().sum(-1) / power
        best_NB = rank_NBK.flatten(1).topk(width).indices
        parent_NB = best_NB // word_NBK.shape[-1]
        log_p_NB, word_NB = (each.flatten(1).gather(1, best_NB) for each in (sum_NBK, word_NBK))
        left_NBD = left_NBKD.flatten(1, 2).take_along_dim(best_NB[..., None], 1)
        written_NBT = torch.cat([written_NBT.take_along_dim(parent_NB[..., None], 1), word_NB[..., None]], -1)
        spent_NBK = spent_NB[..., None] + _LEAST_TAKEN * added_NBKD.square().sum(-1)
        spent_NB = spent_NBK.flatten(1).gather(1, best_NB)
        cost_NB = (left_NBD.square().sum(-1) + spent_NB).masked_fill(log_p_NB == -torch.inf, torch.inf)
        cost_N, least_N = cost_NB.min(1)
        for i in (cost_N < least_cost_N[rows_N]).nonzero()[:, 0].tolist():
            row, best = rows_N[i], least_N[i]
            nearest[row] = written_NBT[i, best].tolist()
            nearest_N[row], least_cost_N[row] = left_NBD[i, best].norm(), cost_N[i]
        going = (nearest_N > EXACT * length_N)[rows_N] & (cost_N < least_cost_N[rows_N] + _ASTRAY * power)
        if not going.any():
            break
        parents = (torch.arange(len(rows_N), device=z.device)[:, None] * width + parent_NB)[going].flatten()
        state = tuple(part.index_select(0, parents) for part in state)
        token = word_NB[going].flatten()
        rows_N, written_NBT, left_NBD, spent_NB, log_p_NB = (
            each[going] for each in (rows_N, written_NBT, left_NBD, spent_NB, log_p_NB)
        )
    return nearest, nearest_N / length_N
