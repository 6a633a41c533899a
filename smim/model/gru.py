"""The thesis's one-layer GRU encoder and decoder (section 7.2, Figures 6.1 and 6.2).

Shapes: B sentences, T tokens, E embedding, H hidden, D latent.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GRUEncoder(nn.Module):
    """Reads the reversed sentence, `<sos>` last, and returns the last state."""

    def __init__(self, *, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.output_dim = hidden_dim
        self.gru = nn.GRU(embedding_dim, hidden_dim, batch_first=True)

    def forward(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """The state [B, H] after each sentence's last token; padding on the right is never read."""
        states_BTH, _ = self.gru(embedded_BTE)
        return states_BTH[torch.arange(len(lengths_B), device=lengths_B.device), lengths_B - 1]


class GRUDecoder(nn.Module):
    """Autoregressive decoder; z makes the first state and joins the input at every step."""

    def __init__(self, *, embedding_dim: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.output_dim = hidden_dim
        self.latent_to_state = nn.Linear(latent_dim, hidden_dim)
        self.gru = nn.GRU(embedding_dim + latent_dim, hidden_dim, batch_first=True)

    def forward(self, embedded_BTE: Tensor, z_BD: Tensor) -> Tensor:
        """Teacher forcing: the states [B, T, H] that predict each next token."""
        states_BTH, _ = self.gru(self._input(embedded_BTE, z_BD), self.initial_state(z_BD)[None])
        return states_BTH

    def initial_state(self, z_BD: Tensor) -> Tensor:
        """The state [B, H] before the first token."""
        return self.latent_to_state(z_BD)

    def start(self, z_BD: Tensor) -> tuple[Tensor, Tensor]:
        """What `step` goes on from: the first state [B, H], and z's part of every step's gates [B, 3H]."""
        weight_ih, _, bias_ih, _ = self.gru.all_weights[0]
        return self.initial_state(z_BD), F.linear(z_BD, weight_ih[:, -z_BD.shape[1] :], bias_ih)

    def step(self, embedded_BE: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One token: the output [B, H] that predicts the next one, and the state after it.

        The same arithmetic as `nn.GRU`'s, but z is not multiplied anew at each step.
        """
        hidden_BH, latent_gates = state
        weight_ih, weight_hh, _, bias_hh = self.gru.all_weights[0]
        embedded_gates = F.linear(embedded_BE, weight_ih[:, : embedded_BE.shape[1]])
        input_r, input_u, input_n = (embedded_gates + latent_gates).chunk(3, -1)
        hidden_r, hidden_u, hidden_n = F.linear(hidden_BH, weight_hh, bias_hh).chunk(3, -1)
        reset, update = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_u + hidden_u)
        candidate = torch.tanh(input_n + reset * hidden_n)
        hidden_BH = candidate + update * (hidden_BH - candidate)
        return hidden_BH, (hidden_BH, latent_gates)

    @staticmethod
    def _input(embedded_BTE: Tensor, z_BD: Tensor) -> Tensor:
        z_BTD = z_BD[:, None].expand(-1, embedded_BTE.shape[1], -1)
        return torch.cat([embedded_BTE, z_BTD.to(embedded_BTE.dtype)], dim=-1)
