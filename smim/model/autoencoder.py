"""The autoencoder of sentences: q(z|x), p(x|z) and p(z).

Shapes: B sentences, T tokens (with `<sos>` or `<eos>`), E embedding, H hidden, D latent, V vocabulary, K pseudo-inputs
of a prior, L their length.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.errors import Unsupported, UserError
from smim.model.args import ModelArgs, PartArgs
from smim.model.decoding import decode_ids
from smim.model.distributions import DiagonalGaussian
from smim.model.gru import GRUDecoderArgs, GRUEncoderArgs
from smim.model.latent_space import make_prior
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.meaning import initial_table
from smim.model.parts import Decoder, Encoder, matrix_weights
from smim.model.superposition import SuperpositionEncoder, WordCodes
from smim.model.vocabulary_loss import TiedVocabularyLayer, VocabularyLayer
from smim.schema import bounded
from smim.text.batch import Batch, collate
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID


@dataclass(frozen=True)
class SentenceArgs(ModelArgs):
    """The settings that decide the shape of a model of sentences. Defaults are the thesis's for PTB (section 7.2).

    `tied_output`: the output layer uses the embedding matrix. `word_dropout` (Bowman et al. 2016) and
    `encoder_word_dropout`: the share of the decoder's and of the encoder's input words that training replaces by
    `<unk>`; 20 % in the encoder gave much better answers (appendix E.4). `max_length`: the longest sentence, in tokens,
    to encode or decode. `pseudo_input_length`: the number of embeddings in a pseudo-input of a VampPrior.
    """

    unit: ClassVar[str] = "sentence"
    family: ClassVar[str] = "sentence"
    encoder: PartArgs = field(default_factory=GRUEncoderArgs)
    decoder: PartArgs = field(default_factory=GRUDecoderArgs)
    embedding_dim: int = bounded(300, least=1)
    tied_output: bool = False
    word_dropout: float = bounded(0.0, least=0, below=1)
    encoder_word_dropout: float = bounded(0.0, least=0, below=1)
    pseudo_input_length: int = bounded(10, least=1)
    max_length: int = bounded(1000, least=1)

    @property
    def token_limit(self) -> int:
        return self.max_length

    def check_split(self, split: Any, *, cut: int | None) -> None:
        """Raise `UserError` if a sentence (or a sentence of a pair) is empty, or longer than `max_length`."""
        lengths = [split.table.column("length")]
        if split.has_pairs:
            lengths.append(pc.list_value_length(split.table.column("pair_ids")))
        extremes = pc.min_max(pa.chunked_array([chunk for column in lengths for chunk in column.chunks])).as_py()
        longest = min(extremes["max"], cut or math.inf)
        if extremes["min"] < 1:
            raise UserError(f"split {split.name!r} has a sentence without tokens; prepare the corpus without it")
        if longest > self.max_length:
            raise UserError(
                f"split {split.name!r} has a sentence of {longest} tokens, but model.max_length is {self.max_length}; "
                "increase it, or cut longer sentences with train.too_long=truncate"
            )


_SMALL_EMBEDDING = 0.1


@dataclass(frozen=True)
class TokenLogProb:
    """The values log p(x|z) token by token, in nats, with zeros on padding.

    `tokens` fp32 [B, T]: the words, then `<eos>`. `lengths` int64 [B]: words without `<eos>`.
    """

    tokens: Tensor
    lengths: Tensor

    @property
    def with_eos(self) -> Tensor:
        """The value log p(x|z) of the words and `<eos>`, as trained, [B]."""
        return self.tokens.sum(1)

    @property
    def eos(self) -> Tensor:
        """The value log p of `<eos>` after the last word, [B]."""
        return self.tokens.gather(1, self.lengths[:, None])[:, 0]

    @property
    def words(self) -> Tensor:
        """The value log p(x|z) of the words without `<eos>`, as evaluated (section 7.3), [B]."""
        return self.with_eos - self.eos


@dataclass(frozen=True)
class WordTable:
    """The encoder's `columns` for the distinct words of a text, and each word's row in them, `row_of_V` int64 [V]."""

    row_of_V: Tensor
    columns: list[Tensor]


class SentenceAutoencoder(LatentVariableModel):
    """A sentence autoencoder with a Gaussian q(z|x). Encoder, decoder and a tied output layer share the embedding."""

    unit = "sentence"
    reparameterized = False
    undecayed = ("embedding", "prior")

    def __init__(self, args: SentenceArgs, vocabulary_size: int) -> None:
        super().__init__()
        self.args: SentenceArgs = args
        self.input_size = vocabulary_size
        width = args.embedding_dim + args.encoder.own_embedding_dim
        self.embedding = nn.Embedding(vocabulary_size, width)
        if args.encoder.takes_scale_out and args.decoder.takes_scale_out:
            # Adam changes each weight by about the learning rate, so a table of small values learns faster.
            nn.init.normal_(self.embedding.weight, std=_SMALL_EMBEDDING)
        self.encoder: Encoder = args.encoder.make(args)
        self.summary_dim = self.encoder.output_dim
        self.to_mean, self.to_log_variance = self.encoder.make_posterior(args)
        self.decoder: Decoder = args.decoder.make(args, self.encoder)
        self.graphable = self.encoder.graphable and self.decoder.graphable
        self.to_output, self.to_vocabulary = self._make_output()
        self.prior = make_prior(
            args,
            pseudo_input_shape=(args.pseudo_input_length, width),
            posterior=self._pseudo_posterior,
            as_pseudo_inputs=self._as_pseudo_inputs,
        )

    def posterior(self, batch: Batch, *, word_table: WordTable | None = None) -> DiagonalGaussian:
        """Compute q(z|x) for each sentence, with fields fp32 [B, D] (eq. 6.3). With `word_table` it has no gradient."""
        return self.posterior_of_state(self._encode(batch, word_table))

    def _encode(self, batch: Batch, word_table: WordTable | None = None) -> Tensor:
        """The encoder's last state [B, H]."""
        input_BT = self._with_unknown_words(_reversed_input(batch), self.args.encoder_word_dropout)
        if word_table is not None:
            return self.encoder.read(word_table.row_of_V[input_BT], batch.lengths + 1, word_table.columns)
        return self.encoder(self.embedding(input_BT), batch.lengths + 1)

    def _pseudo_posterior(self, pseudo_inputs_KLE: Tensor) -> DiagonalGaussian:
        """Compute q(z|u) of pseudo-inputs: learned embeddings of a reversed sentence, to which `<sos>` is appended."""
        num, length, _ = pseudo_inputs_KLE.shape
        sos_K1 = torch.full((num, 1), SOS_ID, device=pseudo_inputs_KLE.device)
        embedded_KTE = torch.cat([pseudo_inputs_KLE, self.embedding(sos_K1)], dim=1)
        return self.posterior_of_state(self.encoder(embedded_KTE, torch.full_like(sos_K1[:, 0], length + 1)))

    def _as_pseudo_inputs(self, batch: Batch) -> Tensor:
        """The embeddings [K, L, E] of each sentence's first L words, reversed. Shorter sentences are repeated."""
        place_KL = torch.arange(self.args.pseudo_input_length, device=batch.tokens.device) % batch.lengths[:, None]
        return self.embedding(batch.tokens.gather(1, place_KL).flip(1))

    @torch.no_grad()
    def word_table(self, words: Tensor, longest: int | None = None) -> WordTable | None:
        """Make a lookup table for `posterior` of sentences of these words, which may be repeated and in any order.

        `longest`: the number of words of the longest sentence; None: the model's limit. Only on the CPU, and if the
        encoder has a table; otherwise None.
        """
        if not self.encoder.has_table or self.device.type != "cpu":
            return None
        occurs_V = torch.zeros(self.input_size, dtype=torch.bool)
        occurs_V[[PAD_ID, SOS_ID]] = occurs_V[words] = True
        columns = self.encoder.word_table(self.embedding.weight[occurs_V], longest or self.args.max_length)
        return WordTable(row_of_V=occurs_V.cumsum(0) - 1, columns=columns)

    def log_prob(self, batch: Batch, z_BD: Tensor, *, literal: float | None = None) -> TokenLogProb:
        """Compute log p(x|z) under teacher forcing, for z [B, D] (eq. 6.1).

        `literal`: the share of the code beside the meaning part that the decoder gets. None: random in training, or 1.
        """
        input_BT = self._with_unknown_words(_decoder_input(batch), self.args.word_dropout)
        given: dict[str, float | Tensor] = {} if literal is None else {"literal": literal}
        if self.training and self.encoder.meaning_dim and literal is None and batch.random is not None:
            # Random words have no meaning to paraphrase, so the decoder must reproduce them.
            given["literal"] = self.decoder.draw_literal(z_BD).masked_fill(batch.random, 1.0)  # type: ignore[operator]
        states_BTH = self.to_output(self.decoder(self._said(input_BT), z_BD, batch.lengths + 1, **given))
        target_BT = _target(batch)
        real_BT = target_BT != PAD_ID
        if batch.fixed_shape:
            flat_N = self.to_vocabulary(states_BTH.flatten(0, 1), target_BT.flatten(), gradient_at_once=False)
            tokens_BT = flat_N.view_as(target_BT).masked_fill(~real_BT, 0.0)
        else:
            flat_N = self.to_vocabulary(states_BTH[real_BT], target_BT[real_BT])
            tokens_BT = flat_N.new_zeros(target_BT.shape).masked_scatter(real_BT, flat_N)
        return TokenLogProb(tokens=tokens_BT, lengths=batch.lengths)

    def mean_state(self, batch: Batch, z_BD: Tensor) -> Tensor:
        """The mean decoder state over the words and `<eos>` of each sentence, under teacher forcing, [B, H]."""
        states_BTH = self.decoder(self._said(_decoder_input(batch)), z_BD, batch.lengths + 1)
        real_BT1 = (_target(batch) != PAD_ID)[..., None]
        return (states_BTH * real_BT1).sum(1) / real_BT1.sum(1)

    def log_likelihood(self, batch: Batch, z_BD: Tensor) -> Tensor:
        """Compute log p(x|z) in nats [B] of the words and `<eos>`, or only of the words if a drawn sentence was cut."""
        log_prob = self.log_prob(batch, z_BD)
        return log_prob.with_eos if batch.cut is None else log_prob.with_eos - log_prob.eos * batch.cut

    def log_likelihood_of_pair(self, batch: Batch, z_BD: Tensor) -> Tensor:
        return self.log_prob(batch, z_BD, literal=0.0 if self.encoder.meaning_dim else None).with_eos

    @torch.no_grad()
    def sample(self, z_BD: Tensor, *, max_length: int = 100) -> Batch:
        """Draw a sentence for each z at temperature 1, cut after `max_length` tokens. It may be empty.

        The probability of a sentence is that of `log_likelihood`, except that `<pad>` and `<sos>` are never drawn.
        They are never targets in training, so their probability is almost 0.
        """
        was_training = self.training
        if was_training:
            self.eval()
        uniform = torch.rand(len(z_BD), max_length, device=z_BD.device)
        ids = decode_ids(self, z_BD.detach(), max_length, uniform=uniform, allow_unknown=True)
        if was_training:  # otherwise keep the modes of the parts, because MIM leaves some in training mode
            self.train()
        batch = collate(ids, range(len(ids)))
        # A sentence that ended is shorter, because it had room for its `<eos>`.
        return replace(batch, cut=batch.lengths == max_length).to(z_BD.device)

    @torch.no_grad()
    def summary(self, batch: Batch) -> Tensor:
        return self._encode(batch).float()

    @torch.no_grad()
    def initialize_words(self, vectors_VW: Tensor, counts_V: Tensor) -> None:
        table_VW = self.embedding.weight[:, self.args.embedding_dim :]
        begun_VW = initial_table(vectors_VW, counts_V)[:, : table_VW.shape[1]]
        table_VW[:, : begun_VW.shape[1]] = begun_VW

    @property
    def meaning_dim(self) -> int:
        return self.encoder.meaning_dim or self.args.latent_dim

    def meaning_of(self, batch: Batch) -> Tensor:
        if not self.encoder.meaning_dim:
            return super().meaning_of(batch)
        return self.encoder.meaning_of(self.embedding(_reversed_input(batch)), batch.lengths + 1)  # type: ignore[operator]

    @property
    def words_of_sum(self) -> WordCodes | None:
        """The module for each word's part of a code, if codes are sums of words; otherwise None."""
        return self.encoder.words if isinstance(self.encoder, SuperpositionEncoder) else None

    def sum_of_words(self, z_BD: Tensor) -> Tensor:
        """The part of a code that is the sum of its words."""
        return z_BD[:, self.encoder.meaning_dim :]

    def hold_meaning(self) -> None:
        if not self.encoder.meaning_dim:
            super().hold_meaning()
        self.encoder.hold_meaning()  # type: ignore[operator]

    def check_literal(self, literal: float) -> None:
        """Raise `Unsupported` if `literal` is not 1 and the codes have no meaning part."""
        if literal != 1 and not self.encoder.meaning_dim:
            raise Unsupported(
                f"literal is {literal:g}, but it must be 1, because this model's codes have no meaning part"
            )

    def start(self, z_BD: Tensor, literal: float = 1.0) -> tuple[Tensor, ...]:
        """Compute the initial state for decoding z [B, D] with `next_token`: tensors with a row per sentence.

        `literal`: the share of z beside its meaning part that the decoder gets, from 1 (all) to 0. Raises like
        `check_literal`. The second axis of a cache is its capacity in tokens. It grows, and may be padded with zeros.
        """
        self.check_literal(literal)
        if self.encoder.meaning_dim:
            return self.decoder.start(z_BD, literal)  # type: ignore[call-arg]
        return self.decoder.start(z_BD)

    def next_token(self, token_B: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Do one decoding step. Return logits of the next token, fp32 [B, V], and the decoder's new state."""
        output_BH, state = self.decoder.step(self._said(token_B), state)
        return self.to_vocabulary.logits(self.to_output(output_BH)).float(), state

    def compile_parts(self) -> list[nn.Module]:
        return [part for part in (self.encoder, self.decoder) if part.compilable]

    def flops_per_token(self, mean_length: float) -> float:
        """As in the base class. A sentence has one token more than words; costs per sentence are divided among them."""
        num_tokens = mean_length + 1
        output = matrix_weights(self.to_output) + self.to_vocabulary.matrix.numel()
        once = matrix_weights(self.to_mean) + matrix_weights(self.to_log_variance)
        parts = self.encoder.products(num_tokens) + self.decoder.products(num_tokens)
        return 6 * (parts + once + num_tokens * output) / mean_length

    def _said(self, tokens: Tensor) -> Tensor:
        """The decoder's input embeddings, without the columns that only the encoder reads."""
        return self.embedding(tokens)[..., : self.args.embedding_dim]

    def _make_output(self) -> tuple[nn.Module, VocabularyLayer]:
        """Make the layer from the decoder's states to the output layer, and the output layer."""
        width = self.decoder.output_dim
        if not self.args.tied_output:
            return nn.Identity(), VocabularyLayer(width, self.input_size)
        embedding_dim = self.args.embedding_dim
        to_output = nn.Identity() if width == embedding_dim else nn.Linear(width, embedding_dim, bias=False)
        return to_output, TiedVocabularyLayer(self.embedding, embedding_dim)

    def _with_unknown_words(self, tokens_BT: Tensor, share: float) -> Tensor:
        """In training, replace a random `share` of the words by `<unk>`. A share of 0 draws no random number."""
        if not self.training or share == 0:
            return tokens_BT
        drawn_BT = torch.rand(tokens_BT.shape, device=tokens_BT.device) < share
        return tokens_BT.masked_fill(drawn_BT & (tokens_BT != PAD_ID) & (tokens_BT != SOS_ID), UNK_ID)


def _decoder_input(batch: Batch) -> Tensor:
    """The sequence `<sos> w1 .. wn`, padded [B, T]."""
    return F.pad(batch.tokens, (1, 0), value=SOS_ID)


def _target(batch: Batch) -> Tensor:
    """The sequence `w1 .. wn <eos>`, padded [B, T]."""
    return F.pad(batch.tokens, (0, 1), value=PAD_ID).scatter(1, batch.lengths[:, None], EOS_ID)


def _reversed_input(batch: Batch) -> Tensor:
    """The sequence `wn .. w1 <sos>`, padded [B, T]. So the encoder reads last what the decoder generates first."""
    forward_BT = _decoder_input(batch)
    position_BT = batch.lengths[:, None] - torch.arange(forward_BT.shape[1], device=forward_BT.device)
    return torch.where(position_BT >= 0, forward_BT.gather(1, position_BT.clamp(min=0)), PAD_ID)
