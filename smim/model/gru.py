"""The thesis's one-layer GRU encoder and decoder (section 7.2, Figures 6.1 and 6.2).

Shapes: B sentences, T tokens, E embedding, H hidden, D latent, V vocabulary.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from smim.model import gru_recurrence
from smim.model.args import PartArgs
from smim.model.gru_recurrence import GRUWeights
from smim.model.parts import Decoder, DecoderArgs, Encoder, matrix_weights
from smim.schema import bounded

_FLAGS = threading.Lock()


@dataclass(frozen=True)
class GRUEncoderArgs(PartArgs):
    """The settings of a GRU encoder, whose state has `hidden_dim` numbers."""

    name: str = "gru"
    hidden_dim: int = bounded(512, least=1)

    def make(self, model: Any, encoder: Any = None) -> Encoder:
        return GRUEncoder(embedding_dim=model.embedding_dim, hidden_dim=self.hidden_dim)


@dataclass(frozen=True)
class GRUDecoderArgs(GRUEncoderArgs, DecoderArgs):
    """The settings of a GRU decoder, whose state has `hidden_dim` numbers."""

    def make(self, model: Any, encoder: Any = None) -> Decoder:  # type: ignore[override]
        return GRUDecoder(
            embedding_dim=model.embedding_dim,
            hidden_dim=self.hidden_dim,
            latent_dim=model.latent_dim,
            embedding_dropout=self.embedding_dropout,
        )


class GRU(nn.GRU):
    """One layer of `nn.GRU`. The last `constant_dim` inputs are the same at every step.

    On a GPU it uses cuDNN, on the CPU our own recurrence (`gru_recurrence`). The results are the same, except that in
    training cuDNN uses fp32 with products in TF32. Autocast is off for cuDNN, because it would always choose fp16, in
    which small gradients vanish.
    """

    def __init__(self, input_dim: int, hidden_dim: int, *, constant_dim: int = 0) -> None:
        super().__init__(input_dim + constant_dim, hidden_dim, batch_first=True)

    @property
    def weights(self) -> GRUWeights:
        weight_ih, weight_hh, bias_ih, bias_hh = self.all_weights[0]
        return GRUWeights(weight_ih, weight_hh, bias_ih, bias_hh)

    def forward(  # type: ignore[override]
        self,
        input_BTE: Tensor,
        *,
        lengths_B: Tensor | None = None,
        initial_BH: Tensor | None = None,
        constant_BD: Tensor | None = None,
    ) -> Tensor:
        """Compute the states [B, T, H] after each step, starting from `initial` or from zero.

        The states from `lengths` on are arbitrary; by default there are none.
        """
        if input_BTE.device.type == "cpu":
            # Without a gradient nothing is packed, so that no code depends on the other sentences' lengths by rounding.
            return self._packed(input_BTE, lengths_B if torch.is_grad_enabled() else None, initial_BH, constant_BD)
        if constant_BD is not None:
            constant_BTD = constant_BD[:, None].expand(-1, input_BTE.shape[1], -1)
            input_BTE = torch.cat([input_BTE, constant_BTD.to(input_BTE.dtype)], dim=-1)
        if initial_BH is None:
            initial_BH = input_BTE.new_zeros(len(input_BTE), self.hidden_size)
        return self._cudnn(input_BTE, initial_BH)

    def _packed(
        self, input_BTE: Tensor, lengths_B: Tensor | None, initial_BH: Tensor | None, constant_BD: Tensor | None
    ) -> Tensor:
        num_sentences, num_steps = input_BTE.shape[:2]
        if lengths_B is None:
            lengths_B = torch.full((num_sentences,), num_steps)
        packed = pack_padded_sequence(input_BTE, lengths_B, batch_first=True, enforce_sorted=False)
        initial_BH, constant_BD = (
            each if each is None else each[packed.sorted_indices] for each in (initial_BH, constant_BD)
        )
        states = packed._replace(data=gru_recurrence.states(packed, initial_BH, constant_BD, self.weights))
        return pad_packed_sequence(states, batch_first=True, total_length=num_steps)[0]

    def _cudnn(self, input_BTE: Tensor, initial_BH: Tensor) -> Tensor:
        """Compute the states as `nn.GRU` does, but allow a gradient in evaluation mode too."""
        weights: list[Tensor] = [*self.all_weights[0]]
        with_gradient = torch.is_grad_enabled()
        dtype = weights[0].dtype
        with (
            torch.autocast(input_BTE.device.type, enabled=False),
            nullcontext() if with_gradient else _without_tf32(),
        ):
            states_BTH, _ = torch.gru(
                input_BTE.to(dtype),
                initial_BH[None].to(dtype),
                weights,
                has_biases=True,
                num_layers=1,
                dropout=0.0,
                train=with_gradient,
                bidirectional=False,
                batch_first=True,
            )
        return states_BTH


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Turn off TF32, so that codes and likelihoods have full fp32 precision. By default cuDNN rounds to 10 bits."""
    cudnn = torch.backends.cudnn
    # The flags belong to the process, so threads that encode and decode would undo each other's changes.
    with (
        _FLAGS,
        cudnn.flags(
            enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
        ),
    ):
        yield


class GRUEncoder(Encoder):
    """A GRU that reads the reversed sentence, with `<sos>` last, and returns the last state."""

    graphable = True
    has_table = True

    def __init__(self, *, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.output_dim = hidden_dim
        self.gru = GRU(embedding_dim, hidden_dim)

    def forward(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute the state [B, H] after each sentence's last token. Padding on the right is not used."""
        states_BTH = self.gru(embedded_BTE, lengths_B=lengths_B)
        return states_BTH[torch.arange(len(lengths_B), device=lengths_B.device), lengths_B - 1]

    def word_table(self, embedding_UE: Tensor, longest: int) -> list[Tensor]:
        """Compute each word's part of the gates [U, 3H], which saves `read` the product with the embedding."""
        return [gru_recurrence.word_gates(embedding_UE, self.gru.weights)]

    def read(self, words_BT: Tensor, lengths_B: Tensor, columns: Sequence[Tensor]) -> Tensor:
        return gru_recurrence.last_state(words_BT.t().contiguous(), lengths_B, columns[0], self.gru.weights)


class GRUDecoder(Decoder):
    """An autoregressive decoder. A linear map of z is the initial state, and z is part of the input of each step."""

    graphable = True

    def __init__(self, *, embedding_dim: int, hidden_dim: int, latent_dim: int, embedding_dropout: float = 0.0) -> None:
        super().__init__()
        self.output_dim = hidden_dim
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.latent_to_state = nn.Linear(latent_dim, hidden_dim)
        self.gru = GRU(embedding_dim, hidden_dim, constant_dim=latent_dim)

    def forward(self, embedded_BTE: Tensor, z_BD: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        states_BTH: Tensor = self.gru(
            self.embedding_dropout(embedded_BTE),
            lengths_B=lengths_B,
            initial_BH=self.latent_to_state(z_BD),
            constant_BD=z_BD,
        )
        return states_BTH

    def products(self, num_tokens: float) -> float:
        once = matrix_weights(self.latent_to_state) * 4  # initial state, and z's part of the three gates of all steps
        return num_tokens * (matrix_weights(self) - once) + once

    def start(self, z_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the initial state of `step`: the GRU's state [B, H], and z's part of all gates [B, 3H]."""
        weights = self.gru.weights
        return self.latent_to_state(z_BD), F.linear(z_BD, weights.input[:, -z_BD.shape[1] :], weights.input_bias)

    def step(self, embedded_BE: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        # The same arithmetic as in `nn.GRU`, but the product with z is not repeated at each step.
        hidden_BH, latent_gates = state
        weights = self.gru.weights
        embedded_gates = F.linear(embedded_BE, weights.input[:, : embedded_BE.shape[1]])
        input_r, input_u, input_n = (embedded_gates + latent_gates).chunk(3, -1)
        hidden_r, hidden_u, hidden_n = F.linear(hidden_BH, weights.hidden, weights.hidden_bias).chunk(3, -1)
        reset, update = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_u + hidden_u)
        candidate = torch.tanh(input_n + reset * hidden_n)
        hidden_BH = candidate + update * (hidden_BH - candidate)
        return hidden_BH, (hidden_BH, latent_gates)
