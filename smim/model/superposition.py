"""Superposition: a holographic bag of words with positions, and a decoder that subtracts the words one by one.

A code has two parts: the plain sum of its words' codes, and their sum after a rotation by their positions:

    z = [ c(w1) + c(w2) + ... ,  rho (P(0) Q c(w1) + P(1) Q c(w2) + ...) ]

where c is linear in the word's embedding, Q makes three copies side by side, and P(t) is a rotation and a decay. The
first quarter of z is a bag of words, so sentences of the same words are neighbours. In the rest, rotations bind words
to positions, as in holographic reduced representations (Plate 1995); rho < 1 is the weight of order in distances.

If the first words are subtracted from z, the residual is a code of the same kind that begins with the next word. So the
decoder always finds the next word at the same place. Recurrent and attentive decoders must learn this from data for
each word and position. Later words decay, because they are decoded after the earlier, stronger ones are subtracted.
This allocation of power lets superposition codes reach a channel's capacity (Joseph and Barron 2014).

With a meaning part (`smim.model.meaning`) there is no bag of words, and the code is

    z = [ m |o| / rho ,  o ],    o = P(0) Q c(w1) + P(1) Q c(w2) + ...

where m is the direction of the sentence's meaning, and |.| is the length. So in the cosine of two codes the order part
has the weight rho^2 relative to the meaning part, and the length of z depends on the number of words. Words are
subtracted from o only. The decoder's inputs are m, `literal`, and o mixed with noise of the same size. `literal` is the
share of o, from 1 (all) to 0 (none: it writes any sentence that means m). Training draws `literal` for each sentence.

Shapes: B sentences, T tokens, E embedding, W width of the meaning's table, M meaning, H hidden, D latent, C code of a
word, P = 3 C its copies; D = 4 C, or M + 3 C with a meaning part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.args import ModelArgs, PartArgs
from smim.model.latent_space import make_log_variance
from smim.model.meaning import MeaningArgs, MeaningEncoder
from smim.model.parts import Decoder, DecoderArgs, Encoder
from smim.model.transformer import CausalBlocks, TransformerArgs, attention_products, linear, to_hidden
from smim.schema import bounded
from smim.text.tokenizer import PAD_ID

COPIES = 3
_DECAY = 0.03
# The decay stops after this many words. Otherwise later ones would be lost in rounding errors.
_LAST_DECAY = 100
# The initial logit of a word that alone remains in z. So the right word is likely from the first training step on.
_WORD_LOGIT = 2.0
# Shares of training sentences that are decoded with a `literal` of 1 and of 0. The others have values in between.
_SHARE_LITERAL, _SHARE_FREE = 0.35, 0.55
_SMALLEST = 1e-6
# Words whose rotated codes are computed together. More of them do not fit into a core's cache.
_FEW = 512


@dataclass(frozen=True)
class SuperpositionEncoderArgs(PartArgs):
    """The settings of the encoder that sums words. `order_weight`: rho, the weight of word order in distances.

    `meaning`: the settings of the meaning part.
    """

    takes_scale_out: ClassVar[bool] = True
    name: str = "superposition"
    order_weight: float = bounded(0.5, above=0)
    meaning: MeaningArgs = field(default_factory=MeaningArgs)

    @property
    def own_embedding_dim(self) -> int:
        return self.meaning.table_dim if self.meaning.dim else 0

    def problems(self, at: str, model: Any) -> list[str]:
        problems = super().problems(at, model) + self.meaning.problems(f"{at}.meaning", model)
        if not self.meaning.dim and model.latent_dim % 8:
            problems.append(f"model.latent_dim is {model.latent_dim}; a superposition needs a multiple of 8")
        left = model.latent_dim - self.meaning.dim
        if self.meaning.dim and (left < 6 or left % 6):
            problems.append(
                f"model.latent_dim is {model.latent_dim} and {at}.meaning.dim is {self.meaning.dim}; "
                "their difference must be a multiple of 6, and at least 6"
            )
        return problems

    def make(self, model: Any, encoder: Any = None) -> Encoder:
        return SuperpositionEncoder(self, embedding_dim=model.embedding_dim, latent_dim=model.latent_dim)


@dataclass(frozen=True)
class SuperpositionDecoderArgs(TransformerArgs, DecoderArgs):
    """The settings of the transformer decoder that subtracts words from a sum."""

    name: str = "superposition"

    def problems(self, at: str, model: Any) -> list[str]:
        problems = super().problems(at, model)
        if model.encoder.name != "superposition" or not model.tied_output:
            problems.append(
                f"{at}=superposition subtracts words from a sum of words; "
                "it needs model.encoder=superposition and model.tied_output=true"
            )
        return problems

    def make(self, model: Any, encoder: Any = None) -> Decoder:
        return SuperpositionDecoder(
            self,
            embedding_dim=model.embedding_dim,
            latent_dim=model.latent_dim,
            words=encoder.words,
            meaning_dim=model.encoder.meaning.dim,
        )


class WordCodes(nn.Module):
    """The maps c, P, Q and rho: they give each word's contribution to z, and the residual of z after some words.

    `bag`: z also contains the plain sum of words, so it has 4 C numbers instead of 3 C.
    """

    def __init__(self, *, embedding_dim: int, code_dim: int, order_weight: float, bag: bool = True) -> None:
        super().__init__()
        self.code_dim, self.bag = code_dim, bag
        # The copies together have the power of one code.
        self.order_weight = order_weight / COPIES**0.5
        self.to_code = linear(embedding_dim, self.code_dim, scale=(embedding_dim / self.code_dim) ** 0.5)
        num_pairs = COPIES * self.code_dim // 2
        # Evenly spaced up to a half turn, so averaged over pairs, a word is orthogonal to itself at another position.
        generator = torch.Generator().manual_seed(0)
        steps = (torch.randperm(num_pairs, generator=generator, device=generator.device) + 0.5) / num_pairs
        self.frequency = nn.Parameter(math.pi * steps)
        self.raw_decay = nn.Parameter(torch.full((num_pairs,), math.log(math.expm1(_DECAY))))

    @property
    def latent_dim(self) -> int:
        return (self.bag + COPIES) * self.code_dim

    def encode(self, embedded_BTE: Tensor, place_BT: Tensor) -> Tensor:
        """Compute z [B, D] of the words at positions from 0 on. Tokens with a negative position are ignored."""
        code_BTC = self.code(embedded_BTE) * (place_BT >= 0)[..., None]
        bound_BTP = self._move(self._copies(code_BTC), place_BT.clamp(min=0))
        return torch.cat([self._bag(code_BTC).sum(1), bound_BTP.sum(1)], dim=-1)

    def turns(self, num: int) -> Tensor:
        """Compute rho P(0), rho P(1), ... of each copy as complex numbers, [num, COPIES, C / 2]."""
        turn_TP = torch.complex(*self._turn(torch.arange(num)))
        return self.order_weight * turn_TP.unflatten(-1, (COPIES, -1))

    def encode_in_order(self, code_BTC: Tensor, turn_TKP: Tensor) -> Tensor:
        """Compute what `encode` computes, without a gradient, from codes at positions 0, 1, ...; zeros on padding.

        `turn`: the result of `turns` for at least so many positions.
        """
        turn_TKP = turn_TKP[: code_BTC.shape[1]]
        code_BTP = torch.view_as_complex(code_BTC.unflatten(-1, (-1, 2)))
        if code_BTC.shape[0] * code_BTC.shape[1] <= _FEW:
            bound_BKP = (turn_TKP * code_BTP[:, :, None]).sum(1)
        else:
            bound_BKP = code_BTP.new_zeros(len(code_BTC), *turn_TKP.shape[1:])
            for turn_KP, code_BP in zip(turn_TKP, code_BTP.unbind(1), strict=True):
                bound_BKP.addcmul_(turn_KP, code_BP[:, None])
        return torch.cat([self._bag(code_BTC).sum(1), torch.view_as_real(bound_BKP).flatten(1)], dim=-1)

    def added(self, embedded_BTE: Tensor, place_BT: Tensor) -> Tensor:
        """Compute each word's contribution to z at its position, [B, T, D]."""
        code_BTC = self.code(embedded_BTE)
        return torch.cat([self._bag(code_BTC), self._move(self._copies(code_BTC), place_BT)], dim=-1)

    def remaining(self, z_BD: Tensor, embedded_BTE: Tensor, size_B: Tensor) -> Tensor:
        """Compute the residuals of z after the words up to each position, rotated to the next word, [B, T, D].

        The first token is `<sos>`, which is not part of z. `size`: the scale of words in z.
        """
        place_T = torch.arange(embedded_BTE.shape[1], device=z_BD.device)
        code_BTC = size_B[:, None, None] * self.code(embedded_BTE[:, 1:])
        bound_BTP = self._move(self._copies(code_BTC), place_T[:-1])
        free, ordered = (
            F.pad(-words.cumsum(1), (0, 0, 1, 0)) + part[:, None]
            for words, part in zip((self._bag(code_BTC), bound_BTP), self._split(z_BD), strict=True)
        )
        return torch.cat([free, self._move(ordered, place_T, back=True)], dim=-1)

    def take_out(self, remaining_BD: Tensor, embedded_BE: Tensor, place_B: Tensor, size_B: Tensor) -> Tensor:
        """Subtract one more word, that at `place` - 1, from the residual. For `<sos>` the residual does not change."""
        free_BC, ordered_BP = self._split(remaining_BD)
        code_BC = size_B[:, None] * self.code(embedded_BE)
        moved_BP = self._move(ordered_BP - self._copies(code_BC), (place_B - 1).clamp(min=0))
        without_BD = torch.cat([free_BC - self._bag(code_BC), self._move(moved_BP, place_B, back=True)], dim=-1)
        return torch.where(place_B[:, None] > 0, without_BD, remaining_BD)

    def matches(self, remaining: Tensor) -> list[Tensor]:
        """Apply matched filters: embeddings [..., E] of the remaining words (if z has a bag), and of the next word."""
        free, ordered = self._split(remaining)
        first = ordered.unflatten(-1, (COPIES, self.code_dim)).sum(-2) / (COPIES * self.order_weight)
        return [F.linear(code, self.to_code.weight.t()) for code in ([free, first] if self.bag else [first])]

    def _split(self, z: Tensor) -> list[Tensor]:
        return list(z.split([self.bag * self.code_dim, COPIES * self.code_dim], dim=-1))

    def _bag(self, code: Tensor) -> Tensor:
        return code[..., : self.bag * self.code_dim]

    def _copies(self, code: Tensor) -> Tensor:
        return self.order_weight * torch.cat([code] * COPIES, dim=-1)

    def code(self, embedded: Tensor) -> Tensor:
        """Compute c(w), the codes [..., C] of words."""
        # In full precision, so that the same values are subtracted as were added.
        with torch.autocast(embedded.device.type, enabled=False):
            return self.to_code(embedded.to(self.to_code.weight.dtype))

    def _move(self, x: Tensor, place: Tensor, *, back: bool = False) -> Tensor:
        """Compute P(place) x, or its inverse. `place` [B, T], [T] or [B] has the axes of x before the last one."""
        cosine, sine = self._turn(place, back=back)
        one, other = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([one * cosine - other * sine, one * sine + other * cosine], dim=-1).flatten(-2)

    def _turn(self, place: Tensor, *, back: bool = False) -> tuple[Tensor, Tensor]:
        """Compute cosine and sine of P(place), or of its inverse, times its decay, for each pair."""
        decay = F.softplus(self.raw_decay) * place[..., None].clamp(max=_LAST_DECAY)
        angle = self.frequency * place[..., None]
        sign = -1 if back else 1
        size = torch.exp(-sign * decay)
        return size * angle.cos(), sign * size * angle.sin()


class SuperpositionEncoder(Encoder):
    """The encoder that sums the words' codes. The sum is the posterior's mean, because the decoder needs its form."""

    has_table = True

    def __init__(self, args: SuperpositionEncoderArgs, *, embedding_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.args = args
        self.output_dim = latent_dim
        self.meaning_dim = args.meaning.dim
        bag = not self.meaning_dim
        self.words = WordCodes(
            embedding_dim=embedding_dim,
            code_dim=(latent_dim - self.meaning_dim) // (bag + COPIES),
            order_weight=args.order_weight if bag else 1.0,
            bag=bag,
        )
        self.meaning = MeaningEncoder(args.meaning) if self.meaning_dim else None
        self.holds_meaning = False

    def forward(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute z's mean [B, D] of reversed sentences, with `<sos>` last. Padding on the right is not used."""
        place_BT = _places(embedded_BTE, lengths_B)
        if self.meaning is None:
            return self.words.encode(embedded_BTE, place_BT)
        order_BP = self.words.encode(embedded_BTE[..., : -self.args.meaning.table_dim], place_BT)
        meaning_BM = self.meaning_of(embedded_BTE, lengths_B)
        if self.holds_meaning:
            meaning_BM = meaning_BM.detach()
        return self._joined(meaning_BM, order_BP)

    def _joined(self, meaning_BM: Tensor, order_BP: Tensor) -> Tensor:
        size_B1 = order_BP.norm(dim=-1, keepdim=True) / self.args.order_weight
        return torch.cat([size_B1 * meaning_BM, order_BP], dim=-1)

    def word_table(self, embedding_UE: Tensor, longest: int) -> list[Tensor]:
        """Compute what depends on each word alone: its code [U, C], and the meaning part's columns; and `turns`."""
        width = self.words.to_code.in_features
        code_UC = self.words.code(embedding_UE[:, :width])
        code_UC[PAD_ID] = 0
        return [
            self.words.turns(longest),
            code_UC,
            *(self.meaning.table(embedding_UE[:, width:]) if self.meaning else ()),
        ]

    def read(self, words_BT: Tensor, lengths_B: Tensor, columns: Sequence[Tensor]) -> Tensor:
        place_BT, (turn_TKP, code_UC, *others) = _places(words_BT, lengths_B), columns
        in_order_BT = words_BT.gather(1, place_BT.clamp(min=0)).masked_fill(place_BT < 0, PAD_ID)
        order_BD = self.words.encode_in_order(F.embedding(in_order_BT[:, :-1], code_UC), turn_TKP)
        if self.meaning is None:
            return order_BD
        meaning_BM = self.meaning.combine(place_BT >= 0, *(F.embedding(words_BT, column) for column in others))
        return self._joined(meaning_BM, order_BD)

    def meaning_of(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute only the direction of the meaning part [B, M]. The arguments are those of `forward`."""
        assert self.meaning is not None
        is_word_BT = _places(embedded_BTE, lengths_B) >= 0
        return self.meaning(embedded_BTE[..., -self.args.meaning.table_dim :], is_word_BT)

    def hold_meaning(self) -> None:
        """From now on, give the meaning part and its table of words no gradient."""
        assert self.meaning is not None
        self.meaning.requires_grad_(False)
        self.holds_meaning = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode as for any module. A frozen meaning part stays in evaluation mode, without dropout."""
        super().train(mode)
        if self.meaning is not None and self.holds_meaning:
            self.meaning.eval()
        return self

    def make_posterior(self, args: ModelArgs) -> tuple[nn.Module, nn.Module]:
        to_log_variance = make_log_variance(args, self.output_dim)
        if isinstance(to_log_variance, nn.Linear):  # noise of variance 1 would be larger than the words
            nn.init.constant_(to_log_variance.bias, args.min_log_variance + 1)
        return nn.Identity(), to_log_variance

    def products(self, num_tokens: float) -> float:
        attended = self.meaning.products(num_tokens) if self.meaning else 0.0
        return super().products(num_tokens) + attended


def _places(embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
    """The position of each word in reversed sentences [B, T]; negative for `<sos>` and padding."""
    position_T = torch.arange(embedded_BTE.shape[1], device=embedded_BTE.device)
    return lengths_B[:, None] - 2 - position_T


class SuperpositionDecoder(CausalBlocks):
    """A decoder that finds the next word in the residual of z. Causal attention adds the knowledge of the language.

    `words` belongs to the encoder. The states are embeddings, for a tied output layer.
    """

    def __init__(
        self,
        args: SuperpositionDecoderArgs,
        *,
        embedding_dim: int,
        latent_dim: int,
        words: WordCodes,
        meaning_dim: int = 0,
    ) -> None:
        super().__init__()
        self.args = args
        self.meaning_dim = meaning_dim
        self.output_dim = embedding_dim
        self.shared = (words,)  # in a tuple it is not registered a second time
        self.embedding_dropout = nn.Dropout(args.embedding_dropout)
        self.to_hidden = to_hidden(embedding_dim, args)
        self.remaining_to_hidden = linear(words.latent_dim, args.hidden_dim, scale=latent_dim**0.5 / 4)
        self.add_layers(args)
        self.to_embedding = linear(args.hidden_dim, embedding_dim, scale=_WORD_LOGIT)
        # The weights of the two matches. Gates reduce them for noisy codes, and are initially half open.
        gain = _WORD_LOGIT * latent_dim**0.5
        self.match_gain = nn.Parameter(torch.tensor([gain, 2 * gain][-1 - words.bag :]))
        self.to_match_gate = nn.Linear(args.hidden_dim, 1 + words.bag)
        nn.init.zeros_(self.to_match_gate.weight)
        nn.init.zeros_(self.to_match_gate.bias)
        if meaning_dim:  # the direction, the logarithm of its length, and `literal`
            self.meaning_to_hidden = linear(meaning_dim, args.hidden_dim, scale=meaning_dim**0.5)
            self.level_to_hidden = nn.Linear(2, args.hidden_dim)

    @property
    def words(self) -> WordCodes:
        [words] = self.shared
        return words

    def forward(
        self,
        embedded_BTE: Tensor,
        z_BD: Tensor,
        lengths_B: Tensor | None = None,
        literal: float | Tensor | None = None,
    ) -> Tensor:
        if literal is None:
            literal = self.draw_literal(z_BD) if self.training and self.meaning_dim else 1.0
        literal_B = literal if isinstance(literal, Tensor) else z_BD.new_full((len(z_BD),), literal)
        told, order_BD = self._told(z_BD, literal_B)
        remaining_BTD = self.words.remaining(order_BD, embedded_BTE, literal_B)
        told_B1H = told[:, None] if self.meaning_dim else told
        states_BTH = self.read(self._input(embedded_BTE, remaining_BTD, told_B1H))
        return self._to_embedding(states_BTH, remaining_BTD)

    def products(self, num_tokens: float) -> float:
        # The encoder's matrix serves to subtract words, and as the filter of both matches.
        shared = (3 * num_tokens - 1) * self.words.to_code.weight.numel()
        return super().products(num_tokens) + attention_products(self.args, num_tokens) + shared

    def start(self, z_BD: Tensor, literal: float = 1.0) -> tuple[Tensor, ...]:
        """Compute the initial state of `step`: the next position [B], the residual of z, the scale of words in it [B],
        the input from the meaning part [B, H] (empty without one), and a cache per layer.
        """
        position_B = torch.zeros(len(z_BD), dtype=torch.int64, device=z_BD.device)
        literal_B = z_BD.new_full((len(z_BD),), literal)
        told_BH, order_BD = self._told(z_BD, literal_B)
        return position_B, order_BD, literal_B, told_BH, *self.new_caches(z_BD, 0)

    def step(self, embedded_BE: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        position_B, remaining_BD, literal_B, told_BH, *caches = state
        remaining_BD = self.words.take_out(remaining_BD, embedded_BE, position_B, literal_B)
        state_BH, caches = self.read_next(self._input(embedded_BE, remaining_BD, told_BH), position_B, caches)
        output_BE = self._to_embedding(state_BH, remaining_BD)
        return output_BE, (position_B + 1, remaining_BD, literal_B, told_BH, *caches)

    def draw_literal(self, z_BD: Tensor) -> Tensor:
        """Draw `literal` for each sentence of a training step, [B]."""
        kind_B, between_B = torch.rand(2, len(z_BD), device=z_BD.device)
        return torch.where(
            kind_B < _SHARE_LITERAL, 1.0, torch.where(kind_B < _SHARE_LITERAL + _SHARE_FREE, 0.0, between_B)
        )

    def _told(self, z_BD: Tensor, literal_B: Tensor) -> tuple[Tensor, Tensor]:
        """Compute each step's input from the meaning part [B, H], and the order part, mixed with noise by `literal`.

        Without a meaning part the first is empty, [B, 0].
        """
        meaning_BM, order_BD = z_BD.split([self.meaning_dim, z_BD.shape[1] - self.meaning_dim], dim=-1)
        if not self.meaning_dim:
            return meaning_BM, order_BD
        size_B1 = meaning_BM.norm(dim=-1, keepdim=True).clamp(min=_SMALLEST)
        level_B2 = torch.cat([size_B1.log(), literal_B[:, None]], dim=-1)
        told_BH = self.meaning_to_hidden(meaning_BM / size_B1) + self.level_to_hidden(level_B2)
        if self.training:
            noise_BD = torch.randn_like(order_BD)
        else:  # the same noise for all codes, so that the result depends only on the code
            noise_BD = torch.randn(order_BD.shape[1:], generator=torch.Generator().manual_seed(0)).to(order_BD)
        noise_BD = noise_BD * order_BD.norm(dim=-1, keepdim=True) / order_BD.shape[1] ** 0.5
        literal_B1 = literal_B[:, None]
        drowned_BD = literal_B1 * order_BD + (1 - literal_B1**2).sqrt() * noise_BD
        return told_BH, torch.where(literal_B1 > 0, drowned_BD, 0.0)

    def _input(self, embedded: Tensor, remaining: Tensor, told: Tensor) -> Tensor:
        # Under autocast products are bf16, but the residual stream keeps the embedding's precision.
        seen = self.to_hidden(self.embedding_dropout(embedded)) + self.remaining_to_hidden(remaining)
        return (seen + told if self.meaning_dim else seen).to(embedded.dtype)

    def _to_embedding(self, states: Tensor, remaining: Tensor) -> Tensor:
        gains = self.match_gain * torch.sigmoid(self.to_match_gate(states))
        matched = zip(gains.split(1, dim=-1), self.words.matches(remaining), strict=True)
        return self.to_embedding(states) + sum(gain * match for gain, match in matched)
