"""The sentence autoencoder q(z|x), p(x|z) that every objective trains.

Shapes: B sentences, T tokens (with `<sos>` or `<eos>`), E embedding, H hidden, D latent, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.errors import UserError
from smim.model.distributions import DiagonalGaussian
from smim.model.gru import GRUDecoder, GRUEncoder
from smim.model.vocabulary_loss import token_log_prob
from smim.text.batches import Batch
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID


@dataclass(frozen=True)
class ModelArgs:
    """What decides the shape of a model. Defaults are the thesis's for PTB (section 7.2).

    `embedding_dropout` acts on the decoder's input only. `min_log_variance` clamps the posterior's
    log variance from below; sMIM drives nearly every dimension onto it, so it sets the code's noise.
    `max_length`: the longest sentence, in tokens, that is encoded or decoded.
    """

    name: str = "gru"
    latent_dim: int = 512
    hidden_dim: int = 512
    embedding_dim: int = 300
    embedding_dropout: float = 0.5
    min_log_variance: float = -10.0
    max_length: int = 1000

    def __post_init__(self) -> None:
        problems = [
            f"model.{name} is {getattr(self, name)}, it must be at least 1"
            for name in ("latent_dim", "hidden_dim", "embedding_dim", "max_length")
            if getattr(self, name) < 1
        ]
        if not 0 <= self.embedding_dropout < 1:
            problems.append(f"model.embedding_dropout is {self.embedding_dropout}, it must be in [0, 1)")
        if self.name != "gru":
            problems.append(f"model.name is {self.name!r}; valid: gru")
        if problems:
            raise UserError("; ".join(problems))


@dataclass(frozen=True)
class TokenLogProb:
    """log p(x|z) token by token, in nats; zero on padding.

    `tokens` fp32 [B, T]: the words, then `<eos>`. `lengths` int64 [B]: words without `<eos>`.
    """

    tokens: Tensor
    lengths: Tensor

    @property
    def with_eos(self) -> Tensor:
        """log p(x|z) of the words and `<eos>`, as trained, [B]."""
        return self.tokens.sum(1)

    @property
    def eos(self) -> Tensor:
        """log p of `<eos>` after the last word, [B]."""
        return self.tokens.gather(1, self.lengths[:, None])[:, 0]

    @property
    def words(self) -> Tensor:
        """log p(x|z) of the words, `<eos>` left out, as evaluated (section 7.3), [B]."""
        return self.with_eos - self.eos


class SentenceAutoencoder(nn.Module):
    """One embedding for encoder and decoder, an untied output layer, a diagonal Gaussian posterior."""

    def __init__(self, args: ModelArgs, *, vocabulary_size: int) -> None:
        super().__init__()
        self.args = args
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, args.embedding_dim)
        self.encoder = GRUEncoder(embedding_dim=args.embedding_dim, hidden_dim=args.hidden_dim)
        self.to_mean = nn.Linear(self.encoder.output_dim, args.latent_dim)
        self.to_log_variance = nn.Linear(self.encoder.output_dim, args.latent_dim)
        self.decoder = GRUDecoder(
            embedding_dim=args.embedding_dim, hidden_dim=args.hidden_dim, latent_dim=args.latent_dim
        )
        self.to_vocabulary = nn.Linear(self.decoder.output_dim, vocabulary_size)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """q(z|x) for each sentence, fields fp32 [B, D]. Eq. 6.3."""
        state_BH = self.encoder(self.embedding(_reversed_input(batch)), batch.lengths + 1)
        log_variance = self.to_log_variance(state_BH).float().clamp(min=self.args.min_log_variance)
        return DiagonalGaussian(mean=self.to_mean(state_BH).float(), log_variance=log_variance)

    def log_prob(self, batch: Batch, z_BD: Tensor) -> TokenLogProb:
        """log p(x|z) under teacher forcing, for z [B, D]. Eq. 6.1."""
        embedded_BTE = F.dropout(self.embedding(_decoder_input(batch)), self.args.embedding_dropout, self.training)
        states_BTH = self.decoder(embedded_BTE, z_BD)
        target_BT = _target(batch)
        real_BT = target_BT != PAD_ID
        flat_N = token_log_prob(states_BTH[real_BT], target_BT[real_BT], self.to_vocabulary)
        tokens_BT = flat_N.new_zeros(target_BT.shape).masked_scatter(real_BT, flat_N)
        return TokenLogProb(tokens=tokens_BT, lengths=batch.lengths)

    def start(self, z_BD: Tensor) -> tuple[Tensor, ...]:
        """What decoding z [B, D] begins with: tensors with a row a sentence, for `next_token`."""
        return self.decoder.start(z_BD)

    def next_token(self, token_B: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One decoding step: logits of the next token, fp32 [B, V], and the decoder's new state."""
        output_BH, state = self.decoder.step(self.embedding(token_B), state)
        return self.to_vocabulary(output_BH).float(), state


def _decoder_input(batch: Batch) -> Tensor:
    """`<sos> w1 .. wn`, padded [B, T]."""
    return F.pad(batch.tokens, (1, 0), value=SOS_ID)


def _target(batch: Batch) -> Tensor:
    """`w1 .. wn <eos>`, padded [B, T]."""
    return F.pad(batch.tokens, (0, 1), value=PAD_ID).scatter(1, batch.lengths[:, None], EOS_ID)


def _reversed_input(batch: Batch) -> Tensor:
    """`wn .. w1 <sos>`, padded [B, T]: the encoder ends on the words that the decoder begins with."""
    forward_BT = _decoder_input(batch)
    position_BT = batch.lengths[:, None] - torch.arange(forward_BT.shape[1], device=forward_BT.device)
    return torch.where(position_BT >= 0, forward_BT.gather(1, position_BT.clamp(min=0)), PAD_ID)
