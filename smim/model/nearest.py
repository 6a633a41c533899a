"""Beam search for the sentence whose own code is nearest to a code that is a sum of words (`smim.model.superposition`).

Such a code allows a check: subtract the parts of a sentence's words. The residual is zero only for the right sentence.
The decoder's next word is nearly always right, but after one wrong word its input is wrong too. So a beam search keeps
several hypotheses. It prefers those that the decoder finds likely and whose residual is small: a right word removes its
own power from the residual, and a wrong one adds to it. Superposition codes are decoded in this way near capacity
(Barron and Joseph 2012); here the decoder proposes the words.

Shapes: N sentences, B hypotheses of each, R = N B of all, K words proposed for each, T words so far, V words of the
vocabulary, E embedding, D dimensions of the sum of words.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID

if TYPE_CHECKING:
    from smim.model.autoencoder import SentenceAutoencoder

HYPOTHESES = 8
_SENTENCES_TOGETHER = 32
# The cost in nats of a residual that has the power of one word.
_WEIGHT_OF_REST = 3.0
# A residual of at most this share of the code's length counts as zero, because of rounding.
EXACT = 1e-3
# A word must remove at least this share of its own power from the code; otherwise the sentence ends before it.
_LEAST_TAKEN = 0.5
# The search ends if the best hypothesis costs this many words' power more than the best sentence so far.
_ASTRAY = 4.0


@torch.no_grad()
def nearest_ids(
    autoencoder: "SentenceAutoencoder",
    z: Tensor,
    max_length: int,
    *,
    allow_unknown: bool = False,
    hypotheses: int = HYPOTHESES,
) -> tuple[list[list[int]], Tensor]:
    """Find the nearest sentence to each code [N, D]. Return its word ids, and the relative residual [N].

    The residual is a share of the code's length, 0 if the sentence has exactly this code. `hypotheses`: the beam width.
    """
    parts = z.split(_SENTENCES_TOGETHER) if len(z) else ()
    found = [_nearest(autoencoder, part, max_length, allow_unknown, hypotheses) for part in parts]
    return [ids for of_part, _ in found for ids in of_part], torch.cat(
        [z.new_zeros(0), *(left.to(z.device) for _, left in found)]
    )


def share_left(autoencoder: "SentenceAutoencoder", z: Tensor, encoded: Tensor) -> Tensor:
    """The relative residual [N] of each code's sum of words after subtracting that of the code in `encoded`."""
    sum_ND, other_ND = autoencoder.sum_of_words(z), autoencoder.sum_of_words(encoded)
    return (sum_ND - other_ND).norm(dim=-1) / sum_ND.norm(dim=-1).clamp(min=torch.finfo(sum_ND.dtype).tiny)


@dataclass
class _Hypotheses:
    """The hypotheses for the unfinished sentences, `rows` of the codes: their words, the residuals of the code, the
    least power that the words must remove from it, and their log probabilities.
    """

    rows_N: Tensor
    words_NBT: Tensor
    left_NBD: Tensor
    owed_NB: Tensor
    log_p_NB: Tensor

    @classmethod
    def begin(cls, sum_ND: Tensor, num: int) -> "_Hypotheses":
        """Make one empty hypothesis per code; the other `num` - 1 are impossible."""
        rows_N = torch.arange(len(sum_ND), device=sum_ND.device)
        log_p_NB = sum_ND.new_full((len(sum_ND), num), -torch.inf)
        log_p_NB[:, 0] = 0
        left_NBD = sum_ND[:, None].repeat(1, num, 1)
        words_NBT = rows_N.new_zeros(len(sum_ND), num, 0)
        return cls(rows_N, words_NBT, left_NBD, torch.zeros_like(log_p_NB), log_p_NB)

    def longer(
        self, word_NBK: Tensor, log_p_NBK: Tensor, added_NBKD: Tensor, power: Tensor
    ) -> tuple["_Hypotheses", Tensor]:
        """Extend by one word. Return the best hypotheses, and the index of each one's predecessor [N, B]."""
        left_NBKD = self.left_NBD[:, :, None] - added_NBKD
        log_p_NBK = self.log_p_NB[..., None] + log_p_NBK
        owed_NBK = self.owed_NB[..., None] + _LEAST_TAKEN * added_NBKD.square().sum(-1)
        rank_NBK = log_p_NBK - _WEIGHT_OF_REST * left_NBKD.square().sum(-1) / power
        best_NB = rank_NBK.flatten(1).topk(self.log_p_NB.shape[1]).indices
        parent_NB = best_NB // word_NBK.shape[-1]
        word_NB, log_p_NB, owed_NB = (each.flatten(1).gather(1, best_NB) for each in (word_NBK, log_p_NBK, owed_NBK))
        before_NBT = self.words_NBT.take_along_dim(parent_NB[..., None], 1)
        words_NBT = torch.cat([before_NBT, word_NB[..., None]], dim=-1)
        left_NBD = left_NBKD.flatten(1, 2).take_along_dim(best_NB[..., None], 1)
        return _Hypotheses(self.rows_N, words_NBT, left_NBD, owed_NB, log_p_NB), parent_NB

    def costs(self) -> Tensor:
        """The cost [N, B] of each hypothesis as a whole sentence: its residual power plus the power its words owe."""
        costs_NB = self.left_NBD.square().sum(-1) + self.owed_NB
        return costs_NB.masked_fill(self.log_p_NB == -torch.inf, torch.inf)

    def of(self, going_N: Tensor) -> "_Hypotheses":
        """Select the hypotheses of some of the sentences."""
        return _Hypotheses(*(each[going_N] for each in vars(self).values()))


def _nearest(
    autoencoder: "SentenceAutoencoder", z: Tensor, max_length: int, allow_unknown: bool, num: int
) -> tuple[list[list[int]], Tensor]:
    z = z.to(autoencoder.device)
    words, never = autoencoder.words_of_sum, [PAD_ID, SOS_ID] if allow_unknown else [PAD_ID, SOS_ID, UNK_ID]
    assert words is not None
    table_VE = autoencoder.embedding.weight[:, : autoencoder.args.embedding_dim]
    power = words.added(table_VE[None], z.new_zeros(1, 1)).square().sum(-1).mean()
    sum_ND = autoencoder.sum_of_words(z)
    length_N = sum_ND.norm(dim=-1).clamp(min=torch.finfo(sum_ND.dtype).tiny)
    nearest: list[list[int]] = [[] for _ in z]
    left_N, least_cost_N = length_N.clone(), length_N.square()
    hypotheses = _Hypotheses.begin(sum_ND, num)
    token_R = torch.full((len(z) * num,), SOS_ID, device=z.device)
    state = autoencoder.start(z.repeat_interleave(num, 0))
    for place in range(max_length):
        logits_RV, state = autoencoder.next_token(token_R, state)
        logits_RV[:, never] = -torch.inf
        log_p_RV = logits_RV.log_softmax(-1)
        log_p_RV[:, EOS_ID] = -torch.inf  # the residual, not the decoder, decides where the sentence ends
        log_p_RK, word_RK = log_p_RV.topk(min(num, log_p_RV.shape[-1]))
        added_RKD = words.added(table_VE[word_RK], word_RK.new_full((1, 1), place))
        word_NBK, log_p_NBK, added_NBKD = (each.unflatten(0, (-1, num)) for each in (word_RK, log_p_RK, added_RKD))
        hypotheses, parent_NB = hypotheses.longer(word_NBK, log_p_NBK, added_NBKD, power)
        rows_N = hypotheses.rows_N
        cost_N, best_N = hypotheses.costs().min(1)
        for i in (cost_N < least_cost_N[rows_N]).nonzero()[:, 0].tolist():
            row, best = rows_N[i], best_N[i]
            nearest[row] = hypotheses.words_NBT[i, best].tolist()
            left_N[row], least_cost_N[row] = hypotheses.left_NBD[i, best].norm(), cost_N[i]
        going_N = (left_N > EXACT * length_N)[rows_N] & (cost_N < least_cost_N[rows_N] + _ASTRAY * power)
        if not going_N.any():
            break
        first_of_N1 = torch.arange(0, len(token_R), num, device=z.device)[:, None]
        parents_R = (first_of_N1 + parent_NB)[going_N].flatten()
        state = tuple(part.index_select(0, parents_R) for part in state)
        hypotheses = hypotheses.of(going_N)
        token_R = hypotheses.words_NBT[..., -1].flatten()
    return nearest, left_N / length_N
