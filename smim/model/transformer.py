"""A transformer encoder and decoder with the same interface as the GRU: pre-norm, rotary positions, no biases.

Shapes: B sentences, T tokens, E embedding, H hidden, D latent, M memory tokens, Q pooling queries,
A attention heads, C channels of a head (H = A x C), S tokens of a cache's capacity.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.args import PartArgs
from smim.model.parts import Decoder, DecoderArgs, Encoder, matrix_weights
from smim.schema import bounded

# Tokens by which a cache grows. A capacity of 1000 tokens from the start would cost gigabytes, mostly unused.
_CACHE_BLOCK = 64

Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TransformerArgs(PartArgs):
    """The sizes of a transformer's layers.

    `feedforward_dim`: None means 4 x `hidden_dim`. `norm`: `rms` or `layer`. `dropout` acts on the output of each
    sublayer before the residual sum.
    """

    takes_scale_out: ClassVar[bool] = True
    hidden_dim: int = bounded(512, least=1)
    num_layers: int = bounded(4, least=1)
    num_heads: int = bounded(8, least=1)
    feedforward_dim: int | None = bounded(None, least=1)
    norm: str = bounded("rms", among=["rms", "layer"])
    dropout: float = bounded(0.1, least=0, below=1)

    def problems(self, at: str, model: Any) -> list[str]:
        problems = super().problems(at, model)
        # Rotary positions rotate pairs of a head's channels.
        if self.num_heads >= 1 and self.hidden_dim % (2 * self.num_heads):
            problems.append(
                f"{at}.hidden_dim is {self.hidden_dim} and {at}.num_heads is {self.num_heads}, but "
                f"each head needs an even number of channels; make hidden_dim a multiple of {2 * self.num_heads}"
            )
        return problems


@dataclass(frozen=True)
class TransformerEncoderArgs(TransformerArgs):
    """The settings of a transformer encoder.

    `num_pooling_queries`: the number of pooled vectors of `hidden_dim`, beside the state at `<sos>`.
    """

    name: str = "transformer"
    num_pooling_queries: int = bounded(7, least=1)

    def make(self, model: Any, encoder: Any = None) -> Encoder:
        return TransformerEncoder(self, embedding_dim=model.embedding_dim)


@dataclass(frozen=True)
class TransformerDecoderArgs(TransformerArgs, DecoderArgs):
    """The settings of a transformer decoder. `num_memory_tokens`: the number of tokens that represent z."""

    name: str = "transformer"
    num_memory_tokens: int = bounded(8, least=1)

    def make(self, model: Any, encoder: Any = None) -> Decoder:
        return TransformerDecoder(self, embedding_dim=model.embedding_dim, latent_dim=model.latent_dim)


class TransformerEncoder(Encoder):
    """An encoder with bidirectional attention. It outputs the state at `<sos>`, and attention pooling by queries.

    The words are reversed, with `<sos>` last, as the GRU needs them; attention works equally in both orders. `<sos>`
    sees from relative positions which words are first. The queries, which have no positions, learn this only slowly.
    """

    compilable = True
    tokens_on_cpu = 1024  # the states of more tokens do not fit into a core's cache

    def __init__(self, args: TransformerEncoderArgs, *, embedding_dim: int) -> None:
        super().__init__()
        self.args = args
        self.head_dim = args.hidden_dim // args.num_heads
        self.to_hidden = to_hidden(embedding_dim, args)
        self.blocks = nn.ModuleList(Block(args) for _ in range(args.num_layers))
        self.norm = make_norm(args.hidden_dim, args)
        self.pooling = AttentionPooling(args)
        self.output_dim = args.hidden_dim + self.pooling.output_dim

    def forward(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute the state [B, (1 + Q) H]. Padding on the right is masked."""
        position_T = torch.arange(embedded_BTE.shape[1], device=embedded_BTE.device)
        mask: Tensor | None = (position_T < lengths_B[:, None])[:, None, None]
        # Without a mask, torch uses its fastest kernel. This condition would break a compiled graph.
        if not torch.compiler.is_compiling() and lengths_B.min() == len(position_T):
            mask = None
        rotation = rotation_of(position_T, self.head_dim)
        # Under autocast products are bf16, but the residual stream keeps the embedding's precision.
        x_BTH = self.to_hidden(embedded_BTE).to(embedded_BTE.dtype)
        for block in self.blocks:
            x_BTH = block(x_BTH, rotation, mask=mask)
        states_BTH = self.norm(x_BTH)
        start_BH = states_BTH[torch.arange(len(lengths_B), device=lengths_B.device), lengths_B - 1]
        return torch.cat([start_BH, self.pooling(states_BTH, mask)], dim=-1)

    def products(self, num_tokens: float) -> float:
        pooled = 2 * self.args.hidden_dim * num_tokens * self.args.num_pooling_queries
        return super().products(num_tokens) + attention_products(self.args, num_tokens) + pooled


class CausalBlocks(Decoder):
    """A decoder with causal attention. It reads a sequence at once or, with caches, a few tokens at a time."""

    compilable = True

    def add_layers(self, args: TransformerArgs) -> None:
        """Make the layers. The decoder's constructor calls this method."""
        self.num_heads, self.head_dim = args.num_heads, args.hidden_dim // args.num_heads
        self.blocks = nn.ModuleList(Block(args) for _ in range(args.num_layers))
        self.norm = make_norm(args.hidden_dim, args)

    def read(self, x_BTH: Tensor) -> Tensor:
        """Compute the states [B, T, H] after the last layer; each depends on its position and those before it.

        Causal attention needs no mask, because padding is on the right, after all real tokens.
        """
        rotation = rotation_of(torch.arange(x_BTH.shape[1], device=x_BTH.device), self.head_dim)
        for block in self.blocks:
            x_BTH = block(x_BTH, rotation, causal=True)
        states_BTH: Tensor = self.norm(x_BTH)
        return states_BTH

    def new_caches(self, like_BD: Tensor, size: int) -> list[Tensor]:
        """Make a cache per layer, with keys and values [B, S, 2, A, C] for S = `size` tokens."""
        cache = like_BD.new_zeros(len(like_BD), size, 2, self.num_heads, self.head_dim)
        return [cache.clone() for _ in self.blocks]

    def read_next(self, x_BH: Tensor, position_B: Tensor, caches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Read one more token per row. Return its state [B, H], and the caches with it: the same, or longer ones."""
        longest = int(position_B.max()) + 1
        if longest > caches[0].shape[1]:
            caches = [F.pad(cache, (0, 0, 0, 0, 0, 0, 0, _CACHE_BLOCK)) for cache in caches]
        state_B1H = self.read_on(x_BH[:, None], position_B, [cache[:, :longest] for cache in caches])
        return state_B1H[:, 0], caches

    def read_on(self, x_BTH: Tensor, position_B: Tensor, caches: list[Tensor]) -> Tensor:
        """Compute the states [B, T, H] of the next T tokens of each row. Rows may be at different positions."""
        position_BT = position_B[:, None] + torch.arange(x_BTH.shape[1], device=x_BTH.device)
        slot_S = torch.arange(caches[0].shape[1], device=x_BTH.device)
        mask = (slot_S <= position_BT[..., None])[:, None]
        rotation = rotation_of(position_BT[:, None], self.head_dim)
        for block, cache in zip(self.blocks, caches, strict=True):
            x_BTH = block(x_BTH, rotation, mask=mask, cache=Cache(cache, position_BT))
        states_BTH: Tensor = self.norm(x_BTH)
        return states_BTH


class TransformerDecoder(CausalBlocks):
    """An autoregressive decoder. z becomes M memory tokens before the sentence, and is added to the input of each step.

    z is normalised, because sMIM makes codes ever smaller. So z is as large as the word in each input, and positions
    attend to the memory tokens in every layer. The decoder therefore cannot ignore z.
    """

    def __init__(self, args: TransformerDecoderArgs, *, embedding_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.args = args
        self.output_dim = args.hidden_dim
        self.embedding_dropout = nn.Dropout(args.embedding_dropout)
        self.num_memory_tokens = args.num_memory_tokens
        self.to_hidden = to_hidden(embedding_dim, args)
        self.latent_norm = nn.RMSNorm(latent_dim, eps=1e-6)
        self.latent_to_memory = linear(latent_dim, args.num_memory_tokens * args.hidden_dim)
        self.latent_to_input = linear(latent_dim, args.hidden_dim)
        self.add_layers(args)

    def forward(self, embedded_BTE: Tensor, z_BD: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        embedded_BTE = self.embedding_dropout(embedded_BTE)
        z_BD = self.latent_norm(z_BD).to(embedded_BTE.dtype)
        input_BTH = self.to_hidden(embedded_BTE) + self.latent_to_input(z_BD)[:, None]
        x_BTH = torch.cat([self._memory(z_BD), input_BTH], dim=1).to(embedded_BTE.dtype)
        return self.read(x_BTH)[:, self.num_memory_tokens :]

    def start(self, z_BD: Tensor) -> tuple[Tensor, ...]:
        """Compute the initial state of `step`: the next position [B], z's part of each input [B, H], a cache per layer.

        A cache holds keys and values [B, S, 2, A, C] of up to S tokens. Rows may be at different positions.
        """
        z_BD = self.latent_norm(z_BD)
        caches = self.new_caches(z_BD, self.num_memory_tokens)
        position_B = torch.zeros(len(z_BD), dtype=torch.int64, device=z_BD.device)
        self.read_on(self._memory(z_BD), position_B, caches)
        return position_B + self.num_memory_tokens, self.latent_to_input(z_BD), *caches

    def step(self, embedded_BE: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        position_B, latent_BH, *caches = state
        output_BH, caches = self.read_next(self.to_hidden(embedded_BE) + latent_BH, position_B, caches)
        return output_BH, (position_B + 1, latent_BH, *caches)

    def products(self, num_tokens: float) -> float:
        once = matrix_weights(self.latent_to_memory) + matrix_weights(self.latent_to_input)
        read = self.num_memory_tokens * matrix_weights(self.blocks)
        attended = attention_products(self.args, num_tokens + self.num_memory_tokens)
        return num_tokens * (matrix_weights(self) - once) + once + read + attended

    def _memory(self, z_BD: Tensor) -> Tensor:
        return self.latent_to_memory(z_BD).unflatten(-1, (self.num_memory_tokens, self.output_dim))


@dataclass(frozen=True)
class Cache:
    """The keys and values of a layer [B, S, 2, A, C], and the slots of each row's new tokens, int64 [B, T]."""

    keys_values: Tensor
    position_BT: Tensor

    def write(self, key_BATC: Tensor, value_BATC: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens into their slots. Return the keys and values of all slots, [B, A, S, C] each."""
        row_B1 = torch.arange(len(key_BATC), device=key_BATC.device)[:, None]
        new = torch.stack([key_BATC.transpose(1, 2), value_BATC.transpose(1, 2)], dim=2)
        self.keys_values[row_B1, self.position_BT] = new.to(self.keys_values.dtype)
        key_BSAC, value_BSAC = self.keys_values.unbind(2)
        return key_BSAC.transpose(1, 2), value_BSAC.transpose(1, 2)


class Block(nn.Module):
    """A layer of attention and feed-forward, each with a norm before it and a residual sum after it."""

    def __init__(self, args: TransformerArgs) -> None:
        super().__init__()
        self.attention_norm = make_norm(args.hidden_dim, args)
        self.attention = Attention(args)
        self.feedforward_norm = make_norm(args.hidden_dim, args)
        # GELU has as many weights as SwiGLU with two thirds of the width, but needs one product less.
        feedforward_dim = 4 * args.hidden_dim if args.feedforward_dim is None else args.feedforward_dim
        self.feedforward = nn.Sequential(
            linear(args.hidden_dim, feedforward_dim),
            nn.GELU(),
            linear(feedforward_dim, args.hidden_dim, scale=_residual_scale(args)),
        )
        self.dropout = nn.Dropout(args.dropout)

    def forward(
        self,
        x_BTH: Tensor,
        rotation: Rotation,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: Cache | None = None,
        projected_BTG: Tensor | None = None,
    ) -> Tensor:
        """Compute the states [B, T, H] after this layer. `mask` [B, 1, 1 or T, S] is true for visible positions.

        `projected`: the result of `project`, if it is known.
        """
        if projected_BTG is None:
            projected_BTG = self.project(x_BTH)
        attended_BTH = self.attention(projected_BTG, rotation, mask=mask, causal=causal, cache=cache)
        x_BTH = x_BTH + self.dropout(attended_BTH)
        return x_BTH + self.dropout(self.feedforward(self.feedforward_norm(x_BTH)))

    def project(self, x: Tensor) -> Tensor:
        """Compute query, key and value [..., 3 H] of each token, which depend on no other token."""
        projected: Tensor = self.attention.to_query_key_value(self.attention_norm(x))
        return projected


class Attention(nn.Module):
    """Self-attention with rotary positions (Su et al. 2021)."""

    def __init__(self, args: TransformerArgs) -> None:
        super().__init__()
        self.heads = (args.num_heads, args.hidden_dim // args.num_heads)
        self.to_query_key_value = linear(args.hidden_dim, 3 * args.hidden_dim)
        self.to_output = linear(args.hidden_dim, args.hidden_dim, scale=_residual_scale(args))

    def forward(
        self, projected_BTG: Tensor, rotation: Rotation, *, mask: Tensor | None, causal: bool, cache: Cache | None
    ) -> Tensor:
        """Compute the output [B, T, H] from the result of `to_query_key_value` [B, T, G], G = 3 H."""
        all_GBATC = projected_BTG.unflatten(-1, (3, *self.heads)).permute(2, 0, 3, 1, 4)
        (query_BATC, key_BASC), value_BASC = _rotate(all_GBATC[:2], rotation), all_GBATC[2]
        if cache is not None:
            key_BASC, value_BASC = cache.write(key_BASC, value_BASC)
        attended_BATC = F.scaled_dot_product_attention(
            query_BATC, key_BASC, value_BASC, attn_mask=mask, is_causal=causal
        )
        return self.to_output(attended_BATC.transpose(1, 2).flatten(2))


class AttentionPooling(nn.Module):
    """Attention pooling by learned queries (one cross-attention as in Jaegle et al. 2021).

    The results are concatenated, because a narrower layer would be a bottleneck before z.
    """

    def __init__(self, args: TransformerEncoderArgs) -> None:
        super().__init__()
        self.heads = (args.num_heads, args.hidden_dim // args.num_heads)
        self.output_dim = args.num_pooling_queries * args.hidden_dim
        self.queries = nn.Parameter(torch.randn(args.num_heads, args.num_pooling_queries, self.heads[1]))
        self.to_key_value = linear(args.hidden_dim, 2 * args.hidden_dim)
        self.norm = make_norm(self.output_dim, args)

    def forward(self, states_BTH: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the pooled vectors of each sentence, concatenated, [B, Q H]."""
        key_BATC, value_BATC = self.to_key_value(states_BTH).unflatten(-1, (2, *self.heads)).permute(2, 0, 3, 1, 4)
        query_BAQC = self.queries.to(key_BATC.dtype).expand(len(states_BTH), -1, -1, -1)
        pooled_BAQC = F.scaled_dot_product_attention(query_BAQC, key_BATC, value_BATC, attn_mask=mask)
        return self.norm(pooled_BAQC.transpose(1, 2).flatten(1).to(states_BTH.dtype))


def attention_products(args: TransformerArgs, num_tokens: float) -> float:
    """Multiplications for scores and sums of values, over all pairs of tokens and all layers. A mask saves none."""
    return 2 * args.hidden_dim * args.num_layers * num_tokens**2


def to_hidden(embedding_dim: int, args: TransformerArgs) -> nn.Module:
    """Make the map from embeddings of any scale to the residual stream, with unit variance."""
    norm = make_norm(embedding_dim, args)
    return norm if embedding_dim == args.hidden_dim else nn.Sequential(norm, linear(embedding_dim, args.hidden_dim))


def linear(in_dim: int, out_dim: int, *, scale: float = 1.0) -> nn.Linear:
    """Make a layer whose initial output has the variance scale^2 for inputs of unit variance, at any width."""
    linear = nn.Linear(in_dim, out_dim, bias=False)
    nn.init.normal_(linear.weight, std=scale * in_dim**-0.5)
    return linear


def rotation_of(position: Tensor, head_dim: int) -> Rotation:
    """Compute cosine and sine [..., C / 2] of the rotation of keys and queries at each position [...]."""
    frequency = 10_000 ** (-torch.arange(0, head_dim, 2, device=position.device, dtype=torch.float32) / head_dim)
    angle = position[..., None] * frequency
    return angle.cos(), angle.sin()


def _rotate(x_BATC: Tensor, rotation: Rotation) -> Tensor:
    """Rotate pairs of channels, in fp32, because bf16 cannot represent the angles of large positions."""
    cosine, sine = rotation
    one, other = x_BATC.float().chunk(2, dim=-1)
    return torch.cat([one * cosine - other * sine, one * sine + other * cosine], dim=-1).to(x_BATC.dtype)


def make_norm(dim: int, args: TransformerArgs) -> nn.Module:
    return nn.RMSNorm(dim, eps=1e-6) if args.norm == "rms" else nn.LayerNorm(dim, bias=False)


def _residual_scale(args: TransformerArgs) -> float:
    """The initial scale of each residual sublayer, so that all of them together add about as much as the input."""
    return (2 * args.num_layers) ** -0.5
