"""Train sMIM in the plain way of the authors' published trainer, as the baseline of train.py.

Sentences are in random order and padded to the longest of the batch. The `nn.GRU`s are packed, with z joined to each
step's input. log_softmax covers all [B, T, V] logits.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from smim.model.autoencoder import SentenceArgs
from smim.model.distributions import DiagonalGaussian, standard_normal_log_prob
from smim.model.gru import GRUDecoderArgs, GRUEncoderArgs
from smim.text.corpus import Split
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID


class PlainNetwork(nn.Module):
    """The same model from torch's own layers, with the same names."""

    def __init__(self, args: SentenceArgs, vocabulary_size: int) -> None:
        super().__init__()
        encoder, decoder = args.encoder, args.decoder
        assert isinstance(encoder, GRUEncoderArgs) and isinstance(decoder, GRUDecoderArgs)
        self.args = args
        self.embedding_dropout = decoder.embedding_dropout
        self.embedding = nn.Embedding(vocabulary_size, args.embedding_dim)
        self.encoder = nn.ModuleDict({"gru": nn.GRU(args.embedding_dim, encoder.hidden_dim, batch_first=True)})
        self.to_mean = nn.Linear(encoder.hidden_dim, args.latent_dim)
        self.to_log_variance = nn.Linear(encoder.hidden_dim, args.latent_dim)
        self.decoder = nn.ModuleDict(
            {
                "latent_to_state": nn.Linear(args.latent_dim, encoder.hidden_dim),
                "gru": nn.GRU(args.embedding_dim + args.latent_dim, encoder.hidden_dim, batch_first=True),
            }
        )
        self.to_vocabulary = nn.Linear(encoder.hidden_dim, vocabulary_size)

    def posterior(self, tokens_BT: Tensor, lengths_B: Tensor) -> DiagonalGaussian:
        reversed_BT = torch.full((len(tokens_BT), tokens_BT.shape[1] + 1), PAD_ID, device=tokens_BT.device)
        for i, length in enumerate(lengths_B.tolist()):
            reversed_BT[i, :length] = tokens_BT[i, :length].flip(0)
            reversed_BT[i, length] = SOS_ID
        packed = pack_padded_sequence(
            self.embedding(reversed_BT), lengths_B + 1, batch_first=True, enforce_sorted=False
        )
        state_BH = self.encoder["gru"](packed)[1][0]
        log_variance_BD = self.to_log_variance(state_BH).clamp(min=self.args.min_log_variance)
        return DiagonalGaussian(mean=self.to_mean(state_BH), log_variance=log_variance_BD)

    def loss(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute A-MIM's loss in nats per sentence."""
        posterior = self.posterior(tokens_BT, lengths_B)
        z_BD = posterior.sample()
        input_BT = F.pad(tokens_BT, (1, 0), value=SOS_ID)
        target_BT = F.pad(tokens_BT, (0, 1), value=PAD_ID)
        target_BT[torch.arange(len(target_BT)), lengths_B] = EOS_ID
        embedded_BTE = F.dropout(self.embedding(input_BT), self.embedding_dropout)
        z_BTD = z_BD[:, None].expand(-1, input_BT.shape[1], -1)
        packed = pack_padded_sequence(
            torch.cat([embedded_BTE, z_BTD], -1), lengths_B + 1, batch_first=True, enforce_sorted=False
        )
        states, _ = self.decoder["gru"](packed, self.decoder["latent_to_state"](z_BD)[None])
        states_BTH, _ = pad_packed_sequence(states, batch_first=True)
        log_probs_BTV = torch.log_softmax(self.to_vocabulary(states_BTH), -1)
        reconstruction = F.nll_loss(
            log_probs_BTV.flatten(0, 1), target_BT.flatten(), ignore_index=PAD_ID, reduction="sum"
        )
        marginals = posterior.log_prob(z_BD) + standard_normal_log_prob(z_BD)
        return (reconstruction - 0.5 * marginals.sum()) / len(tokens_BT)


def plain_batch(split: Split, rows: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    """Make token ids on the device, and lengths on the CPU, where packing needs them."""
    batch = split.batch(rows)
    return batch.tokens.to(device), batch.lengths
