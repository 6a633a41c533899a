"""The meaning part of a code: a direction that represents the meaning of the whole sentence.

A separate table has a vector for each word; its length is the weight of the word. Their sum is a static encoder, which
ignores order (Model2Vec, and SIF of Arora et al. 2017). With layers of attention the encoder is contextual: the layers
compute a new weight for each word, and add a vector that depends on its neighbours.

Shapes: B sentences, T tokens, V vocabulary, W width of the table, M meaning.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.transformer import Block, TransformerArgs, attention_products, linear, make_norm, rotation_of
from smim.schema import bounded

# Words with a smaller share of the text than this have nearly the same weight (the smoothing of Arora et al. 2017).
_COMMON = 1e-3
# The table's vectors of frequent words are small. This factor scales the layers' input to about unit size.
_GAIN = 20.0


@dataclass(frozen=True)
class MeaningArgs(TransformerArgs):
    """The settings of the meaning part. `dim`: its number of dimensions in the code; 0 means no meaning part.

    `table_dim`: the width of the table of words. `num_layers`: layers of attention; 0 means only the sum of words.
    """

    name: str = "meaning"
    dim: int = bounded(0, least=0)
    table_dim: int = bounded(256, least=1)
    hidden_dim: int = bounded(256, least=1)
    num_layers: int = bounded(0, least=0)
    num_heads: int = bounded(4, least=1)


class MeaningEncoder(nn.Module):
    """An encoder from words to the direction of the sentence's meaning, a unit vector [B, M]."""

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
        """Compute the direction [B, M] from the table's vectors in `embedded`; only those with `is_word` count."""
        return self.combine(is_word_BT, *self.of_words(embedded_BTW))

    def of_words(self, embedded: Tensor) -> list[Tensor]:
        """Compute what depends on each word alone: its vector [..., M], and the input of the layers [..., H] if any."""
        with torch.autocast(embedded.device.type, enabled=False):
            vectors = self.from_table(embedded)
        return [vectors, self.to_hidden(_GAIN * embedded).to(embedded.dtype)] if self.args.num_layers else [vectors]

    def table(self, embedded_VW: Tensor) -> list[Tensor]:
        """Compute the arguments of `combine` for each word of a vocabulary."""
        columns = self.of_words(embedded_VW)
        if self.args.num_layers:
            columns.append(self.blocks[0].project(columns[1]))  # type: ignore[operator]
        return columns

    def combine(
        self,
        is_word_BT: Tensor,
        vectors_BTM: Tensor,
        x_BTH: Tensor | None = None,
        projected_BTG: Tensor | None = None,
    ) -> Tensor:
        """Compute the direction [B, M] from `of_words`. `projected`: the first layer's `project`, if it is known."""
        share_BT1 = (is_word_BT / is_word_BT.sum(1, keepdim=True).clamp(min=1))[..., None]
        if x_BTH is None:
            return F.normalize((share_BT1 * vectors_BTM).sum(1), dim=-1)
        position_T = torch.arange(is_word_BT.shape[1], device=is_word_BT.device)
        rotation = rotation_of(position_T, self.args.hidden_dim // self.args.num_heads)
        for block in self.blocks:
            x_BTH = block(x_BTH, rotation, mask=is_word_BT[:, None, None], projected_BTG=projected_BTG)
            projected_BTG = None
        states_BTH = self.norm(x_BTH)
        gate_BT1 = 2 * torch.sigmoid(self.to_gate(states_BTH).float())
        # A map of the mean, because a map of each word takes longer. Without words there is no mean, and no bias.
        added_BM = share_BT1.sum(1) * self.to_meaning((share_BT1 * states_BTH).sum(1)).float() / _GAIN
        return F.normalize((share_BT1 * gate_BT1 * vectors_BTM).sum(1) + added_BM, dim=-1)

    def products(self, num_tokens: float) -> float:
        """Multiplications of attention, without those with weights."""
        return attention_products(self.args, num_tokens) if self.args.num_layers else 0.0


def initial_table(pieces_VW: Tensor, counts_V: Tensor) -> Tensor:
    """Make a table from a teacher's vectors of all words. Frequent words get smaller weights."""
    share_V1 = (counts_V / counts_V.sum())[:, None]
    return pieces_VW * _COMMON / (_COMMON + share_V1)
