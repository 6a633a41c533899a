"""The meaning part of a code: what a sentence's words mean together, as a direction.

A table of its own has a vector for each word, whose length says how much the word counts. Their sum is a static
encoder, which knows no order (Model2Vec, and SIF of Arora et al. 2017). With layers of attention it is a contextual
one: they weigh each word anew, and add what its neighbours make of it.

Shapes: B sentences, T tokens, V vocabulary, W width of the table, M meaning.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.transformer import Block, TransformerArgs, attention_products, linear, make_norm, rotation_of
from smim.schema import bounded

# Words that are rarer than this share of a text count alike (the smoothing of Arora et al. 2017).
_COMMON = 1e-3
# A table's vectors are small where words are common: the layers see them about as large as their weights expect.
_GAIN = 20.0


@dataclass(frozen=True)
class MeaningArgs(TransformerArgs):
    """The settings of the meaning part. `dim`: how many of a code's numbers it takes; 0: there is none.

    `table_dim`: the width of the table of words. `num_layers`: of attention over them; 0: their sum alone.
    """

    name: str = "meaning"
    dim: int = bounded(0, least=0)
    table_dim: int = bounded(256, least=1)
    hidden_dim: int = bounded(256, least=1)
    num_layers: int = bounded(0, least=0)
    num_heads: int = bounded(4, least=1)


class MeaningEncoder(nn.Module):
    """Words to the direction of their meaning together, a unit vector [B, M]."""

    def __init__(self, args: MeaningArgs) -> None:
        super().__init__()
        self.args = args
        self.from_table = nn.Linear(args.table_dim, args.dim, bias=False)
        nn.init.zeros_(self.from_table.weight)
        with torch.no_grad():  # not `eye_`, which on the meta device imports torch's compiler
            self.from_table.weight.diagonal().fill_(1)
        if args.num_layers:
            self.to_hidden = linear(args.table_dim, args.hidden_dim)
            self.blocks = nn.ModuleList(Block(args) for _ in range(args.num_layers))
            self.norm = make_norm(args.hidden_dim, args)
            self.to_meaning = nn.Linear(args.hidden_dim, args.dim)
            self.to_gate = nn.Linear(args.hidden_dim, 1)
            for layer in (self.to_meaning, self.to_gate):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, embedded_BTW: Tensor, is_word_BT: Tensor) -> Tensor:
        """`embedded`: the table's vectors; only where `is_word` are they read."""
        with torch.autocast(embedded_BTW.device.type, enabled=False):
            of_words_BTM = self.from_table(embedded_BTW)
        if self.args.num_layers:
            position_T = torch.arange(is_word_BT.shape[1], device=is_word_BT.device)
            rotation = rotation_of(position_T, self.args.hidden_dim // self.args.num_heads)
            x_BTH = self.to_hidden(_GAIN * embedded_BTW).to(embedded_BTW.dtype)
            for block in self.blocks:
                x_BTH = block(x_BTH, rotation, mask=is_word_BT[:, None, None])
            states_BTH = self.norm(x_BTH)
            gate_BT1 = 2 * torch.sigmoid(self.to_gate(states_BTH).float())
            of_words_BTM = gate_BT1 * of_words_BTM + self.to_meaning(states_BTH).float() / _GAIN
        return F.normalize((of_words_BTM * is_word_BT[..., None]).sum(1), dim=-1)

    def products(self, num_tokens: float) -> float:
        """Multiplications of attention, beside those with weights."""
        return attention_products(self.args, num_tokens) if self.args.num_layers else 0.0


def initial_table(pieces_VW: Tensor, counts_V: Tensor) -> Tensor:
    """A table from a teacher's vectors of all words, each counted the less, the more often it occurs in a text."""
    share_V1 = (counts_V / counts_V.sum())[:, None]
    return pieces_VW * _COMMON / (_COMMON + share_V1)
